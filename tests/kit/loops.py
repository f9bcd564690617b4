"""Tests on either loop: a node in a thread of its own, and a client under Trio or asyncio in this one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import anyio
import trio

from softstate.server import ServerConfig
from softstate.store import MemoryDisk
from tests.kit.node_rig import CONFIG, WAIT_S, LocalNode

Loop = Literal["trio", "asyncio"]


def run(loop: Loop, main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run `main` under a loop, for `WAIT_S` at most."""

    async def bounded() -> Any:
        with anyio.fail_after(WAIT_S):
            return await main(*args)

    return trio.run(bounded) if loop == "trio" else asyncio.run(bounded())


class NodeThread:
    """A node on a port of this host, in a thread of its own. Its methods may be called from any thread, and block."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._ready = threading.Event()
        self._over: trio.Event
        self._token: trio.lowlevel.TrioToken
        self._node: LocalNode
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return self._node.url

    def begin(self) -> None:
        """Start the thread, and the node."""
        self._thread.start()
        assert self._ready.wait(WAIT_S)

    def end(self) -> None:
        """End both."""
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(WAIT_S)

    def kill(self) -> None:
        """End the node without a word to its clients."""
        trio.from_thread.run(self._node.kill, trio_token=self._token)

    def start(self) -> None:
        """Start it again on the same port and disk."""
        trio.from_thread.run(self._node.start, trio_token=self._token)

    async def _main(self) -> None:
        self._token, self._over = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            self._node = LocalNode(nursery, MemoryDisk(), self._config)
            await self._node.start()
            self._ready.set()
            await self._over.wait()
            nursery.cancel_scope.cancel()


@contextmanager
def node_thread(config: ServerConfig = CONFIG) -> Iterator[NodeThread]:
    """Run a node in a thread for the length of a block."""
    node = NodeThread(config)
    node.begin()
    try:
        yield node
    finally:
        node.end()


async def in_thread(function: Callable[[], None]) -> None:
    """Call a method of `NodeThread` without holding up this loop."""
    await anyio.to_thread.run_sync(function)
