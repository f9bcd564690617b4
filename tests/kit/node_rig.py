"""Real nodes in this process, on sockets and a memory disk that they can share, killed and started again by a test.

`node` runs one for the length of a block; `LocalNode` starts and kills it. `mode_is` and `until` wait.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from softstate.client.api.client import Client
from softstate.server import Node, ServerConfig
from softstate.store import MemoryDisk, MemoryStore

CONFIG = ServerConfig(ttl_ms=2_000, timeout_ms=1_000, poll_every_ms=50, recover_base_ms=20, recover_cap_ms=200)

WAIT_S = 10.0
"""Limit of a block in seconds, after which the test fails."""


class LocalNode:
    """A port and a disk, which may be shared, and the node that runs there."""

    def __init__(self, nursery: trio.Nursery, disk: MemoryDisk, config: ServerConfig, **parts: Any) -> None:
        self.disk = disk
        self.config = config
        self.parts = parts
        self.port = 0
        self.node: Node
        self.store: MemoryStore
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start a node; after a `kill`, on the same port with nothing but the disk."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        self.store = MemoryStore(self.disk)
        self.node = Node(self.config, self.store, await self.store.head(), **self.parts)
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        await self._nursery.start(self._run, listeners)

    async def _run(
        self, listeners: list[trio.SocketListener], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with self._scope:
            await self.node.run(listeners, started=task_status.started)
        for listener in listeners:
            with trio.CancelScope(shield=True):
                await listener.aclose()
        self._ended.set()

    async def kill(self) -> None:
        """End the node without a bye to its clients."""
        self._scope.cancel()
        await self._ended.wait()


@asynccontextmanager
async def node(
    disk: MemoryDisk | None = None, *, parts: dict[str, Any] | None = None, wait_s: float = WAIT_S, **options: Any
) -> AsyncIterator[LocalNode]:
    """Run a node for the length of a block; `parts` are given to `Node`, `options` to its configuration."""
    async with trio.open_nursery() as nursery:
        running = LocalNode(nursery, disk or MemoryDisk(), replace(CONFIG, **options), **(parts or {}))
        await running.start()
        with trio.fail_after(wait_s):
            yield running
        nursery.cancel_scope.cancel()


async def mode_is(client: Client, *modes: str) -> None:
    """Wait until the client is in one of these modes."""
    async for mode in client.modes():
        if mode in modes:
            return
    raise AssertionError(f"closed before it was {modes}")


async def until(check: Callable[[], bool]) -> None:
    """Wait for a condition that nothing announces; other tasks run in between."""
    while not check():
        await trio.sleep(0.001)
