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

from collections.abc import Mapping, Sequence

import trio

from softstate.errors import Rewound, StoreRefused
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import REVISION_MAX
from softstate.store.etcd.messages import TXN_OPS_MAX, KeyValue, Op, RangeAnswer, get, span
from softstate.store.etcd.name_index import PREFIX_TOPICS_MAX, Entry, NameIndex
from softstate.store.etcd.query_demand import LogScan, QueryDemand, QueryView, Triple
from softstate.store.etcd.schema import Data, read_record
from softstate.store.etcd.snapshot import FIRST_FETCH, EtcdSnapshot, log_op, topics_in
from softstate.store.limits import NEAR_HEAD
from softstate.store.rules.judge import TopicState
from softstate.store.rules.paging import answer, scans_of

NAMES_MAX = 4_096
"""How many names the queries have together that are answered from one snapshot, unless one query alone has more."""

ENTRIES_MAX = 32_768
"""How many topics under prefixes are looked at in one snapshot. What one query wants beyond it is read as by
`PREFIX_TOPICS_MAX`."""

HELD_BYTES_MAX = 16 * 1024 * 1024
"""How many bytes of values are held for one snapshot before what is complete is answered."""

ROUND_RECORDS_MAX = 2 * TXN_OPS_MAX
"""How many records are asked for by version, and how many of the log, before it is looked which queries are complete.

As many of the largest values are below `softstate.store.etcd.connection.ANSWER_BYTES_MAX`, in base64."""

ROUND_BYTES = 4 * 1024 * 1024
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
    return topics, prefixes, query.witness, query.after, query.listed, query.limit, query.limit_bytes


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
                if prefix != ALL and head - max(query.after, since) > NEAR_HEAD
            )
        )

    def ops(self, data: Data) -> list[Op]:
        """Read the states of the topics, and count the topics under the prefixes."""
        states = [get(data.topic(topic)) for topic in self.topics]
        return states + [count_op(data, prefix) for prefix in self.prefixes]

    def found(self, answers: Sequence[RangeAnswer]) -> tuple[dict[str, TopicState], dict[str, int]]:
        """Return the states of topics, and the counts of prefixes, from the answers to `ops`."""
        states = topics_in(self.topics, answers[: len(self.topics)])
        counts = (found.count for found in answers[len(self.topics) :])
        return states, dict(zip(self.prefixes, counts, strict=True))


def count_op(data: Data, prefix: str) -> Op:
    """Count the topics under a prefix, tombstones included."""
    return span(*data.under(prefix), count_only=True)


class Demand:
    """The records that a part of a group wants of one snapshot."""

    def __init__(self, snapshot: EtcdSnapshot, states: Mapping[str, TopicState], counts: Mapping[str, int]) -> None:
        self._snapshot = snapshot
        self._states = states
        self._counts = dict(counts)
        self._index = NameIndex()
        self._demands: list[QueryDemand] = []
        self._logs: dict[object, LogScan] = {}
        self._records: dict[int, Record] = {}
        self._held_bytes = self._seen = self._seen_bytes = 0

    async def fetch(self, group: Sequence[Query]) -> None:
        """Fetch what it takes to answer at least one of the queries; raises what `EtcdSnapshot.ranges` does."""
        floor = self._snapshot.stored.head.floor
        triples = [scans_of(query, floor) for query in group]
        await self._count(triples)
        chosen = self._choose(triples)
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

    async def _count(self, triples: Sequence[Sequence[Triple]]) -> None:
        """Count the topics under prefixes that turn out to be known less far than their queries said."""
        unknown = {
            prefix: None for some in triples for prefix, after, _ in some
            if self._far(prefix, after) and prefix not in self._counts
        }  # fmt: skip
        answers = await self._snapshot.ranges([count_op(self._snapshot.data, prefix) for prefix in unknown])
        self._counts |= {prefix: found.count for prefix, found in zip(unknown, answers, strict=True)}

    def _far(self, prefix: str, after: int) -> bool:
        return prefix != ALL and self._snapshot.position.revision - after > NEAR_HEAD

    def _choose(self, triples: Sequence[Sequence[Triple]]) -> list[list[Triple]]:
        """Choose what is looked up by name, for as many queries as may be answered from this snapshot."""
        chosen: list[list[Triple]] = []
        counted: set[str] = set()
        entries = 0
        for some in triples:
            by_name: list[Triple] = []
            for triple in sorted(some, key=lambda triple: self._counts.get(triple[0], 0)):
                prefix, after, _ = triple
                if not self._far(prefix, after) or self._counts[prefix] > PREFIX_TOPICS_MAX:
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
        demand = QueryDemand(query, self._index, by_name, own)
        shared: dict[tuple[int, bool], list[str]] = {}
        for prefix, after, tombstones in triples:
            if (prefix, after, tombstones) not in demand.named:
                shared.setdefault((after, tombstones), []).append(prefix)
        limits = query.limit, query.limit_bytes
        for (after, tombstones), prefixes in shared.items():
            key = frozenset(prefixes), after, tombstones, limits
            scan = self._logs.get(key)
            if scan is None:
                scan = self._logs[key] = LogScan(key[0], after, tombstones=tombstones, limits=limits)
            demand.scans |= {(prefix, after, tombstones): scan for prefix in prefixes}
        return demand

    async def _fetch(self, demands: Sequence[QueryDemand]) -> None:
        """Fetch records until every query can be answered, or some can and enough is held."""
        while waiting := [demand for demand in demands if not demand.done]:
            if self._held_bytes > HELD_BYTES_MAX and len(waiting) < len(demands):
                return
            versions = self._versions(waiting)
            ranges = self._ranges()
            data = self._snapshot.data
            ops = [span(*data.between("log", first - 1, last)) for first, last in _runs(versions)]
            answers = await self._snapshot.ranges([log_op(data, after, size) for after, size in ranges] + ops)
            for (after, size), found in zip(ranges, answers, strict=False):
                await self._read_log(after, size, found.kvs)
            for record in [self._received(kv) for found in answers[len(ranges) :] for kv in found.kvs]:
                self._records[record.version] = record
                self._held_bytes += len(record.cbor or b"")
            for version in versions:
                if version not in self._records:
                    raise StoreRefused(
                        f"{self._snapshot.gateway.name} is damaged: the record at {version} was deleted from below its"
                        " namespace; restore a backup"
                    )
            for demand in waiting:
                demand.settle(self._records)
                await trio.lowlevel.checkpoint()

    @property
    def _mean_bytes(self) -> int:
        """The mean size of the records received, 0 before the first."""
        return max(1, self._seen_bytes // self._seen) if self._seen else 0

    @property
    def _room(self) -> int:
        """How many records to ask for in this round."""
        return max(1, min(ROUND_RECORDS_MAX, ROUND_BYTES // self._mean_bytes)) if self._seen else FIRST_FETCH

    def _versions(self, waiting: Sequence[QueryDemand]) -> list[int]:
        """List the records to fetch by version in this round, those of the first queries first."""
        room = self._room
        versions: dict[int, None] = {}
        for demand in waiting:
            if len(versions) >= room:
                break
            asked = demand.ask(self._mean_bytes, room)
            versions |= {version: None for version in asked if version not in self._records}
        return list(versions)[:room]

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
        records = [self._received(kv) for kv in kvs]
        more = len(kvs) == size
        reach = records[-1].version if more else REVISION_MAX
        taken = 0
        for scan in self._logs.values():
            if not scan.done and after <= scan.cursor < reach:
                taken += scan.take(records, more=more)
                await trio.lowlevel.checkpoint()
        # The scans share the records.
        self._held_bytes += min(taken, sum(len(record.cbor or b"") for record in records))

    def _received(self, kv: KeyValue) -> Record:
        record = read_record(kv.key, kv.value)
        self._seen += 1
        self._seen_bytes += len(record.cbor or b"")
        return record


def _runs(versions: Sequence[int]) -> list[tuple[int, int]]:
    """Return versions as the first and last of each run without a gap: one operation reads a run."""
    runs: list[tuple[int, int]] = []
    for version in sorted(versions):
        if runs and version == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], version
        else:
            runs.append((version, version))
    return runs
