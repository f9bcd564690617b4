"""A stream that can be stopped in the middle of a write."""

from __future__ import annotations

import trio


class HeldStream(trio.abc.Stream):
    """The client's end: one write at a time, as with TCP; while it is `held`, a write stops after half of its bytes."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.held: trio.Event | None = None
        self.sending = False
        self.closed = trio.Event()

    def hold(self) -> None:
        self.held = trio.Event()

    def release(self) -> None:
        assert self.held is not None
        self.held.set()
        self.held = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed.is_set():
            raise trio.ClosedResourceError
        if self.sending:
            raise trio.BusyResourceError("another task is sending")
        self.sending = True
        try:
            await trio.lowlevel.checkpoint()
            half = len(data) // 2
            await self.inner.send_all(data[:half])
            if self.held is not None:
                await self.held.wait()
            if self.closed.is_set():
                raise trio.ClosedResourceError
            await self.inner.send_all(data[half:])
        finally:
            self.sending = False

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed.set()
        if self.held is not None:
            self.held.set()
        await self.inner.aclose()
