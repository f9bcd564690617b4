"""A TCP relay that can go silent: no byte passes, no connection ends, neither side is informed (a half-open link)."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import trio

CHUNK_BYTES = 64 * 1024

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay:
    """Passes TCP connections on to one host and port. `port` is where it listens, on the loopback address."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self._to = host, port
        self._open = trio.Event()
        self._open.set()
        self._accepted: set[trio.SocketStream] = set()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled; started once it listens."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._relay, [listener])

    def stall(self) -> None:
        """Let nothing pass from now on. New connections are still accepted, by the kernel at least, and get nothing."""
        self._open = trio.Event()

    def reset(self) -> None:
        """Break every connection with a reset, and let new ones pass again."""
        for stream in self._accepted:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            stream.socket.close()
        self._accepted.clear()
        self._open.set()

    async def _relay(self, near: trio.SocketStream) -> None:
        self._accepted.add(near)
        try:
            await self._open.wait()
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                async with near, await trio.open_tcp_stream(*self._to) as far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, near, far, nursery.cancel_scope)
                    nursery.start_soon(self._pass_on, far, near, nursery.cancel_scope)
        finally:
            self._accepted.discard(near)
            with trio.CancelScope() as at_once:
                at_once.cancel()
                await near.aclose()

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        """Pass bytes on; when either side ends, both do."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK_BYTES):
                await self._open.wait()
                await sink.send_all(data)
        await self._open.wait()
        both.cancel()
