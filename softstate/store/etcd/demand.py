"""Answering a group of queries: one union of what they want, fetched from one snapshot, then each answered in memory.

A call to etcd costs a round trip, and clients that come back after a crash ask for much the same. So the group is read
in steps, each with as few calls as etcd's limit of `TXN_OPS_MAX` operations allows: the head, the states of all topics
named and the sizes of all prefixes; the states under the widest prefixes; then the records, of all queries together, in
version order, until each query has a page. (Nested transactions would hold more operations. But etcd takes one for a
write then, and has it agreed on and logged.)

Memory is bounded: `first_part` cuts a group by names, and when the records held reach `HELD_BYTES_MAX`, the queries
that are complete are answered, and the others from another snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import trio

from softstate.errors import Rewound
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import REVISION_MAX
from softstate.store.etcd.messages import TXN_OPS_MAX, KeyValue, Op, get, span
from softstate.store.etcd.name_index import PREFIX_TOPICS_MAX, TURN_ENTRIES, Entry, NameIndex
from softstate.store.etcd.query_demand import (
    EntryScan,
    HistoryCheck,
    LogScan,
    QueryDemand,
    QueryView,
    Triple,
    named_entries,
)
from softstate.store.etcd.rows import record_at, version_in
from softstate.store.etcd.schema import Data
from softstate.store.etcd.snapshot import FIRST_FETCH, EtcdSnapshot, Turn, log_op, records_in, topics_in
from softstate.store.limits import NEAR_HEAD
from softstate.store.rules.judge import TopicState
from softstate.store.rules.paging import answer, scans_of

NAMES_MAX = 2_048
"""How many names the queries have together that are answered from one snapshot, unless one query alone has more."""

ENTRIES_MAX = 32_768
"""How many topics under prefixes are looked at in one snapshot. Prefixes of one query beyond it are read as those with
more than `PREFIX_TOPICS_MAX` topics are."""

HELD_BYTES_MAX = 16 * 1024 * 1024
"""How many bytes of values are held for one snapshot before what is complete is answered."""

ROUND_RECORDS_MAX = 2 * TXN_OPS_MAX
"""How many records are asked for by version, and how many of the log, before it is looked which queries are complete.

As many of the largest values are below `softstate.store.etcd.connection.ANSWER_BYTES_MAX`, in base64."""

ROUND_BYTES = 1024 * 1024
"""How many bytes of values that should bring at most, estimated from the records received so far."""

LOG_RANGES_MAX = 8
"""How many ranges of the log are read in a row."""


def first_part(group: Sequence[Query]) -> Sequence[Query]:
    """Return the first queries of a group, of up to `NAMES_MAX` names together, or one."""
    names = set[str]()
    for at, query in enumerate(group):
        names |= query.topics.keys() | query.prefixes.keys()
        if at and len(names) > NAMES_MAX:
            return group[:at]
    return group


def same_query(query: Query) -> object:
    """Return a key that equal queries share, so that they are answered once."""
    topics, prefixes = tuple(query.topics.items()), tuple(query.prefixes.items())
    limits = query.limit, query.limit_bytes, query.limit_cost
    return topics, prefixes, query.witness, query.after, query.listed, limits


class Names:
    """The names that a part of a group asks about, as they are asked for with the head of a snapshot.

    `head` is where the head was last seen: a prefix that is known up to near there will be read from the log, and its
    topics need not be counted.
    """

    def __init__(self, group: Sequence[Query], head: int) -> None:
        self.topics = list(dict.fromkeys(topic for query in group for topic in query.topics))
        self.prefixes = list(
            dict.fromkeys(
                prefix
                for query in group
                for prefix, since in query.prefixes.items()
                if prefix != ALL and _by_name(since, max(query.after, since), head)
            )
        )

    def ops(self, data: Data) -> list[Op]:
        """Read the states of the topics, and count the topics under the prefixes."""
        states = [get(data.topic(topic)) for topic in self.topics]
        return states + [count_op(data, prefix) for prefix in self.prefixes]

    async def found(self, snapshot: EtcdSnapshot) -> tuple[dict[str, TopicState], dict[str, int]]:
        """Return the states of topics, and the counts of prefixes, of a snapshot that was begun with `ops`."""
        states: dict[str, TopicState] = {}
        for at in range(0, len(self.topics), TURN_ENTRIES):
            part = self.topics[at : at + TURN_ENTRIES]
            states |= topics_in(part, snapshot.answers[at : at + len(part)], snapshot.position.revision)
            await trio.lowlevel.checkpoint()
        counts = (found.count for found in snapshot.answers[len(self.topics) :])
        return states, dict(zip(self.prefixes, counts, strict=True))


def _by_name(since: int, after: int, head: int) -> bool:
    """Tell whether a prefix is looked up by name: a list from 0, which must miss nothing, or changes since long ago."""
    return not since or not after or head - after > NEAR_HEAD


def count_op(data: Data, prefix: str) -> Op:
    """Count the topics under a prefix, tombstones included."""
    return span(*data.under(prefix), count_only=True)


class Demand:
    """The records that a part of a group wants of one snapshot."""

    def __init__(self, snapshot: EtcdSnapshot, states: Mapping[str, TopicState], counts: Mapping[str, int]) -> None:
        self._snapshot = snapshot
        self._states = states
        self._counts = {ALL: snapshot.stored.head.topics, **counts}
        self._index = NameIndex()
        self._demands: list[QueryDemand] = []
        self._scans: dict[object, EntryScan] = {}
        self._logs: dict[object, LogScan] = {}
        self._records: dict[int, Record] = {}
        self._held_bytes = self._seen = self._seen_bytes = 0

    async def fetch(self, group: Sequence[Query]) -> None:
        """Fetch what it takes to answer at least one of the queries; raises what `EtcdSnapshot.ranges` does."""
        floor = self._snapshot.stored.head.floor
        triples = [scans_of(query, floor) for query in group]
        named = [self._named(query, some) for query, some in zip(group, triples, strict=True)]
        await self._count({prefix for some in named for prefix, _, _ in some})
        chosen = self._choose(named)
        by_name = {prefix: self._counts[prefix] for some in chosen for prefix, _, _ in some}
        await self._index.fetch(self._snapshot, by_name)
        self._demands = [self._demand(*found) for found in zip(group, triples, chosen, strict=False)]
        await self._fetch(self._demands)

    async def answers(self) -> list[Page | Rewound | None]:
        """Answer the queries that `fetch` was called with; None for those that would take too much beside others."""
        found: list[Page | Rewound | None] = []
        for demand in self._demands:
            view = QueryView(self._snapshot, self._states, demand, self._index, self._records)
            found.append(answer(demand.query, view) if demand.done else None)
            await trio.lowlevel.checkpoint()
        return found

    async def everything(self, after: int, limit: int, limit_bytes: int) -> list[Record]:
        """Read all topics above a version by name, tombstones and damaged ones too, as far as one page can reach."""
        triple = (ALL, after, True)
        query = Query(prefixes={ALL: 0}, after=after, limit=limit, limit_bytes=limit_bytes)
        await self._index.fetch(self._snapshot, {ALL: self._counts[ALL]})
        limits = limit, limit_bytes, REVISION_MAX
        scan = EntryScan(named_entries(self._index, [triple]), limits)
        demand = QueryDemand(query, HistoryCheck(()), EntryScan(iter(()), limits), {triple: scan}, {})
        await self._fetch([demand])
        view = QueryView(self._snapshot, self._states, demand, self._index, self._records)
        return list(view.scan(ALL, after, tombstones=True))

    def _named(self, query: Query, triples: Sequence[Triple]) -> list[Triple]:
        """Return what is to be looked up by name, if it is not too much."""
        head = self._snapshot.position.revision
        return [triple for triple in triples if _by_name(query.prefixes[triple[0]], triple[1], head)]

    async def _count(self, prefixes: Collection[str]) -> None:
        """Count the topics under prefixes that turn out to be known less far than their queries said."""
        unknown = [prefix for prefix in prefixes if prefix not in self._counts]
        answers = await self._snapshot.ranges([count_op(self._snapshot.data, prefix) for prefix in unknown])
        self._counts |= {prefix: found.count for prefix, found in zip(unknown, answers, strict=True)}

    def _choose(self, named: Sequence[Sequence[Triple]]) -> list[list[Triple]]:
        """Choose what is looked up by name, for as many queries as may be answered from this snapshot."""
        chosen: list[list[Triple]] = []
        counted: set[str] = set()
        entries = 0
        for some in named:
            by_name: list[Triple] = []
            for triple in sorted(some, key=lambda triple: self._counts[triple[0]]):
                prefix = triple[0]
                if self._counts[prefix] > PREFIX_TOPICS_MAX:
                    continue
                more = 0 if prefix in counted else self._counts[prefix]
                if entries + more > ENTRIES_MAX:
                    if chosen:
                        return chosen
                    continue
                entries += more
                counted.add(prefix)
                by_name.append(triple)
            chosen.append(by_name)
        return chosen

    def _demand(self, query: Query, triples: Sequence[Triple], by_name: Sequence[Triple]) -> QueryDemand:
        own = sorted(
            Entry(state.version, state.live, topic)
            for topic, held in query.topics.items()
            if (state := self._states.get(topic)) is not None and state.version > max(held, query.after)
        )
        above = [
            Entry(state.version, state.live, topic)
            for topic, held in query.topics.items()
            if (state := self._states.get(topic)) is not None and state.readable and held > state.version
        ]
        limits = query.limit, query.limit_bytes, query.limit_cost
        named: EntryScan | None = None
        if by_name:
            which = tuple(by_name), limits
            named = self._scans.get(which) or EntryScan(named_entries(self._index, by_name), limits)
            self._scans[which] = named
        others: dict[tuple[int, bool], list[str]] = {}
        for prefix, after, tombstones in triples:
            if (prefix, after, tombstones) not in by_name:
                others.setdefault((after, tombstones), []).append(prefix)
        logs: dict[Triple, LogScan] = {}
        for (after, tombstones), prefixes in others.items():
            key = frozenset(prefixes), after, tombstones, limits
            scan = self._logs.get(key) or LogScan(key[0], after, tombstones=tombstones, limits=limits)
            self._logs[key] = scan
            logs |= {(prefix, after, tombstones): scan for prefix in prefixes}
        by_triple = {} if named is None else dict.fromkeys(by_name, named)
        return QueryDemand(query, HistoryCheck(above), EntryScan(iter(own), limits), by_triple, logs)

    async def _fetch(self, demands: Sequence[QueryDemand]) -> None:
        """Fetch records until every query can be answered, or some can and enough is held."""
        while waiting := [demand for demand in demands if not demand.done]:
            if self._held_bytes > HELD_BYTES_MAX and len(waiting) < len(demands):
                return
            wanted = self._wanted(waiting)
            ranges = self._ranges()
            data = self._snapshot.data
            ops = [span(*data.between("log", first - 1, last)) for first, last in _runs(wanted)]
            answers = await self._snapshot.ranges([log_op(data, after, size) for after, size in ranges] + ops)
            for (after, size), found in zip(ranges, answers, strict=False):
                await self._read_log(after, size, found.kvs)
            await self._take(wanted, [kv for found in answers[len(ranges) :] for kv in found.kvs])
            for scan in _scans_of(waiting):
                scan.settle(self._records)
                await trio.lowlevel.checkpoint()

    async def _take(self, wanted: Mapping[int, str], kvs: Sequence[KeyValue]) -> None:
        """Keep the records that were asked for by version; one that is missing or damaged is unreadable."""
        begins, head = len(self._snapshot.data.table("log")), self._snapshot.position.revision
        values = {version_in(kv.key, begins): kv.value for kv in kvs}
        turn = Turn()
        for version, topic in wanted.items():
            await turn.over(len(values.get(version, b"")))
            record = self._records[version] = record_at(topic, version, values.get(version), head)
            self._held_bytes += self._seen_one(record)

    def _seen_one(self, record: Record) -> int:
        size = len(record.cbor or b"")
        self._seen += 1
        self._seen_bytes += size
        return size

    @property
    def _mean_bytes(self) -> int:
        """The mean size of the records received, 0 before the first."""
        return max(1, self._seen_bytes // self._seen) if self._seen else 0

    @property
    def _room(self) -> int:
        """How many records to ask for in this round."""
        return max(1, min(ROUND_RECORDS_MAX, ROUND_BYTES // self._mean_bytes)) if self._seen else FIRST_FETCH

    def _wanted(self, waiting: Sequence[QueryDemand]) -> dict[int, str]:
        """Return the records to fetch by version in this round, with their topics, those of the first queries first."""
        room = self._room
        wanted: dict[int, str] = {}
        for scan in _scans_of(waiting):
            for version, _, topic, _ in scan.ask(self._mean_bytes, room):
                if version not in self._records:
                    wanted[version] = topic
                if len(wanted) == room:
                    return wanted
        return wanted

    def _ranges(self) -> list[tuple[int, int]]:
        """List the ranges of the log to read in this round: the revision that each begins after, and its length.

        Scans that stand near each other share one.
        """
        begins: list[int] = []
        for after in sorted({scan.cursor for scan in self._logs.values() if not scan.done}):
            if not begins or after > begins[-1] + NEAR_HEAD:
                begins.append(after)
        del begins[LOG_RANGES_MAX:]
        return [(after, max(1, self._room // len(begins))) for after in begins]

    async def _read_log(self, after: int, size: int, kvs: Sequence[KeyValue]) -> None:
        """Give a range of the log to every scan that stands within it."""
        begins = len(self._snapshot.data.table("log"))
        _, ends = self._snapshot.data.between("log", after, REVISION_MAX)
        reach = REVISION_MAX
        rows = list(kvs)
        while len(kvs) == size:
            reach = max((version_in(kv.key, begins) or 0 for kv in rows), default=0)
            if reach > after:
                break
            # None but keys of others.
            kvs = (await self._snapshot.ranges([span(kvs[-1].key + b"\0", ends, limit=size)]))[0].kvs
            rows += kvs
            reach = REVISION_MAX
        records = await records_in(self._snapshot, rows)
        received = sum(map(self._seen_one, records))
        taken = 0
        for scan in self._logs.values():
            if not scan.done and after <= scan.cursor < reach:
                taken += scan.take(records, reach)
                await trio.lowlevel.checkpoint()
        # The scans share the records.
        self._held_bytes += min(taken, received)


def _scans_of(demands: Iterable[QueryDemand]) -> list[HistoryCheck | EntryScan]:
    """List what queries still fetch by version, each once, that of the first queries first."""
    scans: dict[HistoryCheck | EntryScan, None] = {}
    for demand in demands:
        scans |= dict.fromkeys((demand.history, demand.own, *demand.named.values()))
    return [scan for scan in scans if not scan.done]


def _runs(versions: Iterable[int]) -> list[tuple[int, int]]:
    """Return versions as the first and last of each run without a gap: one operation reads a run."""
    runs: list[tuple[int, int]] = []
    for version in sorted(versions):
        if runs and version == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], version
        else:
            runs.append((version, version))
    return runs
