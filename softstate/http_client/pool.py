"""Idle connections, kept for the next request to the same peer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

import anyio
import trio


class Poolable(Protocol):
    """The pool's view of a connection: `HttpConnection`, or a wrapper of one."""

    @property
    def peer(self) -> Hashable:
        """The server that it leads to."""
        ...

    @property
    def idle_since_s(self) -> float:
        """Since when it waits for a request, on the loop's clock."""
        ...

    @property
    def usable(self) -> bool:
        """Whether it can take another request."""
        ...

    async def aclose(self) -> None:
        """Cut it."""
        ...


C = TypeVar("C", bound=Poolable)


class IdlePool(Generic[C]):
    """Connections without a request, at most `idle_max` of them, each for at most `idle_s_max` seconds.

    A connection in use belongs to one task. Of several idle ones the most recently used is taken, so that the others
    grow old and are closed.
    """

    def __init__(self, *, idle_max: float = math.inf, idle_s_max: float = math.inf) -> None:
        self._idle_max = idle_max
        self._idle_s_max = idle_s_max
        self._idle: list[C] = []  # the longest idle first
        self._closed = False

    @asynccontextmanager
    async def using(self, connection: C) -> AsyncIterator[C]:
        """Use a connection for the length of the block. After that it is kept if it is usable, else closed."""
        try:
            yield connection
        except BaseException:
            await _close(connection)
            raise
        if self._closed or not connection.usable:
            await _close(connection)
            return
        self._idle.append(connection)
        if len(self._idle) > self._idle_max:
            await _close(self._idle.pop(self._superfluous()))

    async def take(self, peer: Hashable) -> C | None:
        """Return an idle connection to `peer`, to be given to `using`; None if there is none that is usable."""
        oldest_s = anyio.current_time() - self._idle_s_max
        while self._idle and self._idle[0].idle_since_s < oldest_s:
            await _close(self._idle.pop(0))
        for connection in reversed(self._idle.copy()):
            if connection.peer == peer and connection in self._idle:
                self._idle.remove(connection)
                if connection.usable:
                    return connection
                await _close(connection)
        return None

    def _superfluous(self) -> int:
        """Return which idle connection to give up: the oldest of a peer that has another, else the oldest of all.

        So many requests at once to one peer do not cost another peer the only connection that it has.
        """
        count = Counter(connection.peer for connection in self._idle)
        return next((at for at, connection in enumerate(self._idle) if count[connection.peer] > 1), 0)

    async def drop(self) -> None:
        """Close what is idle."""
        while self._idle:
            await _close(self._idle.pop())

    async def aclose(self) -> None:
        """Close what is idle, and from now on each connection when its use ends."""
        self._closed = True
        await self.drop()


async def _close(connection: Poolable) -> None:
    with anyio.CancelScope(shield=True), suppress(trio.BrokenResourceError, anyio.BrokenResourceError):
        await connection.aclose()
