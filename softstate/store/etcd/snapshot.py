"""Reading from one snapshot of etcd: the head first, then all that belongs to it, at the same revision of etcd's.

etcd keeps its history for a while, so a snapshot needs no transaction that stays open: the first answer tells etcd's
revision, and every later range asks for that one. When etcd has compacted it meanwhile, `SnapshotGone` is raised, and
the caller starts over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import trio

from softstate.errors import StoreRefused, StoreRewound, Unavailable
from softstate.model import PAGE_BYTES_MAX, Record
from softstate.names import ALL
from softstate.position import REVISION_MAX, Position
from softstate.store.base import LAYOUT
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import TXN_OPS_MAX, KeyValue, Op, RangeAnswer, get, span, span_last
from softstate.store.etcd.rows import read_lineage, read_log, read_topic, version_in
from softstate.store.etcd.schema import Data, Head, Layout, StoredHead, damaged, layout_of, prefix_end, read_head
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.history import check_seen
from softstate.store.rules.judge import TopicState

FIRST_FETCH = 32
"""How many records the first request of a page asks for, their size being unknown."""

FETCH_MAX = 512
"""How many records one request asks for at most: etcd limits an answer by number, never by size."""

FETCH_BYTES = 1024 * 1024
"""How many bytes of values one request should bring, estimated from the records received so far."""

TURN_BYTES = 512 * 1024
"""How many bytes of values are checked in one turn of the event loop."""

RECORD_BYTES = 2_048
"""A record costs as much as so many bytes of its value."""

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

    async def add_lineages(self, revisions: Sequence[int], answers: Sequence[RangeAnswer]) -> None:
        """Note the lineage in force at each revision. `answers` have the rows around them, from the lowest on."""
        rows = [kv for answer in answers for kv in answer.kvs]
        found = await self.lineage_rows(rows)
        if len(found) < len(rows) or any(answer.more for answer in answers[1:]):
            # Keys of others lie among them, or they are many.
            found = await self._all_lineages()
        for revision in revisions:
            at = bisect_right(found, revision, key=attrgetter("revision"))
            known = at and revision <= self.position.revision
            self.lineage_of[revision] = found[at - 1].lineage if known else None

    async def lineage_rows(self, kvs: Sequence[KeyValue]) -> list[Position]:
        """Return lineage rows as the positions that they begin, without keys of others.

        Raises `Unavailable` when one is damaged or gone.
        """
        rows = lineage_rows(self.data, self.position, kvs)
        if len(rows) < len(kvs):
            await self._all_lineages()
        return rows

    async def _all_lineages(self) -> list[Position]:
        table = self.data.table("lineage")
        (answer,) = await self.ranges([span(table, prefix_end(table))])
        rows = lineage_rows(self.data, self.position, answer.kvs)
        try:
            check_lineages(rows, self.stored.head, self.gateway.name)
        except StoreRefused as error:
            raise Unavailable(str(error)) from None
        return rows


def lineage_rows(data: Data, head: Position, kvs: Sequence[KeyValue]) -> list[Position]:
    """Return lineage rows as the positions that they begin, without keys of others and damaged ones."""
    begins = len(data.table("lineage"))
    rows: list[Position] = []
    for kv in kvs:
        revision = version_in(kv.key, begins)
        if revision is not None and 0 < revision <= head.revision:
            nonce = read_lineage(revision, kv.value)
            if nonce is not None:
                rows.append(Position(head.epoch, nonce, revision))
    return rows


def check_lineages(rows: Sequence[Position], head: Head, name: str) -> None:
    """Raise `StoreRefused` unless `rows` are all that were written: a damaged one is not told from a key of others."""
    newest = (rows[-1].revision, rows[-1].lineage) if rows else None
    if len(rows) != head.rows or newest != (head.since, head.lineage):
        raise damaged(name, f"{head.rows} lineage rows were written and {len(rows)} are there")


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
    `StoreRewound` when it is not on the history, `Unavailable` when head or lineage are damaged or another release has
    changed the layout, and what the methods of `EtcdSnapshot` raise.
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
        stored = read_open_head(found[0].kvs[0].value, gateway.name)
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


def read_open_head(raw: bytes, name: str) -> StoredHead:
    """Decode the head of a store that is open. Raises `Unavailable`, with what to do, for one that is of no use."""
    layout = layout_of(raw)
    if layout is not None and layout != LAYOUT:
        raise Unavailable(
            f"{name}: its layout changed to {layout} while it was open: stop this node, and install the softstate that"
            " has changed it"
        )
    try:
        return read_head(raw, name)
    except StoreRefused as error:
        raise Unavailable(str(error)) from None


def lineage_op(data: Data, revision: int) -> Op:
    """Read the lineage row in force at a revision, if that is not above the head."""
    return span_last(data.at("lineage", 0), data.at("lineage", revision + 1))


class PageBudget:
    """The room left in a page: `limit` records or `limit_bytes` of values, and one more, to know of a next page."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.spent = False
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._taken = self._taken_bytes = 0

    def fetch_size(self) -> int:
        """Return how many records to ask for next, estimated from the size of those received."""
        if not self._taken:
            return min(FIRST_FETCH, self._limit + 1)
        return max(1, min(FETCH_MAX, FETCH_BYTES * self._taken // max(1, self._taken_bytes)))

    def count(self, record: Record) -> None:
        """Count a record received."""
        self.spent = self._taken >= self._limit or self._taken_bytes >= self._limit_bytes
        self._taken += 1
        self._taken_bytes += len(record.cbor or b"")


def log_op(data: Data, after: int, limit: int) -> Op:
    """Read the first records above a version, in version order."""
    return span(*data.between("log", after, REVISION_MAX), limit=limit)


class Turn:
    """The time that checking records may take before other tasks get theirs, in bytes of values."""

    def __init__(self) -> None:
        self._bytes = 0

    async def over(self, size: int) -> None:
        """Count a record that is checked next; let others run if there were enough."""
        self._bytes += size + RECORD_BYTES
        if self._bytes > TURN_BYTES:
            self._bytes = 0
            await trio.lowlevel.checkpoint()


async def records_in(snapshot: EtcdSnapshot, kvs: Sequence[KeyValue]) -> list[Record]:
    """Decode rows of the log, without keys of others.

    A damaged row may name another topic than its own: it counts only if the row of that topic leads back to it.
    """
    begins, head = len(snapshot.data.table("log")), snapshot.position.revision
    found: list[Record] = []
    turn = Turn()
    for kv in kvs:
        await turn.over(len(kv.value))
        version = version_in(kv.key, begins)
        record = None if version is None or not 0 < version <= head else read_log(version, kv.value, head)
        if record is not None:
            found.append(record)
    suspects = list(dict.fromkeys(record.topic for record in found if record.unreadable))
    if not suspects:
        return found
    answers = await snapshot.ranges([get(snapshot.data.topic(topic)) for topic in suspects])
    states = topics_in(suspects, answers, head)
    return [record for record in found if not record.unreadable or _leads_to(states.get(record.topic), record)]


def _leads_to(state: TopicState | None, record: Record) -> bool:
    return state is not None and (state.version == record.version or not state.readable)


async def scan_log(
    snapshot: EtcdSnapshot, after: int, budget: PageBudget, kvs: Sequence[KeyValue] | None = None
) -> list[Record]:
    """Read records above a version from the log until the budget is spent.

    `kvs` is the answer to `log_op` for the first request, if that was made already.
    """
    found: list[Record] = []
    begins, ends = snapshot.data.between("log", after, REVISION_MAX)
    asked = budget.fetch_size()
    while True:
        if kvs is None:
            asked = budget.fetch_size()
            kvs = (await snapshot.ranges([span(begins, ends, limit=asked)]))[0].kvs
        for record in await records_in(snapshot, kvs):
            budget.count(record)
            found.append(record)
            if budget.spent:
                return found
        if len(kvs) < asked:
            return found
        begins, kvs = kvs[-1].key + b"\0", None


def topics_in(topics: Iterable[str], answers: Iterable[RangeAnswer], head: int) -> dict[str, TopicState]:
    """Return the state of topics that were asked for one by one; those without a row are left out."""
    found = zip(topics, answers, strict=True)
    return {topic: read_topic(topic, answer.kvs[0].value, head) for topic, answer in found if answer.kvs}


async def fetch_feed(snapshot: EtcdSnapshot, after: int, limit: int) -> FetchedSnapshot:
    """Fetch what `feed_page` asks for. The snapshot was begun with `feed_ops` and the lineage at `after`."""
    log, lineage = snapshot.answers
    found = await scan_log(snapshot, after, PageBudget(limit, PAGE_BYTES_MAX), log.kvs)
    rows = await snapshot.lineage_rows(lineage.kvs)
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
