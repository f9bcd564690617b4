"""One transaction on an SQLite connection, seen as a `Snapshot`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from softstate.model import Record
from softstate.names import ALL, covers, prefixes_of
from softstate.position import Position
from softstate.store.base import Key, Publisher
from softstate.store.rules.checksum import UNRANKED
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.history import Scan
from softstate.store.rules.prefix_scan import PROBED_MAX, PrefixScan, names_below
from softstate.store.rules.version_index import VersionIndex
from softstate.store.sqlite.remembered import keys_above, publishers_above
from softstate.store.sqlite.rows import fetch, fetch_names
from softstate.store.sqlite.state import lineage_of, read_state

ROWS_MIN = 16
ROWS_MAX = 256
ROWS_BYTES = 64 * 1024
"""Records fetched at once: few at first, since a page may end at any of them, four times as many after each portion
whose values were smaller than `ROWS_BYTES` together."""

_AFTER = "version > ? AND version <= ?"
_LISTED = "version IN (SELECT value FROM json_each(?))"
_OUT_OF_RANGE = "version <= 0 OR version > ?"
_VERSIONS = (
    "SELECT json_group_array(json_array(asked.key, version))"
    " FROM json_each(?) AS asked CROSS JOIN record WHERE topic = asked.value"
)
"""Returns places in the list and no names: a damaged index has given a name that was not asked for and was no text."""

_ROWS_AFTER = "SELECT start, nonce, checksum FROM history WHERE start > ? AND start <= ? ORDER BY start"
_ROW_AT = "SELECT start, nonce, checksum FROM history WHERE start <= ? ORDER BY start DESC LIMIT 1"


class SqliteSnapshot:
    """The view of one transaction. Made as its first statement, it fixes the snapshot; it ends with the transaction.

    In a write transaction, `position` stays what it was before the first change. Raises `StoreRewound` when the file
    no longer holds a store at all, `Damaged` when what it holds beside topics cannot be trusted. `index` is that of the
    thread that reads.
    """

    def __init__(self, connection: sqlite3.Connection, index: VersionIndex | None = None) -> None:
        self._connection = connection
        self._index = index if index is not None else VersionIndex()
        self.state = read_state(connection)
        self.floor = self.state.floor
        self.position = self.state.position
        self._lineages: dict[int, str | None] = {self.state.head: self.state.lineage}
        self._versions: dict[str, int | None] = {}
        """By topic; None for one without a record. May be out of range."""
        self._names: dict[int, str] = {}
        """By version, what `versions` has found."""
        self._records: dict[int, Record] = {}
        self._unranked: list[Record] | None = None

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        if revision > self.position.revision:
            return None
        if revision not in self._lineages:
            row = self._connection.execute(_ROW_AT, (revision,)).fetchone()
            self._lineages[revision] = None if row is None else lineage_of(*row)[1]
        return self._lineages[revision]

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        rows = self._connection.execute(_ROWS_AFTER, (after, upto)).fetchall()
        return [Position(self.state.epoch, nonce, start) for start, nonce in (lineage_of(*row) for row in rows)]

    @property
    def published(self) -> bool:
        """Whether anything was ever published: lineage rows alone make a head as high as there are rows."""
        return self.position.revision > self.state.lineages

    def keys_above(self, after: int, limit: int) -> Sequence[Key]:
        """List the idempotency keys made above `after`, in revision order, `limit` at most."""
        return list(islice(keys_above(self._connection, after), limit))

    def publishers_above(self, after: int, limit: int) -> Sequence[Publisher]:
        """List the publishers touched above `after`, in that order: `limit`, and all touched with the last of them."""
        found: list[Publisher] = []
        for publisher in publishers_above(self._connection, after):
            if len(found) >= limit and publisher.touched != found[-1].touched:
                break
            found.append(publisher)
        return found

    # Each query of a group uses what those before it have found: clients that poll after a crash ask for much the same.

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record with a version that can be."""
        self._find(topics)
        head = self.position.revision
        found = ((topic, self._versions[topic]) for topic in topics)
        return {topic: version for topic, version in found if version is not None and 0 < version <= head}

    def damaged(self, held: Mapping[str, int]) -> Collection[str]:
        """Return topics whose damaged row has a version of no use: see `softstate.store.rules.history.Snapshot`."""
        self._find(held)
        found: set[str] = set()
        doubtful: list[int] = []
        head = self.position.revision
        for topic, version_held in held.items():
            version = self._versions[topic]
            if version is not None and not 0 < version <= head:
                found.add(topic)
            elif version is not None and version < version_held:
                doubtful.append(version)
        if doubtful:
            found.update(record.topic for record in self.load(sorted(doubtful)) if record.unreadable)
        return found

    def _find(self, topics: Collection[str]) -> None:
        missing = [topic for topic in topics if topic not in self._versions]
        if missing:
            self._versions.update(dict.fromkeys(missing))
            (found,) = self._connection.execute(_VERSIONS, (as_json(missing),)).fetchone()
            for place, version in msgspec.json.decode(found, type=list[tuple[int, int]]):
                topic = missing[place]
                self._versions[topic] = version
                self._names[version] = topic

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions, in ascending order, loading them as they are asked for."""
        for some in _portions(versions):
            self._load(some)
            for version in some:
                record, name = self._records.get(version), self._names.get(version)
                if name is not None and (record is None or record.topic != name):
                    # The index by name is damaged: it names a row that is another's, or is not there.
                    record = Record(name, version, None, unreadable=True)
                if record is not None:
                    yield record

    def _load(self, versions: Sequence[int]) -> None:
        missing = [version for version in versions if version not in self._records]
        if missing:
            found = fetch(self._connection, self.position.revision, _LISTED, (as_json(missing),), len(missing))
            self._records.update((version, record) for version, record in found if record is not None)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after` in version order, loading values as they are asked for."""
        if not after:
            yield from (record for record in self._unranked_records() if covers(prefix, record.topic))
        limit = ROWS_MIN
        while True:
            records = self.all_after(after, limit)
            for record in records:
                if (tombstones or not record.deleted) and covers(prefix, record.topic):
                    yield record
            if len(records) < limit:
                return
            after = records[-1].version
            if sum(len(record.cbor or b"") for record in records) < ROWS_BYTES:
                limit = min(limit * 4, ROWS_MAX)

    def _unranked_records(self) -> Sequence[Record]:
        """List the records whose version was given to no commit."""
        if self._unranked is None:
            found = fetch(self._connection, self.position.revision, _OUT_OF_RANGE, (self.position.revision,), -1)
            self._unranked = [Record(record.topic, UNRANKED, None, unreadable=True) for _, record in found if record]
        return self._unranked

    def scan_counted(self, scans: Sequence[Scan], cost: ReadCost) -> Iterator[Record]:
        """See `softstate.store.rules.history.CountedSnapshot.scan_counted`."""
        whole = {prefix for prefix, after, _ in scans if not after}
        if whole:
            for record in self._unranked_records():
                cost.add(1)
                if not whole.isdisjoint(prefixes_of(record.topic)):
                    yield record
        yield from PrefixScan(self, self.position.revision, self._index, cost).records(scans)

    def versions_under(self, prefix: str, limit: int) -> Sequence[int]:
        """List the versions of all records under a prefix, from the index by name, in any order; `limit` at most."""
        # "+version" keeps SQLite from taking the rowid instead of the index.
        (found,) = self._connection.execute(
            "SELECT json_group_array(version) FROM (SELECT version FROM record"
            " WHERE topic >= ? AND topic < ? AND +version > 0 AND +version <= ? LIMIT ?)",
            (*names_below(prefix), self.position.revision, limit),
        ).fetchone()
        return msgspec.json.decode(found, type=list[int])

    def log(self, after: int, limit: int) -> tuple[Sequence[str], Sequence[int]]:
        """List topics and versions of the next `limit` records above a revision, in version order."""
        return fetch_names(self._connection, _AFTER, (after, self.position.revision), limit)

    def load_present(self, versions: Sequence[int], prefixes: Collection[str]) -> Iterator[Record]:
        """Yield those of these versions, ascending, that are still of a record, which one of the prefixes covers."""
        self._load(versions)
        if len(prefixes) <= PROBED_MAX:
            begins = tuple("" if prefix == ALL else prefix for prefix in prefixes)
            for version in versions:
                record = self._records.get(version)
                if record is not None and record.topic.startswith(begins):
                    yield record
            return
        wanted = set(prefixes)
        for version in versions:
            record = self._records.get(version)
            if record is not None and not wanted.isdisjoint(prefixes_of(record.topic)):
                yield record

    def all_after(self, after: int, limit: int) -> Sequence[Record]:
        """List the next `limit` records above a revision, in version order; fewer only at the end."""
        records: list[Record] = []
        while True:
            asked = limit - len(records)
            found = fetch(self._connection, self.position.revision, _AFTER, (after, self.position.revision), asked)
            records += [record for _, record in found if record is not None]
            if len(found) < asked or len(records) == limit:
                return records
            after = found[-1][0]


def _portions(versions: Sequence[int]) -> Iterator[Sequence[int]]:
    at, size = 0, ROWS_MIN
    while at < len(versions):
        yield versions[at : at + size]
        at += size
        size = min(size * 4, ROWS_MAX)


def as_json(items: Sequence[str] | Sequence[int]) -> str:
    """Return a list as the JSON that SQLite's `json_each` takes."""
    return msgspec.json.encode(items).decode()
