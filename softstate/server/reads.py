"""Reading: everybody's waiting reads in one snapshot, and one read of the head for all renewals of a moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from softstate.errors import StoreFault, Unavailable, WireError
from softstate.model import Page, Position, Query
from softstate.server.config import ServerConfig
from softstate.server.gather import DOWN_RETRY_MS, Gather
from softstate.store.base import Store

HEAD_PAUSE_S: Final = 0.04
"""How long renewals gather for one head read: at most 25 head reads a second, whatever the number of clients."""

LINEAGES_CACHED: Final = 16_384
"""How many revisions keep their lineage in memory. History does not change, so nothing but size evicts them."""


class StoreReads:
    """The one way to the store's reads; see `softstate.server.services.Reads`."""

    def __init__(self, config: ServerConfig, store: Store, fault: Callable[[StoreFault], None]) -> None:
        self._store = store
        self._lineages: OrderedDict[int, str] = OrderedDict()
        self._histories = 0
        waiting_max, patience_s = config.reads_waiting_max, config.store_s_max
        self.pages: Gather[Query, Page] = Gather(
            "reads", store.read, waiting_max=waiting_max, patience_s=patience_s, fault=fault
        )
        self.heads: Gather[None, Position] = Gather(
            "renewals",
            self._read_head,
            waiting_max=config.sessions_max,
            patience_s=patience_s,
            pause_s=HEAD_PAUSE_S,
            fault=fault,
        )
        self._rows: Gather[int, tuple[str | None]] = Gather(
            "reads", self._read_rows, waiting_max=waiting_max, patience_s=patience_s, fault=fault
        )
        self.gathers = (self.pages, self.heads, self._rows)

    async def read(self, query: Query) -> Page:
        """Answer from a snapshot begun after this call."""
        return await self.pages.ask(query)

    async def head(self) -> Position:
        """Return a head read after this call."""
        return await self.heads.ask(None)

    async def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at a revision."""
        known = self._lineages.get(revision)
        if known is not None:
            return known
        history = self._histories
        (lineage,) = await self._rows.ask(revision)
        # An answer that was on its way while the history changed may be of the old one.
        if lineage is not None and history == self._histories:
            self._lineages[revision] = lineage
            if len(self._lineages) > LINEAGES_CACHED:
                self._lineages.popitem(last=False)
        return lineage

    def forget(self) -> None:
        """Forget what is cached: the history is another one."""
        self._histories += 1
        self._lineages.clear()

    def unavailable(self) -> Unavailable:
        """Make the error for a store whose commits do not come through."""
        return Unavailable("the feed of this node lags the store: try again later", retry_ms=DOWN_RETRY_MS)

    async def _read_head(self, riders: Sequence[None]) -> Sequence[Position | WireError]:
        return [await self._store.head()] * len(riders)

    async def _read_rows(self, revisions: Sequence[int]) -> Sequence[tuple[str | None] | WireError]:
        return [(lineage,) for lineage in await self._store.lineage_at(revisions)]
