"""The hub: where every change passes, in commit order, on its way from the feed to the outboxes.

The hub's position moves only forward and only without a gap: through feed reads, or through this node's own commits
when they begin exactly at the next revision (another node may have committed in between; the feed brings both then).
It moves after the last outbox was offered the change, so "the hub has reached R" means "whatever is at or below R was
offered to everybody".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import trio

from softstate.lease import LeaseTable
from softstate.model import Position, Record
from softstate.server.outbox import Outbox
from softstate.wire.notice import Notice

RECENT_MAX: Final = 4_096
"""How many topics the hub remembers the last change of, so that a long poll notices what passed just before it."""


class Listener(Protocol):
    """A connection, as far as the hub speaks to it directly."""

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
        self._lot = trio.lowlevel.ParkingLot()
        self._watched: dict[str, trio.lowlevel.ParkingLot] = {}
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._recent_floor = position.revision

    def soil(self, outbox: Outbox) -> None:
        """Have an outbox flushed at the end of this turn: it was offered something."""
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
        for record in records:
            if record.version > self.position.revision:
                while rows and rows[0].revision < record.version:
                    self._tell(rows.pop(0))
                self._offer(record)
        for row in rows:
            self._tell(row)
        self.position = upto
        self.flush()
        self._lot.unpark_all()

    def _offer(self, record: Record) -> None:
        self.changes += 1
        notice = Notice(record)
        now = self._now()
        # A lease whose deadline is over gets nothing more, though the sweeper has yet to come by: nobody extends it.
        # From a copy, since an offer may end a lease, and with it a group.
        for lease in tuple(self._table.members(record.topic)):
            sink = lease.sink
            if sink is not None and lease.deadline >= now:
                self.deliveries += 1
                sink.offer(notice)
        self._recent[record.topic] = record.version
        self._recent.move_to_end(record.topic)
        if len(self._recent) > RECENT_MAX:
            _, self._recent_floor = self._recent.popitem(last=False)
        lot = self._watched.get(record.topic)
        if lot is not None:
            lot.unpark_all()

    def _tell(self, row: Position) -> None:
        for listener in tuple(self.listeners):
            listener.moved(row)

    def flush(self) -> None:
        """Write what this turn has queued, each connection's share in one go."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for outbox in dirty:
                outbox.flush()

    def restart(self, position: Position) -> None:
        """Begin a new history: the old position is not on it."""
        self.position = position
        self._recent.clear()
        self._recent_floor = position.revision
        self._lot.unpark_all()
        for lot in self._watched.values():
            lot.unpark_all()

    async def reached(self, revision: int) -> None:
        """Return when the hub's revision is at or above `revision`."""
        while self.position.revision < revision:
            await self._lot.park()

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
