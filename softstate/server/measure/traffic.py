"""Bytes of HTTP and WebSocket that a node has received and sent, TLS left out."""

from __future__ import annotations

from typing import final


@final
class Traffic:
    """Two counts, added to at each read and write."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
