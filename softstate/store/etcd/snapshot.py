"""Reading from one snapshot of etcd: the head first, then all that belongs to it, at the same revision of etcd's.

etcd keeps its history for a while, so a snapshot needs no transaction that stays open: the first answer tells etcd's
revision, and every later range asks for that one. When etcd has compacted it meanwhile, `SnapshotGone` is raised, and
the caller starts over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from softstate.errors import StoreRewound
from softstate.model import PAGE_BYTES_MAX, Record
from softstate.names import ALL, covers
from softstate.position import REVISION_MAX, Position
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import TXN_OPS_MAX, KeyValue, Op, RangeAnswer, get, span, span_last
from softstate.store.etcd.schema import Data, Layout, StoredHead, read_head, read_record, read_topic, version_of
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.history import check_seen
from softstate.store.rules.judge import TopicState

FIRST_FETCH = 32
"""How many records the first request of a page asks for, their size being unknown."""

FETCH_MAX = 512
"""How many records one request asks for at most: etcd limits an answer by number, never by size."""

FETCH_BYTES = 1024 * 1024
"""How many bytes of values one request should bring, estimated from the records received so far."""

LINEAGES_MAX = 64
"""How many lineage rows are read at once to tell the lineages at several revisions."""


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

    async def add_lineages(self, revisions: Sequence[int], rows: Sequence[RangeAnswer]) -> None:
        """Note the lineage in force at each revision. `rows` are those around them, from the lowest on."""
        nonces = {version_of(kv.key): kv.value.decode() for answer in rows for kv in answer.kvs}
        starts = sorted(nonces)
        known_upto = starts[-1] if any(answer.more for answer in rows[1:]) else self.position.revision
        asked: list[int] = []
        for revision in revisions:
            self.lineage_of[revision] = None
            at = bisect_right(starts, revision)
            if known_upto < revision <= self.position.revision:
                asked.append(revision)
            elif at and revision <= self.position.revision:
                self.lineage_of[revision] = nonces[starts[at - 1]]
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
    revisions = sorted({position.revision, *lineages})
    lowest, highest = revisions[0], revisions[-1]
    while True:
        data = layout.data(generation)
        rows = [lineage_op(data, lowest), span(*data.between("lineage", lowest, highest), limit=LINEAGES_MAX)]
        first = [get(layout.head), *rows[: len(revisions)], *ops(data)]
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
    above = 1 + len(rows[: len(revisions)])
    await snapshot.add_lineages(revisions, found[1:above])
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


def topics_in(topics: Iterable[str], answers: Iterable[RangeAnswer]) -> dict[str, TopicState]:
    """Return the state of topics that were asked for one by one; those without a record are left out."""
    return {topic: read_topic(answer.kvs[0].value) for topic, answer in zip(topics, answers, strict=True) if answer.kvs}


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
