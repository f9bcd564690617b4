"""The records that one query wants of a snapshot, and what was fetched, as the snapshot that it is answered from."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
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


ABOVE_FETCH = 8
"""How many records are looked at in a row to tell a damaged one from another history: one that is not damaged does."""


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

    def take(self, records: Sequence[Record], reach: int) -> int:
        """Take what comes next in the log, which is complete up to the revision `reach`.

        Returns the bytes of values that were added to `found`.
        """
        before = self._bytes
        for at in range(bisect_right(records, self.cursor, key=attrgetter("version")), len(records)):
            record = records[at]
            if self._covers(record):
                self.done = len(self.found) >= self._limit or self._bytes >= self._limit_bytes
                self.found.append(record)
                self._bytes += len(record.cbor or b"")
                if self.done:
                    break
        self.cursor = reach
        self.done = self.done or reach >= REVISION_MAX
        return self._bytes - before

    def _covers(self, record: Record) -> bool:
        if record.deleted and not self._tombstones:
            return False
        return ALL in self._prefixes or any(prefix in self._prefixes for prefix in prefixes_of(record.topic))


class QueryDemand:
    """A query, the part of its page that is known by name and fetched by version, and the scans of the log it needs.

    `own` are the topics asked for that are newer than what the asker holds. Those `above` are older: the asker has seen
    another history, unless the record is damaged, so these are looked at first.
    """

    def __init__(
        self, query: Query, index: NameIndex, named: Sequence[Triple], own: Sequence[Entry], above: Sequence[Entry]
    ) -> None:
        self.query = query
        self.named = frozenset(named)
        self.scans: dict[Triple, LogScan] = {}
        self.horizon = 0
        """No record above this version is needed."""
        self._ended = self._rewound = False
        self._above = deque(above)
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
        return self._rewound or (self._ended and not self._above and all(scan.done for scan in self.scans.values()))

    def ask(self, mean_bytes: int, room: int) -> list[Entry]:
        """Return what records to fetch next, estimated from the mean size of a record; 0: not known."""
        if self._above:
            return [entry for entry in islice(self._above, ABOVE_FETCH) if _is_fetched(entry)]
        if self._ended:
            return []
        wanted = FIRST_FETCH
        if mean_bytes:
            wanted = max(1, min(FETCH_MAX, (self.query.limit_bytes - self._taken_bytes) // mean_bytes + 2))
        wanted = min(wanted, self.query.limit + 1 - self._taken, room)
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
        while self._above and not self._rewound:
            entry = self._above[0]
            record = records.get(entry.version)
            if record is None and _is_fetched(entry):
                return
            self._rewound = record is None or (record.topic == entry.topic and not record.unreadable)
            self._above.popleft()
        while self._asked and not self._ended:
            entry = self._asked[0]
            if _is_fetched(entry):
                record = records.get(entry.version)
                if record is None:
                    return
                # The page may pass over a tombstone, and may name a damaged one elsewhere: only a value uses it up.
                if record.cbor is not None and record.topic == entry.topic:
                    self._ended = self._taken >= self.query.limit or self._taken_bytes >= self.query.limit_bytes
                    self._taken += 1
                    self._taken_bytes += len(record.cbor)
            self.horizon = entry.version
            self._asked.popleft()
        if not self._ended:
            following = next(self._entries, None)
            if following is None:
                self._ended, self.horizon = True, REVISION_MAX
            else:
                self._asked.append(following)


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
                if live and version not in self._records and version > self._demand.horizon:
                    return
                yield self._record(topic, version, live=live)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after`, in version order, as far as a page can reach."""
        if (prefix, after, tombstones) not in self._demand.named:
            found = self._demand.scans[prefix, after, tombstones].found
            yield from (record for record in found if prefix == ALL or record.topic.startswith(prefix))
            return
        for version, live, topic, readable in self._index.under(prefix, after):
            if version > self._demand.horizon:
                return
            if not readable:
                yield Record(topic, version, None, unreadable=True)
            elif live or tombstones:
                yield self._record(topic, version, live=live)

    def _record(self, topic: str, version: int, *, live: bool) -> Record:
        if not live:
            return Record(topic, version, None)
        record = self._records[version]
        return record if record.topic == topic else Record(topic, version, None, unreadable=True)
