"""The hub: every change passes it, in commit order, on its way from the feed to the outboxes.

The hub's position moves only forward and only without a gap: through feed reads, or through this node's own commits
when they begin exactly at the next revision (another node may have committed in between; the feed brings both then).
It moves after the last outbox was offered the change, so "the hub has reached R" means "every change at or below R was
offered to every lease that covers it".

Changes that revoke credentials are heeded before any change that comes with them is offered: whose credentials are
over hears of nothing that was committed after that (S12). To end a lease early is always safe.

A bug must not break that (S7, S18). One that a single connection meets ends that connection. One that the turn itself
meets, or that a record causes (it cannot be encoded), leaves the hub where it is: every lease that covers a change of
the turn is revoked, so that its client asks the store, and the turn is repeated without pushing anything. If that fails
as well, at the same revision, the node ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

import trio

from softstate.auth.revocations import REVOKED
from softstate.lease import Lease, LeaseTable, Sink
from softstate.model import Record
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.audience import TURN_US, Audience
from softstate.server.fanout.known_versions import KnownVersions
from softstate.server.fanout.name_watches import NameWatch
from softstate.server.fanout.recent_changes import RecentChanges
from softstate.server.measure.histogram import Histogram
from softstate.wire import CODECS
from softstate.wire.push import PushBatch

_OVER = object()

TELL_US = 40
"""The cost of telling a connection that a lineage row passed, in microseconds: 30 to 45, and the write."""

Portions: TypeAlias = Iterator[None]
"""Work that yields when the budget of its turn is spent, and goes on in the next."""

Heed: TypeAlias = Callable[[Sequence[Record]], Portions]
"""Takes changes that revoke credentials, and ends the leases that rest on these."""

Revoke: TypeAlias = Callable[[Iterable[Lease] | None], None]
"""Revokes leases as `overloaded`; None stands for all of them."""


def _flush(sink: Sink) -> None:
    sink.flush()


def _fail(sink: Sink) -> None:
    sink.fail()


def _tell_woken(watch: NameWatch) -> None:
    watch.woken()


def _fail_watch(watch: NameWatch) -> None:
    watch.failed()


class Hub:
    """Offers every change to every lease that covers it. One per node; `now` is the clock of the lease table.

    `sinks` are the connections that are open, with a lease or without: they are told when a lineage row passes.
    `heed` is None if no credentials are looked at.
    """

    def __init__(
        self,
        table: LeaseTable,
        position: Position,
        bulkhead: Bulkhead,
        revoke: Revoke,
        sinks: Collection[Sink],
        now: Callable[[], float] = trio.current_time,
        known_topics_max: int = 0,
        heed: Heed | None = None,
    ) -> None:
        self.position = position
        self.changes = 0
        self.deliveries = 0
        self.passing = Histogram()
        """The time from when this node learns of a commit until its changes are written to all that take them."""
        self.restarts = 0
        """Times that a new history began here: what is known of the one before says nothing about it."""
        self.turn_us = TURN_US
        """The budget of a turn, in microseconds of estimated work; simulation makes it small."""
        self.recent = RecentChanges(position.revision)
        self.known = KnownVersions(position.revision, self.recent, known_topics_max)
        self._table = table
        self._bulkhead = bulkhead
        self._revoke = revoke
        self._now = now
        self._sinks = sinks
        self._heed = heed
        self._passing = False
        self._resting = trio.lowlevel.ParkingLot()
        self._unflushed: dict[Sink, None] = {}
        self._reached_lot = trio.lowlevel.ParkingLot()

    def statistics(self) -> dict[str, int]:
        """Count what has passed through, under the names that are shown."""
        return {"revision": self.position.revision, "changes": self.changes, "deliveries": self.deliveries}

    def flush_later(self, sink: Sink) -> None:
        """Have a connection that has queued something flushed at the end of this turn."""
        self._unflushed[sink] = None

    async def committed(self, before: int, records: Sequence[Record], position: Position) -> None:
        """Take this node's own commit, if it is the next; else leave it to the feed."""
        heard = self._now()
        await self.at_rest()
        if before == self.position.revision and position.same_lineage(self.position):
            await self.apply(records, (), position, heard)

    async def apply(
        self, records: Iterable[Record], lineages: Iterable[Position], upto: Position, heard: float | None = None
    ) -> None:
        """Offer what lies beyond the hub's position, in revision order, then move to `upto`.

        Work beyond the budget of a turn of the loop goes on in the next turns, and another call waits for its end;
        the position moves once all of it was offered, and not at all if a new history begins meanwhile, or the call is
        cancelled. Little work has no checkpoint. `heard` is when this node learnt of the commit, if not just now.
        """
        heard = self._now() if heard is None else heard
        await self.at_rest()
        if upto.revision <= self.position.revision or self._bulkhead.ending:
            return
        rows = sorted((row for row in lineages if row.revision > self.position.revision), key=lambda row: row.revision)
        news = [record for record in records if record.version > self.position.revision]
        self._passing = True
        try:
            if await self._pass(news, rows, upto):
                self.position = upto
        finally:
            self._passing = False
            self._resting.unpark_all()
        self.flush()
        if news:
            self.passing.observe(self._now() - heard)
        self._reached_lot.unpark_all()
        self._wake()

    async def at_rest(self) -> None:
        """Return once no call of `apply` is under way; without a checkpoint if there is none."""
        while self._passing:
            await self._resting.park()

    async def _pass(self, news: Sequence[Record], rows: Sequence[Position], upto: Position) -> bool:
        """Offer all, in as many turns as it takes; return whether the hub may move to `upto`."""
        history = self.restarts
        portions = self._in_order(news, rows, self._offer)
        while True:
            with self._bulkhead.contain("hub", revision=upto.revision) as turn:
                over = next(portions, _OVER) is _OVER
            if turn.failed:
                return self._repeat(news, rows, upto)
            if over:
                return True
            self.flush()
            await trio.lowlevel.checkpoint()
            if self.restarts != history or self._bulkhead.ending:
                return False

    def _in_order(
        self, news: Sequence[Record], rows: Sequence[Position], offer: Callable[[Sequence[Record]], Portions]
    ) -> Portions:
        if self._heed is not None:
            yield from self._heed([record for record in news if record.topic.startswith(REVOKED)])
        done = 0
        for row in rows:
            before = [record for record in news[done:] if record.version < row.revision]
            yield from offer(before)
            yield from self._tell_all(row)
            done += len(before)
        yield from offer(news[done:])

    def _repeat(self, news: Sequence[Record], rows: Sequence[Position], upto: Position) -> bool:
        """Repeat a turn that failed, with every record of it taken for unreadable; return whether the hub may move."""
        if self._heed is not None and any(record.topic.startswith(REVOKED) for record in news):
            self._revoke(None)  # whichever leases were to end
        with self._bulkhead.contain("hub: revoking", revision=upto.revision) as revoking:
            self._revoke({lease: None for record in news for lease in self._table.members(record.topic)})
        if revoking.failed:
            # The leases that are covered cannot be told from others.
            with self._bulkhead.contain("hub: revoking all", revision=upto.revision) as revoking:
                self._revoke(None)
        with self._bulkhead.contain("hub: second attempt", revision=upto.revision) as turn:
            for _ in self._in_order(news, rows, self._note):
                pass
        if revoking.failed or turn.failed:
            self._bulkhead.end_node(f"its hub failed twice on its way to revision {upto.revision}")
            return False
        return True

    def _offer(self, records: Sequence[Record]) -> Portions:
        # A newer change takes the place of an older one of its topic, as in a congested outbox (S10).
        latest = {record.topic: record for record in records}
        self.changes += len(records)
        audience = Audience(self._table, self.turn_us)
        for record in latest.values():
            audience.add(record)
            if audience.full:
                yield from self._push(audience)
                yield
                audience = Audience(self._table, self.turn_us)
        yield from self._push(audience)
        yield from self._note(records)

    def _push(self, audience: Audience) -> Portions:
        yield from audience.encode()
        deliveries, spent_us = audience.deliveries()
        left_us = self.turn_us - spent_us
        for batch, each_us, leases in deliveries:
            at = 0
            while at < len(leases):
                if left_us < each_us:
                    yield
                    left_us = self.turn_us
                some = leases[at : at + max(left_us // each_us, 1)]
                self._offer_to(some, batch)
                at += len(some)
                left_us -= len(some) * each_us

    def _offer_to(self, leases: Sequence[Lease], batch: PushBatch) -> None:
        # P-REN-7: a lease past its deadline gets nothing more, though the sweep may not have run yet.
        offered, failures = self._bulkhead.offer(leases, batch, self._now())
        self.deliveries += offered * len(batch)
        if failures:
            self._end_failed(failures, batch)

    def _end_failed(self, failures: Sequence[tuple[Sink, Exception]], batch: PushBatch) -> None:
        """End the connections that could not take a batch, each alone, unless one of its records is the reason."""
        for change in batch.changes:
            for codec in CODECS.values():
                error = self._bulkhead.attempt(change.frame, codec)
                if error is not None:
                    raise error
        for sink, error in failures:
            self._bulkhead.met("connection", error)
            self._bulkhead.attempt(sink.fail)

    def _note(self, records: Sequence[Record]) -> Portions:
        for record in records:
            self.recent.note(record.topic, record.version)
            self.known.note(record)
        yield from ()

    def _tell_all(self, row: Position) -> Portions:
        # A connection that opens meanwhile is not told: its welcome is read after this row was (P-REW-6).
        sinks = tuple(self._sinks)
        most = max(self.turn_us // TELL_US, 1)

        def tell(sink: Sink) -> None:
            sink.moved(row)

        for at in range(0, len(sinks), most):
            self._bulkhead.each("connection", tell, sinks[at : at + most], failed=_fail)
            if at + most <= len(sinks):
                yield

    def flush(self) -> None:
        """Write all that this turn has queued, the share of each connection in one write."""
        while self._unflushed:
            unflushed, self._unflushed = self._unflushed, {}
            self._bulkhead.each("connection", _flush, unflushed, failed=_fail)

    def restart(self, position: Position) -> None:
        """Begin a new history: the old position is not on it."""
        self.restarts += 1
        self.position = position
        self.recent.restart(position.revision)
        self.known.restart(position.revision)
        self._reached_lot.unpark_all()
        self._wake()

    def _wake(self) -> None:
        woken = self.recent.watches.take_woken()
        if woken:
            self._bulkhead.each("long poll", _tell_woken, woken, failed=_fail_watch)

    async def reached(self, revision: int) -> None:
        """Return when the hub's revision is at or above `revision`."""
        while self.position.revision < revision:
            await self._reached_lot.park()
