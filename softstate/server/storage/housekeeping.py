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
from softstate.store.base import Store
from softstate.store.rules.retention import RetentionClock

HOUSEKEEPING_S = 15.0
"""Time between two looks for expired idempotency keys and old tombstones, and at the store's warnings."""

log = structlog.get_logger("softstate.housekeeping")


class Housekeeping:
    """Compacts one store at intervals and logs its warnings. `now` is the node's clock, in seconds."""

    def __init__(
        self, config: ServerConfig, store: Store, hub: Hub, now: Callable[[], float], bulkhead: Bulkhead
    ) -> None:
        self._bulkhead = bulkhead
        self._store = store
        self._hub = hub
        self._now = now
        self._key_s = config.key_ms / 1000
        self._tombstone_s = config.tombstone_s
        self._logged: Sequence[str] = ()
        self._postponed = Spell(
            lambda because: log.warning("compaction is postponed", because=because),
            lambda times: log.info("the store is compacted again", postponed=times),
        )
        self._cautioned: Sequence[str] = ()

    async def run(self) -> None:
        """Compact the store every `HOUSEKEEPING_S` until cancelled. What fails is tried again at its next time."""
        retention = RetentionClock()
        while True:
            with self._bulkhead.contain("housekeeping"):
                await self._compact(retention)
            with self._bulkhead.contain("housekeeping: warnings"):
                self.log_warnings()
            await trio.sleep(HOUSEKEEPING_S)

    async def _compact(self, retention: RetentionClock) -> None:
        now = self._now()
        retention.saw(now, self._hub.position.revision)
        keys = retention.passed(now, self._key_s)
        tombstones = retention.passed(now, self._tombstone_s)
        try:
            await self._store.compact(tombstones=tombstones, keys=keys)
        except SoftstateError as error:
            self._postponed.failed(str(error))
        else:
            self._postponed.succeeded()

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
