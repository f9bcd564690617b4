"""Reading from one snapshot of etcd: the head first, then whatever belongs to it, at the same revision of etcd's.

etcd keeps its history for a while, so a snapshot needs no transaction that stays open: the first answer tells etcd's
revision, and every later range asks for that one. When etcd has compacted it meanwhile, `SnapshotGone` is raised, and
the caller begins anew.
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
from softstate.store.etcd.schema import Data, Known, Layout, read_head, read_record, read_topic, version_of
from softstate.store.limits import NEAR_HEAD
from softstate.store.remote.fetched import Fetched
from softstate.store.rules.judge import TopicState
from softstate.store.rules.paging import check_seen, scans_of

FIRST_WAVE = 64
"""How many records are asked for when their size is not known yet."""

WAVE_MAX = 512
"""How many records are asked for at once at most: etcd limits an answer by number, never by size."""

WAVE_BYTES = 1024 * 1024
"""How many bytes of values one wave should bring, going by the records that have come so far."""

PREFIX_TOPICS_MAX = 8_192
"""A prefix with more topics than this is read in version order, passing over what it does not cover."""


@dataclass(slots=True)
class Look:
    """A snapshot, and what was asked of it first: `answers` to the operations given, lineages by revision.

    `at` is etcd's revision of it. Every method raises `SnapshotGone`, and what `Gateway.call` raises.
    """

    gateway: Gateway
    connection: Connection
    data: Data
    known: Known
    at: int
    answers: Sequence[RangeAnswer]
    lineage_of: dict[int, str | None]

    @property
    def position(self) -> Position:
        """The newest commit."""
        return self.known.head.position

    def fetched(
        self,
        *,
        rows: Sequence[Position] = (),
        versions: Mapping[str, int] | None = None,
        records: Iterable[Record] = (),
        scans: Mapping[tuple[str, int, bool], Sequence[Record]] | None = None,
    ) -> Fetched:
        """Show what was brought in as a snapshot for the pure functions."""
        return Fetched(
            self.position,
            self.known.head.floor,
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
        """Look up the lineage in force at each revision, unless the head tells."""
        wanted = [revision for revision in dict.fromkeys(revisions) if revision not in self.lineage_of]
        asked = [revision for revision in wanted if revision < self.known.head.since]
        for revision in wanted:
            self.lineage_of[revision] = self.position.lineage if revision <= self.position.revision else None
        for revision, answer in zip(asked, await self.ranges([lineage_op(self.data, r) for r in asked]), strict=True):
            self.lineage_of[revision] = lineage_in(answer)


async def begin(
    gateway: Gateway,
    connection: Connection,
    layout: Layout,
    seen: tuple[Position, str],
    *,
    lineages: Collection[int] = (),
    ops: Callable[[Data], Sequence[Op]] = lambda _data: (),
) -> Look:
    """Begin a snapshot: read the head, the lineages at these revisions, and `ops`, which may be many, in one go.

    `seen` is the highest position met before, noted before the call, with the generation that it was met in. Raises
    `StoreRewound` when it is not on the history, `StoreRefused`, and what the methods of `Look` raise.
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
        known = read_head(found[0].kvs[0].value, gateway.name)
        if known.head.generation == generation:
            break
        # Another store has adopted a copy since: what was asked for lies elsewhere.
        generation = known.head.generation
    look = Look(gateway, connection, data, known, answer.header.revision, (), {})
    found += await look.ranges(first[TXN_OPS_MAX:])
    above = 1 + len(revisions)
    look.lineage_of = {
        revision: lineage_in(one) if revision <= known.head.revision else None
        for revision, one in zip(revisions, found[1:above], strict=True)
    }
    look.answers = found[above:]
    check_seen(position, look.fetched())
    return look


def lineage_op(data: Data, revision: int) -> Op:
    """Read the lineage row in force at a revision, if that is not above the head."""
    return span_last(data.at("lineage", 0), data.at("lineage", revision + 1))


def lineage_in(answer: RangeAnswer) -> str | None:
    """Return the nonce that `lineage_op` has found."""
    return answer.kvs[0].value.decode() if answer.kvs else None


def rows_in(answer: RangeAnswer, epoch: str) -> list[Position]:
    """Return lineage rows as the positions that they begin."""
    return [Position(epoch, kv.value.decode(), version_of(kv.key)) for kv in answer.kvs]


class Appetite:
    """How much a page still takes: `limit` records or `limit_bytes` of values, and one more, to tell of a next page."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.sated = False
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._taken = self._taken_bytes = 0
        self._met = self._met_bytes = 0

    def wave(self) -> int:
        """Return how many records to ask for next, going by the size of those that have come."""
        if not self._met:
            return min(FIRST_WAVE, self._limit + 1)
        return max(1, min(WAVE_MAX, WAVE_BYTES * self._met // max(1, self._met_bytes)))

    def meet(self, record: Record, *, take: bool) -> None:
        """Note a record that has come, whether the page takes it or not."""
        size = len(record.cbor or b"")
        self._met += 1
        self._met_bytes += size
        if take:
            self.sated = self._taken >= self._limit or self._taken_bytes >= self._limit_bytes
            self._taken += 1
            self._taken_bytes += size


def log_op(data: Data, after: int, limit: int) -> Op:
    """Read the first records above a version, in version order."""
    return span(*data.between("log", after, REVISION_MAX), limit=limit)


async def scan_log(
    look: Look, prefix: str, after: int, *, tombstones: bool, appetite: Appetite, kvs: Sequence[KeyValue] | None = None
) -> list[Record]:
    """Read records under a prefix above a version from the log until the appetite is sated.

    `kvs` is the answer to `log_op` for a first wave, if that was asked for already.
    """
    found: list[Record] = []
    asked = appetite.wave()
    while True:
        if kvs is None:
            asked = appetite.wave()
            kvs = (await look.ranges([log_op(look.data, after, asked)]))[0].kvs
        for record in (read_record(kv.key, kv.value) for kv in kvs):
            after = record.version
            take = covers(prefix, record.topic) and (tombstones or not record.deleted)
            appetite.meet(record, take=take)
            if take:
                found.append(record)
            if appetite.sated:
                return found
        if len(kvs) < asked:
            return found
        kvs = None


async def load(look: Look, states: Mapping[str, TopicState], appetite: Appetite) -> list[Record]:
    """Read records in version order until the appetite is sated. Tombstones are made up: there is nothing to read."""
    waiting = sorted(states.items(), key=lambda item: item[1].version)
    found: list[Record] = []
    while waiting and not appetite.sated:
        wave, waiting = waiting[: (asked := appetite.wave())], waiting[asked:]
        live = [state.version for _, state in wave if state.live]
        answers = await look.ranges([get(look.data.at("log", version)) for version in live])
        records = {record.version: record for answer in answers for record in (_record(kv) for kv in answer.kvs)}
        for topic, state in wave:
            if state.live and state.version not in records:
                raise StoreRefused(
                    f"{look.gateway.name} is damaged: the record of {topic!r} at {state.version} was deleted from"
                    " below its namespace; restore a backup"
                )
            record = records[state.version] if state.live else Record(topic, state.version, None)
            # A tombstone may be passed over by who reads, so it sates nobody here.
            appetite.meet(record, take=state.live)
            found.append(record)
    return found


def _record(kv: KeyValue) -> Record:
    return read_record(kv.key, kv.value)


def topics_in(topics: Iterable[str], answers: Iterable[RangeAnswer]) -> dict[str, TopicState]:
    """Return where topics stand that were asked for one by one; those without a record are left out."""
    return {topic: read_topic(answer.kvs[0].value) for topic, answer in zip(topics, answers, strict=True) if answer.kvs}


async def scan(look: Look, prefix: str, after: int, *, tombstones: bool, appetite: Appetite) -> list[Record]:
    """Read records under a prefix above a version, in version order, until the appetite is sated."""
    if prefix != ALL and look.position.revision - after > NEAR_HEAD:
        begins, ends = look.data.under(prefix)
        (answer,) = await look.ranges([span(begins, ends, limit=PREFIX_TOPICS_MAX + 1)])
        if len(answer.kvs) <= PREFIX_TOPICS_MAX:
            root = len(look.data.table("topic"))
            states = {kv.key[root:].decode(): read_topic(kv.value) for kv in answer.kvs}
            wanted = {
                topic: state for topic, state in states.items() if state.version > after and (tombstones or state.live)
            }
            return await load(look, wanted, appetite)
    return await scan_log(look, prefix, after, tombstones=tombstones, appetite=appetite)


async def fetch(look: Look, group: Sequence[Query], states: Mapping[str, TopicState]) -> Fetched:
    """Bring in what `answer` may ask for when it answers these queries."""
    records: dict[int, Record] = {}
    scans: dict[tuple[str, int, bool], Sequence[Record]] = {}
    appetites: dict[tuple[str, int, bool], tuple[int, int]] = {}
    for query in group:
        wanted = {
            topic: states[topic]
            for topic, held in query.topics.items()
            if topic in states and states[topic].version > max(held, query.after)
        }
        for record in await load(look, wanted, Appetite(query.limit, query.limit_bytes)):
            records[record.version] = record
        for triple in scans_of(query, look.known.head.floor):
            limit, limit_bytes = appetites.get(triple, (0, 0))
            appetites[triple] = (max(limit, query.limit), max(limit_bytes, query.limit_bytes))
    for (prefix, after, tombstones), limits in appetites.items():
        found = await scan(look, prefix, after, tombstones=tombstones, appetite=Appetite(*limits))
        scans[prefix, after, tombstones] = found
    versions = {topic: state.version for topic, state in states.items()}
    return look.fetched(versions=versions, records=records.values(), scans=scans)


async def fetch_feed(look: Look, after: int, limit: int) -> Fetched:
    """Bring in what `feed_page` asks for. The look was begun with `feed_ops` and the lineage at `after`."""
    log, lineage = look.answers
    appetite = Appetite(limit, PAGE_BYTES_MAX)
    found = await scan_log(look, ALL, after, tombstones=True, appetite=appetite, kvs=log.kvs)
    rows = rows_in(lineage, look.position.epoch)
    for record in found[-2:]:
        newest = next((row.lineage for row in reversed(rows) if row.revision <= record.version), look.lineage_of[after])
        look.lineage_of[record.version] = newest
    return look.fetched(rows=rows, scans={(ALL, after, True): found})


def feed_ops(data: Data, after: int, limit: int) -> list[Op]:
    """Read the first records above a revision, and all lineage rows above it."""
    wave = Appetite(limit, PAGE_BYTES_MAX).wave()
    return [log_op(data, after, wave), span(*data.between("lineage", after, REVISION_MAX))]
