"""The records that one query wants of a snapshot, and what was fetched, as the snapshot that it is answered from."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TypeAlias

from softstate.model import Query, Record
from softstate.names import ALL, prefixes_of
from softstate.position import REVISION_MAX, Position
from softstate.store.etcd.name_index import Entry, NameIndex
from softstate.store.etcd.snapshot import FETCH_MAX, FIRST_FETCH, EtcdSnapshot
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.judge import TopicState

Triple: TypeAlias = tuple[str, int, bool]
"""The arguments of `Snapshot.scan`: prefix, after, tombstones."""

Limits: TypeAlias = tuple[int, int, int]
"""`limit`, `limit_bytes` and `limit_cost` of a query."""

UNCOUNTED = ReadCost()
"""The cost of a scan that no budget ends."""

ABOVE_FETCH = 8
"""How many records are looked at in a row to tell a damaged one from another history: one that is not damaged does."""


class LogScan:
    """Records under prefixes above a version, read from the log in version order until they fill a page, and one more.

    No page of a query reaches further than that.
    """

    def __init__(self, prefixes: Collection[str], after: int, *, tombstones: bool, limits: Limits) -> None:
        self.cursor = after
        self.looked_at = 0
        self.ended_early = False
        """Whether it has looked at as many records as a page may cost, and ended at `cursor`."""
        self.found: list[Record] = []
        self.done = False
        self._prefixes = prefixes
        self._tombstones = tombstones
        self._limit, self._limit_bytes, self._limit_cost = limits
        self._bytes = 0

    def take(self, records: Sequence[Record], reach: int) -> int:
        """Take what comes next in the log, which is complete up to the revision `reach`.

        Returns the bytes of values that were added to `found`.
        """
        before = self._bytes
        begins = bisect_right(records, self.cursor, key=attrgetter("version"))
        self.looked_at += len(records) - begins
        for at in range(begins, len(records)):
            record = records[at]
            if self._covers(record):
                self.done = len(self.found) >= self._limit or self._bytes >= self._limit_bytes
                self.found.append(record)
                self._bytes += len(record.cbor or b"")
                if self.done:
                    break
        self.cursor = reach
        self.ended_early = not self.done and reach < REVISION_MAX and self.looked_at >= self._limit_cost
        self.done = self.done or self.ended_early or reach >= REVISION_MAX
        return self._bytes - before

    def _covers(self, record: Record) -> bool:
        if record.deleted and not self._tombstones:
            return False
        return ALL in self._prefixes or any(prefix in self._prefixes for prefix in prefixes_of(record.topic))


class EntryScan:
    """Topics known by name, in version order, whose records are fetched until they fill a page, and one more."""

    def __init__(self, entries: Iterator[Entry], limits: Limits) -> None:
        self.done = False
        self.horizon = 0
        """No record above this version is needed."""
        self._entries = entries
        self._limit, self._limit_bytes, _ = limits
        self._asked: deque[Entry] = deque()
        self._taken = self._taken_bytes = 0

    def ask(self, mean_bytes: int, room: int) -> list[Entry]:
        """Return what records to fetch next, estimated from the mean size of a record; 0: not known."""
        if self.done:
            return []
        wanted = FIRST_FETCH
        if mean_bytes:
            wanted = max(1, min(FETCH_MAX, (self._limit_bytes - self._taken_bytes) // mean_bytes + 2))
        wanted = min(wanted, self._limit + 1 - self._taken, room)
        asked = [entry for entry in self._asked if _is_fetched(entry)]
        while len(asked) < wanted:
            entry = next(self._entries, None)
            if entry is None:
                break
            self._asked.append(entry)
            if _is_fetched(entry):
                asked.append(entry)
        return asked

    def settle(self, records: Mapping[int, Record]) -> None:
        """Count what was fetched; what was asked for and is not there yet is asked for again."""
        while self._asked and not self.done:
            entry = self._asked[0]
            if _is_fetched(entry):
                record = records.get(entry.version)
                if record is None:
                    return
                # The page may pass over a tombstone, and may name a damaged one elsewhere: only a value uses it up.
                if record.cbor is not None and record.topic == entry.topic:
                    self.done = self._taken >= self._limit or self._taken_bytes >= self._limit_bytes
                    self._taken += 1
                    self._taken_bytes += len(record.cbor)
            self.horizon = entry.version
            self._asked.popleft()
        if not self.done:
            following = next(self._entries, None)
            if following is None:
                self.done, self.horizon = True, REVISION_MAX
            else:
                self._asked.append(following)


class HistoryCheck:
    """Topics of which the asker holds a later version than is here: it has seen another history.

    Unless the record is damaged, so that its version says nothing; so the records are looked at, in the order in which
    the query names them, until one is not damaged.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.rewound = False
        self._waiting = deque(entries)

    @property
    def done(self) -> bool:
        """Whether it is known."""
        return self.rewound or not self._waiting

    def ask(self, _mean_bytes: int, room: int) -> list[Entry]:
        """Return what records to fetch next."""
        return [entry for entry in islice(self._waiting, min(ABOVE_FETCH, room)) if _is_fetched(entry)]

    def settle(self, records: Mapping[int, Record]) -> None:
        """Look at what was fetched."""
        while not self.done:
            entry = self._waiting[0]
            record = records.get(entry.version)
            if record is None and _is_fetched(entry):
                return
            self.rewound = record is None or (record.topic == entry.topic and not record.unreadable)
            self._waiting.popleft()


@dataclass(frozen=True, slots=True)
class QueryDemand:
    """A query, and what its page needs: its `own` topics, those of prefixes by name, others from the log.

    Queries share the scans of the same prefixes.
    """

    query: Query
    history: HistoryCheck
    own: EntryScan
    named: Mapping[Triple, EntryScan]
    logs: Mapping[Triple, LogScan]

    @property
    def done(self) -> bool:
        """Whether the query can be answered."""
        if self.history.rewound:
            return True
        by_name = self.own.done and all(scan.done for scan in self.named.values())
        return self.history.done and by_name and all(scan.done for scan in self.logs.values())


def named_entries(index: NameIndex, triples: Iterable[Triple]) -> Iterator[Entry]:
    """Yield the topics that scans of prefixes have, in version order, each once."""
    sources: list[Iterator[Entry]] = []
    for prefix, after, tombstones in triples:
        found = index.under(prefix, after)
        sources.append(found if tombstones else filter(attrgetter("live"), found))
    return sources[0] if len(sources) == 1 else _once(heapq.merge(*sources))


def _is_fetched(entry: Entry) -> bool:
    """Tell whether a record is to be fetched: a tombstone has nothing more to tell, a damaged row leads nowhere."""
    return entry.live and entry.readable


def _once(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Pass on entries without repetitions."""
    last: Entry | None = None
    for entry in entries:
        if entry != last:
            yield entry
        last = entry


class QueryView:
    """The records fetched for a group of queries, as the snapshot that one of them is answered from.

    Implements `softstate.store.rules.history.Snapshot`. It ends where the query's page does at the latest: at the
    `horizon` of what is known by name, else with what a scan of the log has found.
    """

    def __init__(
        self,
        snapshot: EtcdSnapshot,
        states: Mapping[str, TopicState],
        demand: QueryDemand,
        index: NameIndex,
        records: Mapping[int, Record],
    ) -> None:
        self.position = snapshot.position
        self.floor = snapshot.stored.head.floor
        self._lineage_of = snapshot.lineage_of
        self._states = states
        self._demand = demand
        self._index = index
        self._records = records
        self._names: dict[int, list[str]] = {}

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        return self._lineage_of[revision]

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """Raise KeyError: no page has lineage rows, and none were fetched."""
        raise KeyError((after, upto))

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        found = {topic: state for topic in topics if (state := self._states.get(topic)) is not None and state.readable}
        self._names = {}
        for topic, state in found.items():
            self._names.setdefault(state.version, []).append(topic)
        return {topic: state.version for topic, state in found.items()}

    def damaged(self, held: Mapping[str, int]) -> Collection[str]:
        """See `softstate.store.rules.history.Snapshot.damaged`."""
        return [topic for topic, version in held.items() if self._is_damaged(topic, version)]

    def _is_damaged(self, topic: str, held: int) -> bool:
        state = self._states.get(topic)
        if state is None or not state.readable:
            return state is not None
        record = self._records.get(state.version) if held > state.version else None
        return record is not None and (record.unreadable or record.topic != topic)

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions; damage may have made it several of one version."""
        for version in dict.fromkeys(versions):
            for topic in self._names[version]:
                live = self._states[topic].live
                if live and version not in self._records and version > self._demand.own.horizon:
                    return
                yield self._record(topic, version, live=live)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after`, in version order, as far as a page can reach."""
        yield from self._scan((prefix, after, tombstones), UNCOUNTED)

    def scan_counted(self, scans: Sequence[Triple], cost: ReadCost) -> Iterator[Record]:
        """See `softstate.store.rules.history.CountedSnapshot.scan_counted`."""
        for log in dict.fromkeys(self._demand.logs[scan] for scan in scans if scan in self._demand.logs):
            cost.add(log.looked_at)
            if log.ended_early:
                cost.end_at(log.cursor)
        sources = [self._scan(scan, cost) for scan in scans]
        return heapq.merge(*sources, key=attrgetter("version")) if len(sources) > 1 else iter(*sources)

    def _scan(self, triple: Triple, cost: ReadCost) -> Iterator[Record]:
        prefix, after, tombstones = triple
        named = self._demand.named.get(triple)
        if named is None:
            found = self._demand.logs[triple].found
            yield from (record for record in found if prefix == ALL or record.topic.startswith(prefix))
            return
        before = after
        for version, live, topic, readable in self._index.under(prefix, after):
            if version > named.horizon:
                return
            if version > before and not cost.left and before > after:
                cost.end_at(before)
                return
            before = version
            cost.add(1)
            if not readable:
                yield Record(topic, version, None, unreadable=True)
            elif live or tombstones:
                yield self._record(topic, version, live=live)

    def _record(self, topic: str, version: int, *, live: bool) -> Record:
        if not live:
            return Record(topic, version, None)
        record = self._records[version]
        return record if record.topic == topic else Record(topic, version, None, unreadable=True)
