"""A store in etcd, from version 3.4 on, through the JSON gateway that it serves on its client port.

``etcd://user:password@host:2379,host:2379/?namespace=softstate``, or ``etcds://`` with TLS and, if need be,
``cacert=``, ``cert=`` and ``key=`` files. Of several endpoints one is used until it fails. Any number of nodes share a
namespace. `softstate.store.etcd.schema` has the layout, `softstate.store.etcd.inbox` how another program
publishes.

An acknowledged commit is in the logs of a majority of etcd's members, synced to disk. etcd keeps every old value until
its history is compacted, and every commit rewrites one key, so let it run with ``--auto-compaction-retention`` (an hour
will do): nothing here compacts, since that would drop other applications' history too. No user needs more
than ``readwrite`` on the prefix ``NAMESPACE/``.

A group of publishes is one transaction as long as it is below a megabyte; a longer one is several, in order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from itertools import takewhile
from random import Random
from typing import TypeVar

import structlog
import trio

from softstate.errors import Rewound, StoreFault, Unavailable
from softstate.model import PAGE_RECORDS_MAX, Durability, Page, Query
from softstate.position import Position
from softstate.store.base import KEYS_MAX, PUBLISHERS_MAX, Committed, Dump, Feed, Store, StoreInfo, Verdict, Write
from softstate.store.commit_waiter import CommitWaiter
from softstate.store.etcd.audit import audit, audit_ops
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.demand import Demand, Names, first_part, same_query
from softstate.store.etcd.dump import Adoption, dump_ops, fetch_dump
from softstate.store.etcd.durability import DurabilityProbe
from softstate.store.etcd.errors import SnapshotGone
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.inbox import plan_drain
from softstate.store.etcd.messages import Op, Status, delete_span, span
from softstate.store.etcd.notifications import Watch
from softstate.store.etcd.opening import Opening
from softstate.store.etcd.plan import plan_compaction
from softstate.store.etcd.schema import Data, Layout, StoredHead, prefix_end
from softstate.store.etcd.snapshot import EtcdSnapshot, begin_snapshot, feed_ops, fetch_feed
from softstate.store.etcd.transaction import Bounds, TransactionTooLong, chunks_of
from softstate.store.etcd.url import read_etcd_url
from softstate.store.etcd.write import Writer
from softstate.store.limits import CHECK_EVERY_S, PROBE_EVERY_S
from softstate.store.rules.nonce import SYSTEM
from softstate.store.rules.paging import cost_of_names, dump_page, feed_page, within_cost
from softstate.store.rules.writable import check_writable

INBOX_PAUSE_S = 0.02
"""How long other nodes leave the inbox to the node that drained it last, in seconds at most."""

INBOX_BATCHES = 8
"""How many batches of the inbox are moved in a row before the task that waits goes on."""

DESTROY_S = 60.0
"""How long deleting everything may take, in seconds; the one call that may take longer than `CALL_S`."""

T = TypeVar("T")

log = structlog.get_logger("softstate.store")


class EtcdStore(Store):
    """A store in etcd; get one with `EtcdStore.open`."""

    def __init__(
        self, gateway: Gateway, layout: Layout, bounds: Bounds, random: Random, *, create: bool, read_only: bool
    ) -> None:
        self.name = gateway.name
        self.durability = Durability.DURABLE
        self.keys_max, self.publishers_max = bounds.keys_max, bounds.publishers_max
        self._gateway = gateway
        self._layout = layout
        self._random = random
        self._create = create
        self._read_only = read_only
        self._writer = Writer(gateway, layout, random)
        self._opening = Opening(gateway, layout, self._writer, random)
        self._watch = Watch(gateway, layout)
        self._probe = DurabilityProbe(gateway)
        self._seen = (Position("", "", 0), "")
        self._opened = 0
        self._notified = 0
        self._inbox_stuck = ""
        self._drained_last = False
        self._check_at = self._probe_at = -math.inf
        self._waiter = CommitWaiter(
            lambda: self._seen[0].revision, self._check, listen=self._listen, next_check=lambda: self._check_at
        )
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        keys_max: int = KEYS_MAX,
        publishers_max: int = PUBLISHERS_MAX,
        create: bool = True,
        read_only: bool = False,
        backup: bool = True,
        random: Random = SYSTEM,
    ) -> EtcdStore:
        """Open the namespace that `url` names, and commit a lineage row.

        If it is empty, `create` makes a store there; without, that is `StoreMissing`, now and in `reopen`. A namespace
        that November's softstate wrote is migrated; `backup` has no effect: it is copied within etcd, and the old rows
        are deleted when the copy is complete. `read_only` changes nothing.

        Raises `ConfigError` when the URL is wrong, `StoreRefused` when what is there is not ours, is damaged, or the
        credentials are wrong, `Unavailable` when that may pass.
        """
        del backup
        parts, namespace = read_etcd_url(url)
        store = cls(
            Gateway(parts),
            Layout(namespace),
            Bounds(keys_max, publishers_max),
            random,
            create=create,
            read_only=read_only,
        )
        try:
            await store._open()
        except BaseException:
            await store.aclose()
            raise
        return store

    def _saw(self, stored: StoredHead, opened: int) -> None:
        """Note a head that was read by a call which began after `opened` openings."""
        head = stored.head
        if opened != self._opened:
            # The store was reopened meanwhile: that head may be of the earlier history.
            return
        if head.revision > self._seen[0].revision or not self._seen[1]:
            self._seen = head.position, head.generation
        self._waiter.wake(head.revision)

    async def _read(
        self,
        then: Callable[[EtcdSnapshot], Awaitable[T]],
        *,
        lineages: Collection[int] = (),
        ops: Callable[[Data], Sequence[Op]] = lambda _data: (),
    ) -> T:
        """Begin a snapshot and call `then` with it; again if etcd drops it, over the next endpoint if one fails."""
        with self._gateway.time_limit():
            for tries_left in reversed(range(self._gateway.endpoints.count + 1)):
                try:
                    async with self._gateway.readers.connection() as connection:
                        return await self._read_once(connection, then, lineages, ops)
                except Unavailable:
                    if not tries_left:
                        raise
        raise AssertionError("unreachable: the last try raises, and so does the time limit")

    async def _read_once(
        self,
        connection: Connection,
        then: Callable[[EtcdSnapshot], Awaitable[T]],
        lineages: Collection[int],
        ops: Callable[[Data], Sequence[Op]],
    ) -> T:
        while True:
            seen, notified, opened = self._seen, self._notified, self._opened
            try:
                snapshot = await begin_snapshot(
                    self._gateway, connection, self._layout, seen, lineages=lineages, ops=ops
                )
                result = await then(snapshot)
            except SnapshotGone:
                continue
            self._saw(snapshot.stored, opened)
            if self._notified == notified > snapshot.position.revision:
                # The history that the notification was about is gone.
                self._notified = 0
            return result

    async def publish(self, group: Sequence[Write]) -> Committed:
        """See `Store.publish`. A group above a megabyte is several transactions, each with its own `CALL_S`.

        If a later one fails, or another lineage begins between them, all of the group is `Unavailable`, though the
        first were applied. If others commit between them, `records` are those of the last of what is contiguous.
        """
        self._check_writable()
        committed: Committed | None = None
        waiting = deque(chunks_of(group))
        while waiting:
            chunk = waiting.popleft()
            try:
                next_one = await self._publish(chunk)
            except TransactionTooLong:
                if len(chunk) == 1:
                    raise Unavailable(
                        f"{self.name}: {chunk[0].topic!r} is above what one request to etcd may be"
                    ) from None
                half = len(chunk) // 2
                waiting.extendleft([chunk[half:], chunk[:half]])
                continue
            committed = next_one if committed is None else _joined(committed, next_one, self.name)
        assert committed is not None
        if committed.records:
            self.unwritten = ""
        return committed

    def _check_writable(self) -> None:
        check_writable(self.name, read_only=self._read_only)

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self.keys_max, self.publishers_max)

    async def _publish(self, chunk: Sequence[Write]) -> Committed:
        opened, newest = self._opened, max(self._seen[0].revision, self._notified)
        done = await self._writer.publish(chunk, self._seen, newest, self._bounds)
        self._saw(done.stored, opened)
        position = done.stored.head.position
        before = done.transaction.before if done.transaction.records else position.revision
        return Committed(done.result, before, done.transaction.records, position)

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """See `Store.read`. Several snapshots answer a group that is above the limits in `softstate.store.etcd.demand`.

        Each has its own `CALL_S`; none is begun once half of what one call may cost is spent.
        """
        group = within_cost(group) if group else group
        limit = max((query.limit_cost for query in group), default=0)
        keys = [same_query(query) for query in group]
        waiting = dict(zip(keys, group, strict=True))
        answers: dict[object, Page | Rewound] = {}
        spent = 0
        while waiting and (2 * spent <= limit or keys[0] not in answers):
            part = first_part(list(waiting.values()))
            for key, found in zip(list(waiting), await self._read_part(part), strict=False):
                if found is not None:
                    query = waiting.pop(key)
                    spent += found.cost if isinstance(found, Page) else cost_of_names(query)
                    answers[key] = found
        return [_own(answers[key]) for key in takewhile(answers.__contains__, keys)]

    async def _read_part(self, group: Sequence[Query]) -> Sequence[Page | Rewound | None]:
        names = Names(group, self._seen[0].revision)

        async def then(snapshot: EtcdSnapshot) -> Demand:
            demand = Demand(snapshot, *await names.found(snapshot))
            await demand.fetch(group)
            return demand

        lineages = [query.witness.revision for query in group if query.witness is not None]
        # Answering takes this process's time, not etcd's: the connection is given back before.
        return await (await self._read(then, lineages=lineages, ops=names.ops)).answers()

    async def head(self) -> Position:
        """See `Store.head`."""

        async def then(snapshot: EtcdSnapshot) -> Position:
            return snapshot.position

        return await self._read(then)

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """See `Store.lineage_at`."""

        async def then(snapshot: EtcdSnapshot) -> Sequence[str | None]:
            return [snapshot.lineage_of[revision] for revision in revisions]

        return await self._read(then, lineages=revisions)

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""

        async def then(snapshot: EtcdSnapshot) -> Feed:
            return feed_page(after, limit, await fetch_feed(snapshot, after.revision, limit))

        return await self._read(then, lineages=[after.revision], ops=lambda data: feed_ops(data, after.revision, limit))

    async def wait(self, after: int) -> None:
        """See `Store.wait`. Moves what other programs have put into the inbox, meanwhile."""
        if self._closed:
            raise trio.ClosedResourceError("this store was closed")
        await self._waiter.wait(after)

    async def _listen(self) -> None:
        """Pass on what the watch tells; return when the store or its inbox is to be checked."""
        while True:
            told = await self._watch.next()
            self._notified = max(self._notified, told.revision)
            if told.check or told.inbox:
                pause_s = 0.0
                if not told.check and not self._drained_last:
                    pause_s = self._random.uniform(INBOX_PAUSE_S / 4, INBOX_PAUSE_S)
                # Kept, since the wait may be over before the pause is.
                self._check_at = min(self._check_at, trio.current_time() + pause_s)
                self._waiter.notify(told.revision)
                await trio.sleep(pause_s)
                return
            self._waiter.notify(told.revision)

    async def _check(self) -> bool:
        """Read the head and look into the inbox; tell whether the store is in trouble."""
        self._check_at = trio.current_time() + CHECK_EVERY_S
        inbox = self._layout.inbox

        async def then(snapshot: EtcdSnapshot) -> int:
            return len(snapshot.answers[0].kvs)

        try:
            found = await self._read(then, ops=lambda _data: [span(inbox, prefix_end(inbox), limit=1, keys_only=True)])
        except (StoreFault, Unavailable):
            return True
        if found and not self._read_only:
            await self._empty_inbox()
        if trio.current_time() >= self._probe_at:
            await self._refresh_probe()
        return False

    async def _empty_inbox(self) -> None:
        for _ in range(INBOX_BATCHES):
            opened = self._opened
            try:
                done = await self._writer.commit(plan_drain(self._layout), self._seen, self._bounds)
            except (StoreFault, Unavailable) as error:
                # A client of a node is answered with the error; here a log has to do. The next check tries again.
                if str(error) != self._inbox_stuck:
                    log.warning("direct publishes wait in the inbox", store=self.name, because=str(error))
                self._inbox_stuck = str(error)
                return
            self._inbox_stuck = ""
            self._saw(done.stored, opened)
            done.result.report()
            self._drained_last = done.result.taken > 0
            if not done.result.more:
                return

    async def compact(self, *, tombstones: int, keys: int) -> int:
        """See `Store.compact`. Takes several short transactions; if cancelled, those done stay done."""
        self._check_writable()
        while True:
            opened = self._opened
            done = await self._writer.commit(plan_compaction(tombstones, keys), self._seen, self._bounds)
            self._saw(done.stored, opened)
            floor, more = done.result
            if not more:
                return floor

    async def reopen(self) -> Position:
        """See `Store.reopen`."""
        if self._closed:
            raise trio.ClosedResourceError("this store was closed")
        self._check_writable()
        return await self._open()

    async def _open(self) -> Position:
        await self._watch.aclose()
        await self._gateway.drop()
        await self._refresh_probe()
        position = self._begin_with(await self._first_head())
        await self._refresh_probe()
        return position

    async def _first_head(self) -> StoredHead:
        self.unwritten = ""
        if self._read_only:
            return await self._opening.look()
        try:
            return await self._opening.commit(create=self._create)
        except Unavailable as error:
            # Out of space, perhaps: what can be read is served. The writer begins a lineage before its first change.
            try:
                stored = await self._opening.look()
            except (StoreFault, Unavailable):
                raise error from None
            log.warning("store can be read but not written", store=self.name, because=error.message)
            self.unwritten = error.message
            return stored

    def _begin_with(self, stored: StoredHead) -> Position:
        """Take a head as the first that was met, and forget earlier ones."""
        self._opened += 1
        self._seen = stored.head.position, stored.head.generation
        self._notified = 0
        self._waiter.forget()
        self._waiter.wake(stored.head.revision)
        return stored.head.position

    async def _refresh_probe(self) -> None:
        self._probe_at = trio.current_time() + PROBE_EVERY_S
        await self._probe.refresh()
        self.durability, self.warnings = self._probe.durability, self._probe.warnings

    async def info(self) -> StoreInfo:
        """See `Store.info`. The size is that of the whole database of the member that was asked."""

        def ops(data: Data) -> list[Op]:
            tables = [data.table(name) for name in ("topic", "tomb")]
            return [span(table, prefix_end(table), count_only=True) for table in tables]

        async def then(snapshot: EtcdSnapshot) -> StoreInfo:
            records, tombstones = (found.count for found in snapshot.answers)
            status = await self._gateway.call(snapshot.connection, "/v3/maintenance/status", {}, Status)
            head = snapshot.stored.head
            return StoreInfo(records - tombstones, tombstones, head.keys, status.db_size, head.publishers, head.layout)

        return await self._read(then, ops=ops)

    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        """See `Store.dump`."""

        async def then(snapshot: EtcdSnapshot) -> Dump:
            return dump_page(after, limit, *await fetch_dump(snapshot, after, limit))

        return await self._read(then, ops=lambda data: dump_ops(data, after, limit))

    async def audit(self) -> Sequence[str]:
        """See `Store.audit`. Also vanished rows, keys of others, and entries of the inbox that were refused."""

        async def then(snapshot: EtcdSnapshot) -> Sequence[str]:
            return audit(self._layout, snapshot)

        rows = await self._read(then, ops=lambda data: audit_ops(self._layout, data))
        return [*await super().audit(), *rows]

    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        """See `Store.adopt`. Everything is written beside what is there, and put in its place by one transaction."""
        self._check_writable()
        adoption = Adoption(self._gateway, self._layout, self._writer, self._random)
        return self._begin_with(await adoption.adopt(pages, self._seen, replace=replace))

    async def destroy(self) -> None:
        """See `Store.destroy`. One delete of the whole prefix, which occupies etcd for as long as it takes."""
        self._check_writable()
        everything = delete_span(self._layout.root, prefix_end(self._layout.root))
        with self._gateway.time_limit(DESTROY_S):
            async with self._gateway.writers.connection() as connection:
                await self._gateway.write(connection, [], [everything])
        await self.aclose()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._closed = True
        with trio.CancelScope(shield=True):
            self._waiter.wake()
            await self._watch.aclose()
            await self._gateway.aclose()


def _own(answer: Page | Rewound) -> Page | Rewound:
    """Return an answer that several queries may share, but for an error: each asker raises its own."""
    return Rewound(answer.message, position=answer.position) if isinstance(answer, Rewound) else answer


def _joined(first: Committed, second: Committed, name: str) -> Committed:
    """Join the outcomes of two parts of one group."""
    if first.position.lineage != second.position.lineage or first.position.epoch != second.position.epoch:
        raise Unavailable(f"another lineage began in {name} between two transactions of one group: try again")
    verdicts: list[Verdict] = [*first.verdicts, *second.verdicts]
    if not second.records:
        return Committed(verdicts, first.before, first.records, first.position)
    if first.records and second.before == first.position.revision:
        return Committed(verdicts, first.before, [*first.records, *second.records], second.position)
    return Committed(verdicts, second.before, second.records, second.position)
