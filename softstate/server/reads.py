"""Reading: everybody's waiting reads in one snapshot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from softstate.errors import StoreFault, WireError
from softstate.model import Page, Query
from softstate.server.config import ServerConfig
from softstate.server.gather import Gather
from softstate.store.base import Store

LINEAGES_CACHED: Final = 16_384
"""How many revisions keep their lineage in memory. History does not change, so nothing but size evicts them."""


class StoreReads:
    """The one way to the store's reads; see `softstate.server.services.Reads`."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        fault: Callable[[StoreFault], None],
        history: Callable[[], int | None] = lambda: 0,
    ) -> None:
        self._store = store
        self._lineages: OrderedDict[int, str] = OrderedDict()
        self._histories = 0
        waiting_max, patience_s = config.reads_waiting_max, config.store_s_max
        self.pages: Gather[Query, Page] = Gather(
            "reads", store.read, waiting_max=waiting_max, patience_s=patience_s, fault=fault, history=history
        )
        self._rows: Gather[int, tuple[str | None]] = Gather(
            "reads", self._read_rows, waiting_max=waiting_max, patience_s=patience_s, fault=fault, history=history
        )
        self.gathers = (self.pages, self._rows)

    async def read(self, query: Query) -> Page:
        """Answer from a snapshot begun after this call."""
        return await self.pages.ask(query)

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

    async def _read_rows(self, revisions: Sequence[int]) -> Sequence[tuple[str | None] | WireError]:
        return [(lineage,) for lineage in await self._store.lineage_at(revisions)]
