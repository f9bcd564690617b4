"""Reading from one snapshot of etcd: the head first, then all that belongs to it, at the same revision of etcd's.

etcd keeps its history for a while, so a snapshot needs no transaction that stays open: the first answer tells etcd's
revision, and every later range asks for that one. When etcd has compacted it meanwhile, `SnapshotGone` is raised, and
the caller starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from softstate.errors import StoreRefused, StoreRewound
from softstate.model import PAGE_BYTES_MAX, Query, Record
from softstate.names import ALL, covers
from softstate.position import REVISION_MAX, Position
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import TXN_OPS_MAX, KeyValue, Op, RangeAnswer, get, span, span_last
from softstate.store.etcd.schema import Data, Layout, StoredHead, read_head, read_record, read_topic, version_of
from softstate.store.limits import NEAR_HEAD
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.history import check_seen
from softstate.store.rules.judge import TopicState
from softstate.store.rules.paging import scans_of

FIRST_FETCH = 64
"""How many records the first request of a page asks for, their size being unknown."""

FETCH_MAX = 512
"""How many records one request asks for at most: etcd limits an answer by number, never by size."""

FETCH_BYTES = 1024 * 1024
"""How many bytes of values one request should bring, estimated from the records received so far."""

PREFIX_TOPICS_MAX = 8_192
"""A prefix with more topics than this is read in version order, passing over what it does not cover."""


@dataclass(slots=True)
class EtcdSnapshot:
    """A snapshot, with the answers to the operations that it was begun with, and lineages by revision.

    `at` is its revision in etcd. Every method raises `SnapshotGone`, and what `Gateway.call` raises.
    """

    gateway: Gateway
    connection: Connection
    data: Data
    stored: StoredHead
    at: int
    answers: Sequence[RangeAnswer]
    lineage_of: dict[int, str | None]

    @property
    def position(self) -> Position:
        """The newest commit."""
        return self.stored.head.position

    def fetched(
        self,
        *,
        rows: Sequence[Position] = (),
        versions: Mapping[str, int] | None = None,
        records: Iterable[Record] = (),
        scans: Mapping[tuple[str, int, bool], Sequence[Record]] | None = None,
    ) -> FetchedSnapshot:
        """Return what was fetched as a snapshot for the pure functions."""
        return FetchedSnapshot(
            self.position,
            self.stored.head.floor,
            lineage_of=self.lineage_of,
            rows=rows,
            versions=versions,
            records=records,
            scans=scans,
        )

    async def ranges(self, ops: Sequence[Op]) -> list[RangeAnswer]:
        """Read more of the same snapshot, `TXN_OPS_MAX` ranges in a request."""
        found: list[RangeAnswer] = []
        for begin in range(0, len(ops), TXN_OPS_MAX):
            part = [{"request_range": op["request_range"] | {"revision": self.at}} for op in ops[begin:][:TXN_OPS_MAX]]
            answer = await self.gateway.txn(self.connection, part)
            found += [one.response_range for one in answer.responses]
        return found

    async def add_lineages(self, revisions: Iterable[int]) -> None:
        """EtcdSnapshot up the lineage in force at each revision, unless the head says it."""
        wanted = [revision for revision in dict.fromkeys(revisions) if revision not in self.lineage_of]
        asked = [revision for revision in wanted if revision < self.stored.head.since]
        for revision in wanted:
            self.lineage_of[revision] = self.position.lineage if revision <= self.position.revision else None
        for revision, answer in zip(asked, await self.ranges([lineage_op(self.data, r) for r in asked]), strict=True):
            self.lineage_of[revision] = lineage_in(answer)


async def begin_snapshot(
    gateway: Gateway,
    connection: Connection,
    layout: Layout,
    seen: tuple[Position, str],
    *,
    lineages: Collection[int] = (),
    ops: Callable[[Data], Sequence[Op]] = lambda _data: (),
) -> EtcdSnapshot:
    """Begin a snapshot: read the head, the lineages at these revisions, and `ops`, which may be many, in one go.

    `seen` is the highest position met before, noted before the call, with the generation that it was met in. Raises
    `StoreRewound` when it is not on the history, `StoreRefused`, and what the methods of `EtcdSnapshot` raise.
    """
    position, generation = seen
    revisions = list(dict.fromkeys([position.revision, *lineages]))
    while True:
        data = layout.data(generation)
        first = [get(layout.head), *(lineage_op(data, revision) for revision in revisions), *ops(data)]
        answer = await gateway.txn(connection, first[:TXN_OPS_MAX])
        found = [one.response_range for one in answer.responses]
        if not found[0].kvs:
            raise StoreRewound(f"{gateway.name} was wiped, or its namespace deleted, while it was open: reopen it")
        stored = read_head(found[0].kvs[0].value, gateway.name)
        if stored.head.generation == generation:
            break
        # Another store has adopted a copy since: the data are in another generation.
        generation = stored.head.generation
    snapshot = EtcdSnapshot(gateway, connection, data, stored, answer.header.revision, (), {})
    found += await snapshot.ranges(first[TXN_OPS_MAX:])
    above = 1 + len(revisions)
    snapshot.lineage_of = {
        revision: lineage_in(one) if revision <= stored.head.revision else None
        for revision, one in zip(revisions, found[1:above], strict=True)
    }
    snapshot.answers = found[above:]
    check_seen(position, snapshot.fetched())
    return snapshot


def lineage_op(data: Data, revision: int) -> Op:
    """Read the lineage row in force at a revision, if that is not above the head."""
    return span_last(data.at("lineage", 0), data.at("lineage", revision + 1))


def lineage_in(answer: RangeAnswer) -> str | None:
    """Return the nonce that `lineage_op` has found."""
    return answer.kvs[0].value.decode() if answer.kvs else None


def rows_in(answer: RangeAnswer, epoch: str) -> list[Position]:
    """Return lineage rows as the positions that they begin."""
    return [Position(epoch, kv.value.decode(), version_of(kv.key)) for kv in answer.kvs]


class PageBudget:
    """How much a page still takes: `limit` records or `limit_bytes` of values, and one more, to know of a next page."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.spent = False
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._taken = self._taken_bytes = 0
        self._seen = self._seen_bytes = 0

    def fetch_size(self) -> int:
        """Return how many records to ask for next, estimated from the size of those received."""
        if not self._seen:
            return min(FIRST_FETCH, self._limit + 1)
        return max(1, min(FETCH_MAX, FETCH_BYTES * self._seen // max(1, self._seen_bytes)))

    def count(self, record: Record, *, take: bool) -> None:
        """Count a record received, whether the page takes it or not."""
        size = len(record.cbor or b"")
        self._seen += 1
        self._seen_bytes += size
        if take:
            self.spent = self._taken >= self._limit or self._taken_bytes >= self._limit_bytes
            self._taken += 1
            self._taken_bytes += size


def log_op(data: Data, after: int, limit: int) -> Op:
    """Read the first records above a version, in version order."""
    return span(*data.between("log", after, REVISION_MAX), limit=limit)


async def scan_log(
    snapshot: EtcdSnapshot,
    prefix: str,
    after: int,
    *,
    tombstones: bool,
    budget: PageBudget,
    kvs: Sequence[KeyValue] | None = None,
) -> list[Record]:
    """Read records under a prefix above a version from the log until the budget is spent.

    `kvs` is the answer to `log_op` for the first request, if that was made already.
    """
    found: list[Record] = []
    asked = budget.fetch_size()
    while True:
        if kvs is None:
            asked = budget.fetch_size()
            kvs = (await snapshot.ranges([log_op(snapshot.data, after, asked)]))[0].kvs
        for record in (read_record(kv.key, kv.value) for kv in kvs):
            after = record.version
            take = covers(prefix, record.topic) and (tombstones or not record.deleted)
            budget.count(record, take=take)
            if take:
                found.append(record)
            if budget.spent:
                return found
        if len(kvs) < asked:
            return found
        kvs = None


async def load(snapshot: EtcdSnapshot, states: Mapping[str, TopicState], budget: PageBudget) -> list[Record]:
    """Read records in version order until the budget is spent. Tombstones need no reading."""
    waiting = sorted(states.items(), key=lambda item: item[1].version)
    found: list[Record] = []
    while waiting and not budget.spent:
        part, waiting = waiting[: (asked := budget.fetch_size())], waiting[asked:]
        live = [state.version for _, state in part if state.live]
        answers = await snapshot.ranges([get(snapshot.data.at("log", version)) for version in live])
        records = {record.version: record for answer in answers for record in (_record(kv) for kv in answer.kvs)}
        for topic, state in part:
            if state.live and state.version not in records:
                raise StoreRefused(
                    f"{snapshot.gateway.name} is damaged: the record of {topic!r} at {state.version} was deleted from"
                    " below its namespace; restore a backup"
                )
            record = records[state.version] if state.live else Record(topic, state.version, None)
            # The caller may pass over a tombstone, so it does not use up the budget.
            budget.count(record, take=state.live)
            found.append(record)
    return found


def _record(kv: KeyValue) -> Record:
    return read_record(kv.key, kv.value)


def topics_in(topics: Iterable[str], answers: Iterable[RangeAnswer]) -> dict[str, TopicState]:
    """Return the state of topics that were asked for one by one; those without a record are left out."""
    return {topic: read_topic(answer.kvs[0].value) for topic, answer in zip(topics, answers, strict=True) if answer.kvs}


async def scan(
    snapshot: EtcdSnapshot, prefix: str, after: int, *, tombstones: bool, budget: PageBudget
) -> list[Record]:
    """Read records under a prefix above a version, in version order, until the budget is spent."""
    if prefix != ALL and snapshot.position.revision - after > NEAR_HEAD:
        begins, ends = snapshot.data.under(prefix)
        (answer,) = await snapshot.ranges([span(begins, ends, limit=PREFIX_TOPICS_MAX + 1)])
        if len(answer.kvs) <= PREFIX_TOPICS_MAX:
            root = len(snapshot.data.table("topic"))
            states = {kv.key[root:].decode(): read_topic(kv.value) for kv in answer.kvs}
            wanted = {
                topic: state for topic, state in states.items() if state.version > after and (tombstones or state.live)
            }
            return await load(snapshot, wanted, budget)
    return await scan_log(snapshot, prefix, after, tombstones=tombstones, budget=budget)


async def fetch(snapshot: EtcdSnapshot, group: Sequence[Query], states: Mapping[str, TopicState]) -> FetchedSnapshot:
    """Fetch what `answer` may ask for when it answers these queries."""
    records: dict[int, Record] = {}
    scans: dict[tuple[str, int, bool], Sequence[Record]] = {}
    budgets: dict[tuple[str, int, bool], tuple[int, int]] = {}
    for query in group:
        wanted = {
            topic: states[topic]
            for topic, held in query.topics.items()
            if topic in states and states[topic].version > max(held, query.after)
        }
        for record in await load(snapshot, wanted, PageBudget(query.limit, query.limit_bytes)):
            records[record.version] = record
        for triple in scans_of(query, snapshot.stored.head.floor):
            limit, limit_bytes = budgets.get(triple, (0, 0))
            budgets[triple] = (max(limit, query.limit), max(limit_bytes, query.limit_bytes))
    for (prefix, after, tombstones), limits in budgets.items():
        found = await scan(snapshot, prefix, after, tombstones=tombstones, budget=PageBudget(*limits))
        scans[prefix, after, tombstones] = found
    versions = {topic: state.version for topic, state in states.items()}
    return snapshot.fetched(versions=versions, records=records.values(), scans=scans)


async def fetch_feed(snapshot: EtcdSnapshot, after: int, limit: int) -> FetchedSnapshot:
    """Fetch what `feed_page` asks for. The snapshot was begun with `feed_ops` and the lineage at `after`."""
    log, lineage = snapshot.answers
    budget = PageBudget(limit, PAGE_BYTES_MAX)
    found = await scan_log(snapshot, ALL, after, tombstones=True, budget=budget, kvs=log.kvs)
    rows = rows_in(lineage, snapshot.position.epoch)
    for record in found[-2:]:
        newest = next(
            (row.lineage for row in reversed(rows) if row.revision <= record.version), snapshot.lineage_of[after]
        )
        snapshot.lineage_of[record.version] = newest
    return snapshot.fetched(rows=rows, scans={(ALL, after, True): found})


def feed_ops(data: Data, after: int, limit: int) -> list[Op]:
    """Read the first records above a revision, and all lineage rows above it."""
    first = PageBudget(limit, PAGE_BYTES_MAX).fetch_size()
    return [log_op(data, after, first), span(*data.between("lineage", after, REVISION_MAX))]
