"""Reading: all queued queries are answered from one snapshot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from softstate.errors import RequestError
from softstate.model import Page, Query
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.storage.batcher import Batcher
from softstate.server.storage.guard import StoreGuard
from softstate.store.base import Store

LINEAGES_CACHED = 16_384
"""Revisions whose lineage is kept in memory. It does not change within a generation, so only size evicts."""


class StoreReads:
    """Answers queries from shared snapshots. `told` is called with every position that an answer tells a client."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        guard: StoreGuard,
        bulkhead: Bulkhead,
        told: Callable[[Position], None] = lambda _position: None,
    ) -> None:
        self._store = store
        self._guard = guard
        self._told = told
        # By generation and revision: a lineage that was read before the store was reopened may be of what was lost.
        self._lineages: OrderedDict[tuple[int | None, int], str] = OrderedDict()
        queued_max, call_s_max = config.reads_waiting_max, config.store_s_max
        self.pages: Batcher[Query, Page] = Batcher(
            "reads", self._read_pages, bulkhead, queued_max=queued_max, call_s_max=call_s_max
        )
        self._rows: Batcher[int, tuple[str | None]] = Batcher(
            "reads", self._read_rows, bulkhead, queued_max=queued_max, call_s_max=call_s_max
        )
        self.batchers = (self.pages, self._rows)

    async def read(self, query: Query) -> Page:
        """Answer from a snapshot begun after this call. Raises `Rewound`, `Unavailable` or `Overloaded`."""
        return await self.pages.ask(query)

    async def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at a revision, None if unknown. Raises as `read` does."""
        known = self._lineages.get((self._guard.generation, revision))
        if known is not None:
            return known
        (lineage,) = await self._rows.ask(revision)
        return lineage

    async def _read_pages(self, group: Sequence[Query]) -> Sequence[Page | RequestError]:
        pages: list[Page | RequestError] = []
        while len(pages) < len(group):
            pages += await self._guard.call(self._store.read, group[len(pages) :])
        for page in pages:
            if isinstance(page, Page):
                self._told(page.position)
        return pages

    async def _read_rows(self, revisions: Sequence[int]) -> Sequence[tuple[str | None] | RequestError]:
        lineages = await self._guard.call(self._store.lineage_at, revisions)
        for revision, lineage in zip(revisions, lineages, strict=True):
            if lineage is not None:
                self._lineages[self._guard.generation, revision] = lineage
        while len(self._lineages) > LINEAGES_CACHED:
            self._lineages.popitem(last=False)
        return [(lineage,) for lineage in lineages]
