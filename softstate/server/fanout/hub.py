"""The hub: every change passes it, in commit order, on its way from the feed to the outboxes.

The hub's position moves only forward and only without a gap: through feed reads, or through this node's own commits
when they begin exactly at the next revision (another node may have committed in between; the feed brings both then).
It moves after the last outbox was offered the change, so "the hub has reached R" means "every change at or below R was
offered to every lease that covers it".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from softstate.lease import LeaseTable, Sink
from softstate.model import Record
from softstate.position import Position
from softstate.server.fanout.outbox import Outbox
from softstate.wire.push import EncodedChange, PushBatch

RECENT_MAX = 4_096
"""Topics whose last change is remembered, so that a long poll notices a change that passed just before it."""


class Listener(Protocol):
    """The part of a connection that the hub calls directly."""

    def moved(self, position: Position) -> None:
        """Tell the peer that a lineage row passed."""


class Hub:
    """Offers every change to every lease that covers it. One per node; `now` is the clock of the lease table."""

    def __init__(self, table: LeaseTable, position: Position, now: Callable[[], float] = trio.current_time) -> None:
        self.position = position
        self.changes = 0
        self.deliveries = 0
        self.listeners: dict[Listener, None] = {}
        self._table = table
        self._now = now
        self._dirty: list[Outbox] = []
        self._reached_lot = trio.lowlevel.ParkingLot()
        self._watched: dict[str, trio.lowlevel.ParkingLot] = {}
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._recent_floor = position.revision

    def statistics(self) -> dict[str, int]:
        """Count what has passed through, under the names that are shown."""
        return {"revision": self.position.revision, "changes": self.changes, "deliveries": self.deliveries}

    def mark_dirty(self, outbox: Outbox) -> None:
        """Have an outbox that was offered something flushed at the end of this turn."""
        if not outbox.dirty:
            outbox.dirty = True
            self._dirty.append(outbox)

    def committed(self, before: int, records: Sequence[Record], position: Position) -> None:
        """Take this node's own commit, if it is the next; else leave it to the feed."""
        if before == self.position.revision and position.same_lineage(self.position):
            self.apply(records, (), position)

    def apply(self, records: Iterable[Record], lineages: Iterable[Position], upto: Position) -> None:
        """Offer what lies beyond the hub's position, in revision order, then move to `upto`."""
        if upto.revision <= self.position.revision:
            return
        rows = sorted((row for row in lineages if row.revision > self.position.revision), key=lambda row: row.revision)
        news = [record for record in records if record.version > self.position.revision]
        for row in rows:
            before = [record for record in news if record.version < row.revision]
            self._offer(before)
            self._tell_listeners(row)
            del news[: len(before)]
        self._offer(news)
        self.position = upto
        self.flush()
        self._reached_lot.unpark_all()

    def _offer(self, records: Sequence[Record]) -> None:
        # A newer change takes the place of an older one of its topic, as in a congested outbox (S10).
        latest = {record.topic: record for record in records}
        self.changes += len(records)
        if len(latest) == 1:
            ((topic, record),) = latest.items()
            batch = PushBatch([EncodedChange(record)])
            for sink in self._sinks(topic):
                sink.offer(batch)
        elif latest:
            self._offer_together(list(latest.values()))
        for record in records:
            self._remember(record.topic, record.version)

    def _offer_together(self, records: Sequence[Record]) -> None:
        # Leases that are owed the same changes are owed the same bytes: joined once, and one call and one write for
        # each connection instead of one for each delivery. A bit mask per lease says which: it costs 0.1 µs a delivery.
        owed: dict[Sink, int] = {}
        for number, record in enumerate(records):
            for sink in self._sinks(record.topic):
                owed[sink] = owed.get(sink, 0) | 1 << number
        changes = [EncodedChange(record) for record in records]
        batches: dict[int, PushBatch] = {}
        for sink, mask in owed.items():
            batch = batches.get(mask)
            if batch is None:
                batch = batches[mask] = PushBatch([change for at, change in enumerate(changes) if mask >> at & 1])
            sink.offer(batch)

    def _sinks(self, topic: str) -> list[Sink]:
        # P-REN-7: a lease past its deadline gets nothing more, though the sweep may not have run yet.
        # A list, since an offer may end a lease, and with it a group.
        now = self._now()
        sinks = [lease.sink for lease in self._table.members(topic) if lease.sink is not None and lease.deadline >= now]
        self.deliveries += len(sinks)
        return sinks

    def _remember(self, topic: str, version: int) -> None:
        self._recent[topic] = version
        self._recent.move_to_end(topic)
        if len(self._recent) > RECENT_MAX:
            _, self._recent_floor = self._recent.popitem(last=False)
        lot = self._watched.get(topic)
        if lot is not None:
            lot.unpark_all()

    def _tell_listeners(self, row: Position) -> None:
        for listener in tuple(self.listeners):
            listener.moved(row)

    def flush(self) -> None:
        """Write all that this turn has queued, the share of each connection in one write."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for outbox in dirty:
                outbox.flush()

    def restart(self, position: Position) -> None:
        """Begin a new history: the old position is not on it."""
        self.position = position
        self._recent.clear()
        self._recent_floor = position.revision
        self._reached_lot.unpark_all()
        for lot in self._watched.values():
            lot.unpark_all()

    async def reached(self, revision: int) -> None:
        """Return when the hub's revision is at or above `revision`."""
        while self.position.revision < revision:
            await self._reached_lot.park()

    async def changed(self, topic: str, after: int) -> None:
        """Return when a change of `topic` above revision `after` has passed; perhaps early, never late."""
        if after < self._recent_floor or self._recent.get(topic, 0) > after:
            await trio.lowlevel.checkpoint()
            return
        lot = self._watched.setdefault(topic, trio.lowlevel.ParkingLot())
        try:
            await lot.park()
        finally:
            if not lot and self._watched.get(topic) is lot:
                del self._watched[topic]
