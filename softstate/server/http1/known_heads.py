"""Heads that were read lately, by their bytes: a client sends the same again, and other clients the like."""

from __future__ import annotations

import re
from typing import final

from softstate.server.http1.head import RequestHead, read_head

HEADS_KEPT = 256
"""Heads that a node remembers..."""

HEAD_BYTES_KEPT = 1_024
"""... of so many bytes each, at most: 0.6 MiB with what they mean."""

NOT_KEPT = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
"""Headers whose heads are not remembered."""

_KEY = re.compile(rb"\r\nSec-WebSocket-Key: ([A-Za-z0-9+/]{22}==)(?=\r\n)", re.IGNORECASE)
"""The key of a handshake, as it is usually written."""


@final
class KnownHeads:
    """Reads heads, and remembers some.

    Of a poll that is answered from memory, reading and judging its head is a third of the CPU, and of a handshake a
    tenth (cProfile). Handshakes have a key each: it is taken out, and what is left is remembered. Heads with
    credentials are not. Those remembered are forgotten together, once there are `HEADS_KEPT`.
    """

    __slots__ = ("_headers_max", "_heads")

    def __init__(self, headers_max: int) -> None:
        self._headers_max = headers_max
        self._heads: dict[bytes, RequestHead] = {}

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._heads)

    def read(self, raw: bytes) -> tuple[RequestHead, bytes]:
        """Read a head as `read_head` does; return it without ``Sec-WebSocket-Key``, and that, empty if there is none.

        It may be shared with other requests: nothing but its `plan` may be set.
        """
        head = self._heads.get(raw)
        if head is not None:
            return head, b""
        found = _KEY.search(raw)
        key = b""
        rest = raw
        if found is not None:
            # A line of a valid head stands between two others: without it, the head is valid still, and the same.
            key, rest = found[1], raw[: found.start()] + raw[found.end() :]
            head = self._heads.get(rest)
            if head is not None:
                return head, key
        head = read_head(raw, self._headers_max)
        value = head.headers.pop(b"sec-websocket-key", b"")
        if value == key and len(raw) <= HEAD_BYTES_KEPT and NOT_KEPT.isdisjoint(head.headers):
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[rest] = head
        return head, value
