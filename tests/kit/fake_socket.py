"""A raw socket that takes exactly what a test lets it take, and the way back from its bytes to frames."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from softstate.server.fanout.outbox import Outbox, RawSocket
from softstate.wire import frame


class FakeSocket:
    """Implements `softstate.server.fanout.outbox.RawSocket`. It takes `room` more bytes."""

    def __init__(self, room: float = math.inf) -> None:
        self.room = room
        self.taken = bytearray()
        self.writes: list[int] = []
        self.broken = False
        self.closed = False
        self.waiting = trio.lowlevel.ParkingLot()
        self.incoming = [b"hello", b" world"]

    def try_send(self, data: bytes | memoryview) -> int:
        if self.broken:
            raise trio.BrokenResourceError("broken")
        size = int(min(len(data), self.room))
        self.room -= size
        self.taken += data[:size]
        self.writes.append(size)
        return size

    async def wait_writable(self) -> None:
        if self.room or self.broken:
            await trio.lowlevel.checkpoint()
        else:
            await self.waiting.park()

    def allow(self, size: float = math.inf) -> None:
        """Let it take so many bytes more."""
        self.room += size
        self.waiting.unpark_all()

    def snap(self) -> None:
        """Break the connection."""
        self.broken = True
        self.waiting.unpark_all()

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.incoming.pop(0)[:max_bytes]

    async def aclose(self) -> None:
        self.closed = True
        self.snap()
        await trio.lowlevel.checkpoint()


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
    sock: RawSocket,
    nursery: trio.Nursery,
    *,
    before: bytes = b"",
    pending_max: int = 1_000,
    pending_bytes_max: int = 1_000_000,
    congested_s_max: float = 1e9,
    overdue: Callable[[], None] | None = None,
) -> Outbox:
    """Make an outbox that is never overdue, unless the test wants it."""

    def unexpected() -> None:
        raise AssertionError("overdue")

    return Outbox(
        sock,
        nursery,
        before=before,
        pending_max=pending_max,
        pending_bytes_max=pending_bytes_max,
        congested_s_max=congested_s_max,
        overdue=overdue or unexpected,
    )


@asynccontextmanager
async def outbox(room: float = math.inf, **options: Any) -> AsyncIterator[tuple[Outbox, FakeSocket]]:
    sock = FakeSocket(room)
    async with trio.open_nursery() as nursery:
        yield outbox_on(sock, nursery, **options), sock
        nursery.cancel_scope.cancel()
