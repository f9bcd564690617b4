"""Reading: everybody's waiting reads in one snapshot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from softstate.errors import RequestError, StoreFault
from softstate.model import Page, Query
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.storage.batcher import Batcher
from softstate.store.base import Store

LINEAGES_CACHED = 16_384
"""How many revisions keep their lineage in memory. History does not change, so nothing but size evicts them."""


class StoreReads:
    """The one way to the store's reads; see `softstate.server.services.Reads`.

    `fault` and `history` are as in `Batcher`; `named` is called with every position that an answer names.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        fault: Callable[[StoreFault], None],
        history: Callable[[], int | None] = lambda: 0,
        named: Callable[[Position], None] = lambda _position: None,
    ) -> None:
        self._store = store
        self._history = history
        self._named = named
        self._lineages: OrderedDict[int, str] = OrderedDict()
        self._lineages_of = history()
        waiting_max, patience_s = config.reads_waiting_max, config.store_s_max
        self.pages: Batcher[Query, Page] = Batcher(
            "reads", self._read_pages, waiting_max=waiting_max, patience_s=patience_s, fault=fault, history=history
        )
        self._rows: Batcher[int, tuple[str | None]] = Batcher(
            "reads", self._read_rows, waiting_max=waiting_max, patience_s=patience_s, fault=fault, history=history
        )
        self.batchers = (self.pages, self._rows)

    async def read(self, query: Query) -> Page:
        """Answer from a snapshot begun after this call."""
        return await self.pages.ask(query)

    async def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at a revision."""
        history = self._history()
        if history != self._lineages_of:
            # Also where this node's own position is on the new history: what is remembered may be of what was lost.
            self._lineages_of = history
            self._lineages.clear()
        known = self._lineages.get(revision)
        if known is not None:
            return known
        (lineage,) = await self._rows.ask(revision)
        # An answer that was on its way while the history changed may be of the old one.
        if lineage is not None and history is not None and history == self._history() == self._lineages_of:
            self._lineages[revision] = lineage
            if len(self._lineages) > LINEAGES_CACHED:
                self._lineages.popitem(last=False)
        return lineage

    async def _read_pages(self, group: Sequence[Query]) -> Sequence[Page | RequestError]:
        history = self._history()
        pages = await self._store.read(group)
        # Else nobody is told: the gathering withholds them.
        if history is not None and history == self._history():
            for page in pages:
                if isinstance(page, Page):
                    self._named(page.position)
        return pages

    async def _read_rows(self, revisions: Sequence[int]) -> Sequence[tuple[str | None] | RequestError]:
        return [(lineage,) for lineage in await self._store.lineage_at(revisions)]
