"""A tap on plain HTTP: it reads what requests present, and what their answers carry, from one direction's bytes.

It has a parser of its own, independent of the product's, for what clients and nodes of ours write: every body has a
`Content-Length`, and requests on one connection are answered one after the other.
"""

from __future__ import annotations

import json
from typing import Any, final

import cbor2

from softstate.testing.network.frame_tap import HEAD_END, WEBSOCKET_TARGET


@final
class HttpTap:
    """Cuts one direction's bytes into messages: of clients those of requests, of nodes those of their answers.

    A request has ``target`` and, if it presents one, ``token``; an answer has ``status`` and the fields of its body,
    if that is a map in CBOR or JSON. A connection that becomes a WebSocket is not read on.
    """

    def __init__(self, *, from_client: bool) -> None:
        self.from_client = from_client
        self._buffer = b""
        self._upgraded = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take bytes as they were written; return the messages that are complete."""
        self._buffer += data
        found: list[dict[str, Any]] = []
        while not self._upgraded and (end := self._buffer.find(HEAD_END)) >= 0:
            line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
            _, word, *_ = line.split(" ")
            self._upgraded = word == "101" or WEBSOCKET_TARGET.decode() in word
            body_at = end + len(HEAD_END)
            body_end = body_at + int(headers.get("content-length", "0"))
            if self._upgraded or len(self._buffer) < body_end:
                break
            body, self._buffer = self._buffer[body_at:body_end], self._buffer[body_end:]
            found.append(_request(word, headers) if self.from_client else _answer(word, headers, body))
        if self._upgraded:
            self._buffer = b""
        return found


def _request(target: str, headers: dict[str, str]) -> dict[str, Any]:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return {"target": target} | ({"token": token.strip()} if scheme.lower() == "bearer" else {})


def _answer(status: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    kind = headers.get("content-type", "")
    value = None
    if kind.startswith("application/cbor"):
        value = cbor2.loads(body)
    elif kind.startswith("application/json"):
        value = json.loads(body)
    return {"status": int(status)} | (value if isinstance(value, dict) else {})
