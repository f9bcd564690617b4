"""A cable between a store and its server, which a test can plug into another server, or cut on the way back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Cable:
    """Forwards every connection to the server on port `target`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mute = False
        """Whether what the server says is thrown away, though it does what it is told."""
        self.port = 0
        self._connections: list[trio.CancelScope] = []

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._forward, [listener])

    def plug(self, target: int) -> None:
        """Lead to another server from now on; what was connected is cut off."""
        self.target = target
        for scope in self._connections:
            scope.cancel()

    async def _forward(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._connections.append(scope)
            async with near:
                try:
                    far = await trio.open_tcp_stream("127.0.0.1", self.target)
                except OSError:
                    return
                async with far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass, near, far, scope, False)
                    nursery.start_soon(self._pass, far, near, scope, True)
        self._connections.remove(scope)

    async def _pass(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope, back: bool
    ) -> None:
        try:
            async for data in source:
                if not (back and self.mute):
                    await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()


@asynccontextmanager
async def cable_to(port: int) -> AsyncIterator[Cable]:
    """Lay a cable for the length of a block."""
    cable = Cable(port)
    async with trio.open_nursery() as nursery:
        await nursery.start(cable.run)
        yield cable
        nursery.cancel_scope.cancel()
