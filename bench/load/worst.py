"""The worst messages that a peer may send: each cost a node much for its size, or still costs the most that is allowed.

For `python -m bench turns`, and for the tests of the same limits. Every message fits into the default limits of size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cbor2
import msgspec

MESSAGE_BYTES = 256 * 1024
"""Default for the largest message."""

BODY_BYTES = 1024 * 1024
"""Default for the largest body."""

VALUE_ITEMS = 4_096
"""Default for the items of a value."""

NAMES_MAX = 10_000
"""Default for the names of a session."""


@dataclass(frozen=True)
class WorstMessage:
    """A message over WebSocket. `code` is that of the error that answers it, empty for another answer or none."""

    name: str
    cbor: bool
    data: bytes
    code: str = ""
    id: int | None = 7


@dataclass(frozen=True)
class WorstRequest:
    """A request over HTTP, with the status that answers it; `chunk` is the size of its body's chunks, 0 for none."""

    name: str
    method: str
    path: str
    body: bytes
    status: int
    cbor: bool = False
    chunk: int = 0

    def wire(self) -> bytes:
        """Return the request as it is sent."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        if self.cbor:
            lines.append("Content-Type: application/cbor")
        if not self.chunk:
            lines.append(f"Content-Length: {len(self.body)}")
            return "\r\n".join([*lines, "", ""]).encode() + self.body
        lines.append("Transfer-Encoding: chunked")
        parts = [self.body[at : at + self.chunk] for at in range(0, len(self.body), self.chunk)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return "\r\n".join([*lines, "", ""]).encode() + chunks + b"0\r\n\r\n"


def long_names(count: int, size: int) -> dict[str, int]:
    """Make topics of `size` bytes, with versions of which nothing is known."""
    return {f"{number:06d}/".ljust(size, "x"): 0 for number in range(count)}


def _publish(value: Any) -> dict[str, Any]:
    return {"op": "publish", "id": 7, "topic": "worst", "value": value}


def _trees() -> list[tuple[str, Any, str, int | None]]:
    deep: Any = 0
    for _ in range(30):
        deep = [deep]
    short = {f"{number:x}": 0 for number in range(NAMES_MAX)}
    return [
        ("list of zeros", _publish([0] * 120_000), "too_large", 7),
        ("legal list of zeros of old", _publish([0] * 60_000), "too_large", 7),
        ("empty lists", _publish([[]] * 80_000), "too_large", 7),
        ("items of a message, not of a value", _publish([[0]] * 8_000), "too_large", 7),
        ("most lists of one item", _publish([[0]] * (VALUE_ITEMS // 2)), "", 7),
        ("most maps of one entry", _publish([{"": 0}] * (VALUE_ITEMS // 2)), "", 7),
        ("most entries of a map", _publish({str(number): number for number in range(VALUE_ITEMS)}), "", 7),
        ("deepest lists", _publish([deep] * (VALUE_ITEMS // 31)), "", 7),
        ("too deep", _publish([[deep, [[[[deep]]]]]] * 20), "invalid", 7),
        ("integer of 65 bits", _publish([0] * 4_000 + [2**64]), "invalid", 7),
        ("values in an unknown field", {"op": "renew", "id": 7, "x": [0] * 120_000}, "too_large", 7),
        ("10,000 short names", {"op": "subscribe", "id": 7, "topics": short}, "", 7),
        ("the same, replaced", {"op": "subscribe", "id": 7, "prefixes": {"a/": 0}, "replace": True}, "", 7),
        ("one name too many", {"op": "subscribe", "id": 7, "topics": {**short, "x": 0}}, "too_large", 7),
        ("a bad name at the end", {"op": "subscribe", "id": 7, "topics": {**dict(list(short.items())[1:]), "/": 0}},
         "invalid", 7),
        ("long names", {"op": "subscribe", "id": 7, "topics": long_names(900, 255)}, "", 7),
        ("names never held", {"op": "unsubscribe", "topics": list(long_names(16_000, 9))}, "", None),
        ("a poll of 10,000 names", {"op": "poll", "id": 7, "topics": short}, "", 7),
        ("a second hello with a long field", {"op": "hello", "name": "x" * 200_000}, "invalid", None),
    ]  # fmt: skip


@cache
def worst_messages() -> list[WorstMessage]:
    """Return the worst messages over WebSocket, in both codecs, for a connection that has said hello."""
    found = []
    for name, tree, code, number in _trees():
        found.append(WorstMessage(name, True, cbor2.dumps(tree), code, number))
        found.append(WorstMessage(name, False, msgspec.json.encode(tree), code, number))
    head = cbor2.dumps({"op": "publish", "id": 7, "topic": "worst", "value": 0})[:-1]
    json_head = b'{"op":"publish","id":7,"topic":"worst","value":'
    wrapped = msgspec.json.encode([{"$bytes": "YQ=="}] * VALUE_ITEMS)
    found += [
        WorstMessage("bad UTF-8 behind a long text", True, head + b"\x7a\x00\x03\xe8\x01" + b"x" * 256_000 + b"\xff",
                     "invalid"),
        WorstMessage("indefinite lists", True, head + b"\x9f" * 200_000, "invalid"),
        WorstMessage("nested heads", True, head + b"\x81" * 200_000 + b"\x00", "too_large"),
        WorstMessage("a key twice", True,
                     head + b"\xa2" + (cbor2.dumps("k" * 100_000) + b"\x00") * 2, "invalid"),
        WorstMessage("brackets", False, json_head + b"[" * 200_000, "too_large"),
        WorstMessage("brackets in a text", False, json_head + b'"' + b"[,{" * 60_000 + b'"}', "too_large"),
        WorstMessage("a long number", False, json_head + b"1" * 200_000 + b"}", "invalid"),
        WorstMessage("wrapped bytes", False, json_head + wrapped + b"}", ""),
        WorstMessage("the same key again and again", False,
                     b'{"op":"subscribe","id":7,"topics":{' + b'"a":0,' * 16_000 + b'"a":0}}', ""),
    ]  # fmt: skip
    assert all(len(message.data) <= MESSAGE_BYTES for message in found)
    return found


@cache
def worst_requests() -> list[WorstRequest]:
    """Return the worst requests over HTTP."""
    zeros, names = [0] * 500_000, {f"{number:x}": 0 for number in range(NAMES_MAX)}
    most = [{"": 0}] * (VALUE_ITEMS // 2)
    changes = [
        {"topic": f"worst/{number}", "value": {str(item): item for item in range(11)}} for number in range(1_000)
    ]
    rich = [{"topic": f"worst/{number}", "value": most} for number in range(3)]
    found = []
    for cbor in (False, True):
        dumps = cbor2.dumps if cbor else msgspec.json.encode
        found += [
            WorstRequest("PUT of zeros", "PUT", "/v1/topics/worst", dumps(zeros), 413, cbor),
            WorstRequest("PUT of most items", "PUT", "/v1/topics/worst", dumps(most), 200, cbor),
            WorstRequest("PUT of too many items", "PUT", "/v1/topics/worst", dumps([*most, 0]), 413, cbor),
            WorstRequest("batch of 1,000", "POST", "/v1/publish", dumps({"changes": changes}), 200, cbor),
            WorstRequest("batch of rich values", "POST", "/v1/publish", dumps({"changes": rich}), 200, cbor),
            WorstRequest("batch of too many items", "POST", "/v1/publish", dumps({"changes": rich * 2}), 413, cbor),
            WorstRequest("batch of zeros", "POST", "/v1/publish", dumps({"changes": zeros}), 413, cbor),
            WorstRequest("batch of nothings", "POST", "/v1/publish", dumps({"changes": [{}] * 15_000}), 400, cbor),
            WorstRequest("poll of 10,000", "POST", "/v1/poll", dumps({"topics": names}), 200, cbor),
            WorstRequest(
                "poll of long names", "POST", "/v1/poll", dumps({"topics": long_names(3_000, 255)}), 413, cbor
            ),
            WorstRequest("poll of zeros", "POST", "/v1/poll", dumps({"x": [0] * 100_000}), 413, cbor),
        ]
    text = msgspec.json.encode("x" * 60_000)
    found.append(WorstRequest("a body in chunks of one byte", "PUT", "/v1/topics/worst", text, 200, chunk=1))
    return found
