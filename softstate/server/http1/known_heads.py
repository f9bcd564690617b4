"""Heads that were read lately, by their bytes: a client sends the same again, and other clients the like."""

from __future__ import annotations

import re
from typing import final

from softstate.server.http1.head import RequestHead, read_head

HEADS_KEPT = 256
"""Heads that a node remembers..."""

HEAD_BYTES_KEPT = 1_024
"""... of so many bytes each, at most: 0.6 MiB with what they mean. A token does not count."""

NOT_KEPT = frozenset({b"cookie", b"proxy-authorization"})
"""Headers whose heads are not remembered."""

_TOKEN = re.compile(rb"\r\n[Aa]uthorization: ([Bb]earer [A-Za-z0-9._~+/=-]+)(?=\r\n)")
"""Credentials, as they are usually written."""

_WITH_TOKEN = b"with a token"
"""Stands behind a head that had one. Nothing can stand behind a head, so this one is no other."""

_KEY = re.compile(rb"\r\nSec-WebSocket-Key: ([A-Za-z0-9+/]{22}==)(?=\r\n)", re.IGNORECASE)
"""The key of a handshake, as it is usually written."""


@final
class KnownHeads:
    """Reads heads, and remembers some.

    Of a poll that is answered from memory, reading and judging its head is a third of the CPU, and of a handshake a
    tenth (cProfile). Handshakes have a key each, and many clients a token: these are taken out, and what is left is
    remembered. Heads with other credentials are not. Those remembered are forgotten together, once there are
    `HEADS_KEPT`.
    """

    __slots__ = ("_headers_max", "_heads")

    def __init__(self, headers_max: int) -> None:
        self._headers_max = headers_max
        self._heads: dict[bytes, RequestHead] = {}

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._heads)

    def read(self, raw: bytes) -> tuple[RequestHead, bytes, bytes | None]:
        """Read a head as `read_head` does; return it without ``Sec-WebSocket-Key`` and ``Authorization``, and these.

        The key is empty if there is none, the credentials None: empty ones are no good ones. The head may be shared
        with other requests: nothing but its `plan` may be set.
        """
        head = self._heads.get(raw)
        if head is not None:
            return head, b"", None
        # A line of a valid head stands between two others: without it, the head is valid still, and the same.
        rest, token, key = raw, None, b""
        found = _TOKEN.search(raw)
        if found is not None:
            token, rest = found[1], raw[: found.start()] + raw[found.end() :] + _WITH_TOKEN
            head = self._heads.get(rest)
            if head is not None:
                return head, b"", token
        found = _KEY.search(rest)
        if found is not None:
            key, rest = found[1], rest[: found.start()] + rest[found.end() :]
            head = self._heads.get(rest)
            if head is not None:
                return head, key, token
        head = read_head(raw, self._headers_max)
        told_key = head.headers.pop(b"sec-websocket-key", b"")
        told_token = head.headers.pop(b"authorization", None)
        usual = (told_key, told_token) == (key, token)
        if usual and len(rest) + len(key) <= HEAD_BYTES_KEPT and NOT_KEPT.isdisjoint(head.headers):
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[rest] = head
        return head, told_key, told_token
