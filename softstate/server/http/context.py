"""State that the routes of one node share: its services, and the requests that are held; and the ways of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from softstate.errors import Behind, Overloaded
from softstate.model import Page, Query
from softstate.server.services import Services

HOLD_RETRY_MS = 5_000
"""Delay after which a client is told to try again if too many requests are held."""

BEHIND_RETRY_MS = 1_000
"""Delay after which a client is told to try again if a revision was not reached in time."""


class HttpContext:
    """The parts of a node that its routes use, and the requests that are held."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.config = services.config
        self.reads = services.access.reads
        self.writes = services.access.writes
        self.hub = services.hub
        self.turns = services.turns
        self._holds: dict[trio.CancelScope, None] = {}

    @property
    def holds(self) -> int:
        """The number of requests that are held."""
        return len(self._holds)

    @contextmanager
    def hold(self, until_s: float) -> Iterator[None]:
        """Hold a request: waiting inside the block ends at `until_s` of Trio's clock, or when the node drains.

        Raises `Overloaded` when ``holds_max`` requests are held.
        """
        if self.holds >= self.config.holds_max:
            raise Overloaded(
                f"{self.holds} requests are held here already, the limit (holds_max) is {self.config.holds_max}:"
                " ask without waiting, or later",
                retry_ms=HOLD_RETRY_MS,
            )
        with trio.CancelScope(deadline=until_s) as scope:
            self._holds[scope] = None
            try:
                yield
            finally:
                del self._holds[scope]

    def drain(self) -> None:
        """End every hold, so that held requests are answered now."""
        for scope in self._holds:
            scope.cancel()

    async def read(self, query: Query, at_least: int = 0) -> Page:
        """Read at a position of at least a revision, waiting up to the node's ``timeout_ms`` for it (P-HTTP-6).

        Raises `Behind` when it is not reached in time, and the errors of `StoreReads.read`.
        """
        page = await self.reads.read(query)
        if page.position.revision >= at_least:
            return page
        with self.hold(trio.current_time() + self.config.timeout_ms / 1000):
            await self.hub.reached(at_least)
        page = await self.reads.read(query)
        if page.position.revision >= at_least:
            return page
        raise Behind(
            f"this node is at revision {page.position.revision}, below {at_least}: wait, or ask another node",
            retry_ms=BEHIND_RETRY_MS,
            position=page.position,
        )
