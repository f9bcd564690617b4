"""The records that one query wants of a snapshot, and what was fetched, as the snapshot that it is answered from."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TypeAlias

from softstate.model import Query, Record
from softstate.names import ALL, prefixes_of
from softstate.position import REVISION_MAX, Position
from softstate.store.etcd.name_index import Entry, NameIndex
from softstate.store.etcd.snapshot import FETCH_MAX, FIRST_FETCH, EtcdSnapshot
from softstate.store.rules.judge import TopicState

Triple: TypeAlias = tuple[str, int, bool]
"""The arguments of `Snapshot.scan`: prefix, after, tombstones."""

_version = attrgetter("version")


class LogScan:
    """Records under prefixes above a version, read from the log in version order until they fill a page, and one more.

    No page of a query reaches further than that.
    """

    def __init__(self, prefixes: Collection[str], after: int, *, tombstones: bool, limits: tuple[int, int]) -> None:
        self.cursor = after
        self.found: list[Record] = []
        self.done = False
        self._prefixes = prefixes
        self._tombstones = tombstones
        self._limit, self._limit_bytes = limits
        self._bytes = 0

    def take(self, records: Sequence[Record], *, more: bool) -> int:
        """Take what comes next in the log; return the bytes of values that were added to `found`."""
        before = self._bytes
        begin = bisect_right(records, self.cursor, key=_version)
        for at in range(begin, len(records)):
            record = records[at]
            self.cursor = record.version
            if not self._covers(record):
                continue
            self.done = len(self.found) >= self._limit or self._bytes >= self._limit_bytes
            self.found.append(record)
            self._bytes += len(record.cbor or b"")
            if self.done:
                break
        self.done = self.done or not more
        return self._bytes - before

    def _covers(self, record: Record) -> bool:
        if record.deleted and not self._tombstones:
            return False
        return ALL in self._prefixes or any(prefix in self._prefixes for prefix in prefixes_of(record.topic))


class QueryDemand:
    """A query, the part of its page that is known by name and fetched by version, and the scans of the log it needs."""

    def __init__(self, query: Query, index: NameIndex, named: Sequence[Triple], own: Sequence[Entry]) -> None:
        self.query = query
        self.named = frozenset(named)
        self.scans: dict[Triple, LogScan] = {}
        self.horizon = 0
        """No record above this version is needed."""
        self._ended = False
        self._asked: deque[Entry] = deque()
        sources: list[Iterator[Entry]] = [iter(own)] if own or not named else []
        for prefix, after, tombstones in named:
            found = index.under(prefix, after)
            sources.append(found if tombstones else filter(attrgetter("live"), found))
        self._entries = sources[0] if len(sources) == 1 else _once(heapq.merge(*sources))
        self._taken = self._taken_bytes = 0

    @property
    def done(self) -> bool:
        """Whether the query can be answered."""
        return self._ended and all(scan.done for scan in self.scans.values())

    def ask(self, mean_bytes: int, room: int) -> list[int]:
        """Return the versions of the records to fetch next, estimated from the mean size of a record; 0: not known."""
        if self._ended:
            return []
        wanted = FIRST_FETCH
        if mean_bytes:
            wanted = max(1, min(FETCH_MAX, (self.query.limit_bytes - self._taken_bytes) // mean_bytes + 2))
        wanted = min(wanted, self.query.limit + 1 - self._taken, room)
        versions = [entry.version for entry in self._asked if entry.live]
        while len(versions) < wanted:
            entry = next(self._entries, None)
            if entry is None:
                break
            self._asked.append(entry)
            if entry.live:
                versions.append(entry.version)
        return versions

    def settle(self, records: Mapping[int, Record]) -> None:
        """Count what was fetched; what was asked for and is not there yet is asked for again."""
        while self._asked and not self._ended:
            entry = self._asked[0]
            if entry.live:
                record = records.get(entry.version)
                if record is None:
                    return
                # The page may pass over a tombstone, so only a value uses up what it takes.
                self._ended = self._taken >= self.query.limit or self._taken_bytes >= self.query.limit_bytes
                self._taken += 1
                self._taken_bytes += len(record.cbor or b"")
            self.horizon = entry.version
            self._asked.popleft()
        if not self._ended:
            following = next(self._entries, None)
            if following is None:
                self._ended, self.horizon = True, REVISION_MAX
            else:
                self._asked.append(following)


def _once(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Pass on entries without repetitions."""
    last = 0
    for entry in entries:
        if entry.version != last:
            yield entry
        last = entry.version


class QueryView:
    """The records fetched for a group of queries, as the snapshot that one of them is answered from.

    Implements `softstate.store.rules.history.Snapshot`. It ends where the query's page does at the latest: at `horizon`
    for what is known by name, else with what a scan has found.
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
        self._dead: dict[int, str] = {}

    def damaged(self, _held: Mapping[str, int]) -> Collection[str]:
        """See `softstate.store.rules.history.Snapshot.damaged`."""
        return ()

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        return self._lineage_of[revision]

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """Raise KeyError: no page has lineage rows, and none were fetched."""
        raise KeyError((after, upto))

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        found = {topic: self._states[topic] for topic in topics if topic in self._states}
        self._dead = {state.version: topic for topic, state in found.items() if not state.live}
        return {topic: state.version for topic, state in found.items()}

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions."""
        for version in versions:
            if version > self._demand.horizon:
                return
            dead = self._dead.get(version)
            yield self._records[version] if dead is None else Record(dead, version, None)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after`, in version order, as far as a page can reach."""
        if (prefix, after, tombstones) not in self._demand.named:
            found = self._demand.scans[prefix, after, tombstones].found
            yield from (record for record in found if prefix == ALL or record.topic.startswith(prefix))
            return
        for version, live, topic in self._index.under(prefix, after):
            if version > self._demand.horizon:
                return
            if live:
                yield self._records[version]
            elif tombstones:
                yield Record(topic, version, None)
