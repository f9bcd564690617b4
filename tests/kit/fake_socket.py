"""A socket that takes exactly what a test lets it take, and the way back from its bytes to frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from softstate.server.fanout.outbox import Outbox, OutboxBounds
from softstate.wire import frame


class FakeSocket:
    """A socket as an outbox sees it. It takes `free_bytes` more bytes, and tells the outbox when it takes more."""

    def __init__(self, free_bytes: float = math.inf) -> None:
        self.free_bytes = free_bytes
        self.taken = bytearray()
        self.writes: list[int] = []
        self.broken = False
        self.wanted = False
        self.writable: Callable[[], None] = lambda: None

    def try_send(self, data: bytes | memoryview) -> int:
        if self.broken:
            raise BrokenPipeError("broken")
        size = int(min(len(data), self.free_bytes))
        self.free_bytes -= size
        self.taken += data[:size]
        self.writes.append(size)
        return size

    def want_write(self, wanted: bool) -> None:
        self.wanted = wanted

    def allow(self, size: float = math.inf) -> None:
        """Let it take so many bytes more."""
        self.free_bytes += size
        self._tell()

    def snap(self) -> None:
        """Break the connection."""
        self.broken = True
        self._tell()

    def _tell(self) -> None:
        while self.wanted and (self.free_bytes or self.broken):
            self.writable()
            if self.broken:
                break


def frames_in(stream: bytes | bytearray) -> list[str]:
    """Return the payloads of a stream that must be a concatenation of whole frames."""
    found: list[str] = []
    while stream:
        size, head = stream[1], 2
        if size == 126:
            size, head = int.from_bytes(stream[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(stream[2:10], "big"), 10
        assert stream[0] in (0x81, 0x82, 0x88), f"no frame begins with {stream[0]:#x}"
        assert len(stream) >= head + size, f"torn after {found}"
        found.append(stream[head : head + size].decode().rstrip("."))
        stream = stream[head + size :]
    return found


def text(payload: str, size: int = 0) -> bytes:
    """Return a frame with this payload, padded to `size`."""
    return frame(payload.ljust(size, ".").encode(), text=True)


CLOSE = b"\x88\x00"


def outbox_on(
    sock: FakeSocket,
    *,
    pending_max: int = 1_000,
    pending_bytes_max: int = 1_000_000,
    congested_s_max: float = 1e9,
    now: Callable[[], float] = lambda: 0.0,
    overdue: Callable[[], None] | None = None,
) -> Outbox:
    """Make an outbox that is never overdue, unless the test wants it."""

    def unexpected() -> None:
        raise AssertionError("overdue")

    bounds = OutboxBounds(pending_max, pending_bytes_max, congested_s_max, now)
    box = Outbox(sock.try_send, sock.want_write, overdue or unexpected, bounds)
    sock.writable = box.writable
    return box


def outbox(free_bytes: float = math.inf, **options: Any) -> tuple[Outbox, FakeSocket]:
    """Make an outbox on a socket that takes `free_bytes` bytes."""
    sock = FakeSocket(free_bytes)
    return outbox_on(sock, **options), sock
