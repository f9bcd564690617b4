"""A whole node in memory, for tests of applications that use softstate: no socket, no thread, no waiting.

Under Trio's ``MockClock(autojump_threshold=0)`` (pytest-trio's ``autojump_clock``) hours of leases, polls and backoff
pass in milliseconds, and a test can kill the node in the middle of anything::

    async def test_prices_survive_a_crash(autojump_clock):
        async with memory_node() as node, node.connect() as client:
            async with client.subscribe("prices/") as updates:
                await client.publish("prices/eur", 1.5)
                assert (await anext(updates)).value == 1.5
                await node.kill()
                await trio.sleep(600)
                assert updates.age > 600
                await node.start()
                await client.publish("prices/eur", 1.6)
                assert (await anext(updates)).value == 1.6

The node and the client are the real ones; only the network between them and the disk are not. For faults of the
network, several nodes and clocks that go wrong, see `softstate.testing.World`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, final

import trio

from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.shell.clock import TrioClock
from softstate.errors import ConfigError
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.store import MemoryDisk, MemoryStore
from softstate.testing.network.network import SimNetwork

HOST = "node"
PORT = 8700

MEANINGLESS = ("store", "require_store", "require_durable", "no_backup")
"""Options of a node that choose its store, or say what it must be."""


@final
class MemoryNode:
    """A node that runs in memory; `memory_node` makes these. `disk` survives when the node is killed."""

    url = f"ws://{HOST}:{PORT}"

    def __init__(self, nursery: trio.Nursery, config: ServerConfig, seed: int) -> None:
        self.disk = MemoryDisk(Random(f"{seed} disk"))
        self._nursery = nursery
        self._config = config
        self._random = Random(f"{seed} node")
        self._network = SimNetwork(Random(f"{seed} network"))
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        nursery.start_soon(self._network.run)

    def connect(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        """Connect a client to this node. Takes the options of `softstate.connect`, without the URL."""
        options.setdefault("open_stream", self._network.opener("application"))
        options.setdefault("random", Random(self._random.getrandbits(64)))
        options.setdefault("clock", TrioClock())
        return connect(self.url, **options)

    async def start(self) -> None:
        """Start the node from its disk alone, as after a crash; returns once it listens.

        Raises `RuntimeError` if it runs.
        """
        if not self._ended.is_set():
            raise RuntimeError("this node runs already: `await node.kill()` before it is started again")
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._run)

    async def kill(self) -> None:
        """End the node as ``kill -9`` does: all but the disk is lost, and connections break without a goodbye."""
        self._scope.cancel()
        self._network.end_process(HOST, silently=False)
        await self._ended.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._scope:
                config = self._config
                store = MemoryStore(self.disk, keys_max=config.keys_max, publishers_max=config.publishers_max)
                store.warnings = ()  # a test wants nothing that lasts
                bulkhead = Bulkhead(strict=True)
                position = await store.head()
                node = Node(config, store, position, tokens=self._token, jitter=self._random, bulkhead=bulkhead)
                await node.run([self._network.listen(HOST, PORT)], started=task_status.started)
        finally:
            self._ended.set()

    def _token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"


@asynccontextmanager
async def memory_node(*, seed: int = 0, **options: Any) -> AsyncIterator[MemoryNode]:
    """Run a node in memory for the length of a block.

    `options` are fields of `softstate.server.ServerConfig`, such as ``ttl_ms=5_000``; `seed` decides all jitter, names
    and nonces. Raises `ConfigError` for an option that is out of its bounds, or is about the store, which is always in
    memory. An error of the block comes out as it is, unless another comes with it: then both do, in a group. Cancelling
    the block ends everything at once.
    """
    for name in MEANINGLESS:
        if name in options:
            raise ConfigError(f"memory_node takes no {name}: its store is always in memory. Leave it out")
    config = ServerConfig(**{**options, "allow_host": (HOST, *options.get("allow_host", ()))}).check()
    try:
        async with trio.open_nursery() as nursery:
            node = MemoryNode(nursery, config, seed)
            await node.start()
            yield node
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        (error,) = group.exceptions
    else:
        return
    # Outside of the handler, where it keeps its own cause and context.
    raise error
