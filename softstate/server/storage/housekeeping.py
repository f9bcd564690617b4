"""Upkeep of a store by each node that uses it: forgetting what has expired, and watching how durable commits are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from softstate.errors import SoftstateError
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.spell import Spell
from softstate.server.storage.guard import StoreGuard
from softstate.store.base import Store
from softstate.store.rules.retention import RetentionClock

HOUSEKEEPING_S = 15.0
"""Time between two looks for expired idempotency keys and old tombstones, and at the store's warnings."""

log = structlog.get_logger("softstate.housekeeping")


class Housekeeping:
    """Compacts one store at intervals and logs its warnings. `now` is the node's clock, in seconds."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        hub: Hub,
        guard: StoreGuard,
        now: Callable[[], float],
        bulkhead: Bulkhead,
    ) -> None:
        self.tried: Callable[[bool], None] = lambda _done: None
        """Called after each attempt to compact the store, with whether it succeeded."""
        self._bulkhead = bulkhead
        self._guard = guard
        self._store = store
        self._hub = hub
        self._now = now
        self._key_s = config.key_ms / 1000
        self._tombstone_s = config.tombstone_s
        self._logged: Sequence[str] = ()
        self._retention = RetentionClock()
        self._restarts = hub.restarts
        self._compacting = trio.CancelScope()
        self._postponed = Spell(
            lambda because: log.warning("compaction is postponed", because=because),
            lambda times: log.info("the store is compacted again", postponed=times),
        )
        self._cautioned: Sequence[str] = ()

    async def run(self) -> None:
        """Compact the store every `HOUSEKEEPING_S` until cancelled. What fails is tried again at its next time."""
        while True:
            with self._bulkhead.contain("housekeeping"):
                await self._compact()
            with self._bulkhead.contain("housekeeping: warnings"):
                self.log_warnings()
            await trio.sleep(HOUSEKEEPING_S)

    def interrupt(self) -> None:
        """End a compaction under way: the store is reopened, and its revisions may be of another history then."""
        self._compacting.cancel()

    async def _compact(self) -> None:
        if self._guard.generation is None:
            return
        if self._hub.restarts != self._restarts:
            # A revision of the history that was lost says nothing about the age of the same number in this one: a
            # key, seconds old, would be forgotten, and its request applied twice (S4).
            self._restarts, self._retention = self._hub.restarts, RetentionClock()
        now = self._now()
        self._retention.saw(now, self._hub.position.revision)
        keys = self._retention.passed(now, self._key_s)
        tombstones = self._retention.passed(now, self._tombstone_s)
        try:
            with trio.CancelScope() as self._compacting:
                await self._store.compact(tombstones=tombstones, keys=keys)
        except SoftstateError as error:
            self._postponed.failed(str(error))
            self.tried(False)
        else:
            self._postponed.succeeded()
            self.tried(True)

    def log_warnings(self) -> None:
        """Log why acknowledged publishes may be lost on this store, and what else to see to, once while each lasts."""
        cautions = tuple(self._store.cautions)
        for caution in cautions:
            if caution not in self._cautioned:
                log.warning("store needs attention", because=caution)
        self._cautioned = cautions
        warnings, durability = tuple(self._store.warnings), str(self._store.durability)
        for warning in warnings:
            if warning not in self._logged:
                log.warning("acknowledged publishes may be lost", durability=durability, because=warning)
        if self._logged and not warnings:
            log.info("acknowledged publishes are durable again", durability=durability)
        self._logged = warnings
