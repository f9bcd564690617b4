"""One transaction on an SQLite connection, seen as a `Snapshot`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from softstate.errors import StoreRewound
from softstate.model import Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Key
from softstate.store.limits import NEAR_HEAD, PREFIX_TOPICS_MAX
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.history import Scan
from softstate.store.rules.prefix_scan import PrefixScan
from softstate.store.rules.version_index import VersionIndex
from softstate.store.sqlite.schema import STATE

ROWS_MIN = 16
ROWS_MAX = 256
ROWS_BYTES = 64 * 1024
"""Records fetched at once: few at first, since a page may end at any of them, four times as many after each portion
whose values were smaller than `ROWS_BYTES` together."""

DIGITS_BYTES_MAX = 4096
"""A longer value is fetched by itself: as digits within JSON it would cost more than the change of hands saves."""

_COVERED = "version > ? AND +topic >= ? AND +topic < ?"
_FETCH = (
    "SELECT json_group_array(json_array(topic, version,"
    " CASE WHEN value IS NULL THEN NULL WHEN length(value) > ? THEN '' ELSE hex(value) END))"
    " FROM (SELECT topic, version, value FROM topic WHERE {} ORDER BY version LIMIT ?)"
)
_ROWS = msgspec.json.Decoder(list[tuple[str, int, str | None]])


class SqliteSnapshot:
    """The view of one transaction. Made as its first statement, it fixes the snapshot; it ends with the transaction.

    In a write transaction, `position` stays what it was before the first change. Raises `StoreRewound` when the file
    no longer holds a store at all. `index` is that of the thread that reads.
    """

    def __init__(self, connection: sqlite3.Connection, index: VersionIndex | None = None) -> None:
        self._connection = connection
        self.index = index if index is not None else VersionIndex()
        row = _state(connection)
        self.epoch: str = row[0]
        self.floor: int = row[1]
        self.keys_held: int = row[2]
        head: int = row[3]
        self._lineages: dict[int, str | None] = {}
        self._versions: dict[str, int] = {}
        """By topic; 0 for one without a record."""
        self._records: dict[int, Record] = {}
        self.position = Position(self.epoch, self._lineage_before(head) or "", head)

    def _lineage_before(self, revision: int) -> str | None:
        row = self._connection.execute(
            "SELECT nonce FROM lineage WHERE start <= ? ORDER BY start DESC LIMIT 1", (revision,)
        ).fetchone()
        return None if row is None else row[0]

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        if revision > self.position.revision:
            return None
        if revision not in self._lineages:
            self._lineages[revision] = self._lineage_before(revision)
        return self._lineages[revision]

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        rows = self._connection.execute(
            "SELECT start, nonce FROM lineage WHERE start > ? AND start <= ? ORDER BY start", (after, upto)
        )
        return [Position(self.epoch, nonce, start) for start, nonce in rows]

    @property
    def published(self) -> bool:
        """Whether anything was ever published: lineage rows alone make a head as high as there are rows."""
        rows: int = self._connection.execute("SELECT count(*) FROM lineage").fetchone()[0]
        return self.position.revision > rows

    def keys_above(self, after: int, limit: int) -> Sequence[Key]:
        """List the idempotency keys made above `after`, in revision order, `limit` at most."""
        rows = self._connection.execute(
            "SELECT topic, key, digest, version FROM idempotency WHERE version > ? ORDER BY version LIMIT ?",
            (after, limit),
        )
        return [Key(*row) for row in rows]

    # Every row that a statement steps to hands the interpreter lock over and takes it back, and while the event loop is
    # busy it is kept for milliseconds. So many records come as one row of JSON: a page of 1,024 takes 64 ms instead of
    # 1,280 beside a thread that never rests, and 1.3 instead of 1.9 beside none. And what one query of a group has
    # found, no other of the group looks for again: clients that poll after a crash ask for much the same.

    def damaged(self, _held: Mapping[str, int]) -> Collection[str]:
        """See `softstate.store.rules.history.Snapshot.damaged`."""
        return ()

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        known = self._versions
        missing = [topic for topic in topics if topic not in known]
        if missing:
            known.update(dict.fromkeys(missing, 0))
            (found,) = self._connection.execute(
                "SELECT json_group_object(topic, version) FROM topic WHERE topic IN (SELECT value FROM json_each(?))",
                (_json(missing),),
            ).fetchone()
            known.update(msgspec.json.decode(found))
        return {topic: version for topic in topics if (version := known[topic])}

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions, in ascending order, loading them as they are asked for."""
        known = self._records
        for some in _portions(versions):
            missing = [version for version in some if version not in known]
            if missing:
                for record in self._fetch("version IN (SELECT value FROM json_each(?))", (_json(missing),), ROWS_MAX):
                    known[record.version] = record
            yield from map(known.__getitem__, some)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after` in version order, loading values as they are asked for."""
        if prefix != ALL and self.position.revision - after > NEAR_HEAD:
            versions = self._versions_under(prefix, after)
            if len(versions) <= PREFIX_TOPICS_MAX:
                return (record for record in self.load(versions) if tombstones or not record.deleted)
        return self._scan_all(prefix, after, tombstones=tombstones)

    def scan_counted(self, scans: Sequence[Scan], cost: ReadCost) -> Iterator[Record]:
        """See `softstate.store.rules.history.CountedSnapshot.scan_counted`."""
        return PrefixScan(self, self.position.revision, self.index, cost).records(scans)

    def versions_under(self, prefix: str, limit: int) -> Sequence[int]:
        """List the versions of all records under a prefix, from the index by name, in any order; `limit` at most."""
        (found,) = self._connection.execute(
            "SELECT json_group_array(version) FROM (SELECT version FROM topic WHERE topic >= ? AND topic < ? LIMIT ?)",
            (*_range(prefix), limit),
        ).fetchone()
        return msgspec.json.decode(found, type=list[int])

    def log(self, after: int, limit: int) -> tuple[Sequence[str], Sequence[int]]:
        """List topics and versions of the next `limit` records above a revision, in version order."""
        topics, versions = self._connection.execute(
            "SELECT json_group_array(topic), json_group_array(version) FROM"
            " (SELECT topic, version FROM topic WHERE version > ? ORDER BY version LIMIT ?)",
            (after, limit),
        ).fetchone()
        return msgspec.json.decode(topics, type=list[str]), msgspec.json.decode(versions, type=list[int])

    def load_present(self, versions: Sequence[int], _prefixes: Collection[str]) -> Iterator[Record]:
        """Yield those of these versions, ascending, that are still of a record."""
        known = self._records
        missing = [version for version in versions if version not in known]
        if missing:
            for record in self._fetch("version IN (SELECT value FROM json_each(?))", (_json(missing),), len(missing)):
                known[record.version] = record
        return (known[version] for version in versions if version in known)

    def all_after(self, after: int, limit: int) -> Sequence[Record]:
        """List the next `limit` records above a revision, in version order."""
        return self._fetch("version > ?", (after,), limit)

    def _versions_under(self, prefix: str, after: int) -> list[int]:
        """List the versions above `after` under a prefix, from the index by name; one more than the limit at most."""
        # "+version" keeps SQLite from taking the rowid instead of the index.
        (found,) = self._connection.execute(
            "SELECT json_group_array(version) FROM"
            " (SELECT version FROM topic WHERE topic >= ? AND topic < ? AND +version > ? LIMIT ?)",
            (*_range(prefix), after, PREFIX_TOPICS_MAX + 1),
        ).fetchone()
        return sorted(msgspec.json.decode(found, type=list[int]))

    def _scan_all(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        # "+topic" keeps SQLite from taking the index by name, and then sorting.
        where, covered = ("version > ?", ()) if prefix == ALL else (_COVERED, _range(prefix))
        limit = ROWS_MIN
        while True:
            records = self._fetch(where, (after, *covered), limit)
            yield from (record for record in records if tombstones or not record.deleted)
            if len(records) < limit:
                return
            after = records[-1].version
            if sum(len(record.cbor or b"") for record in records) < ROWS_BYTES:
                limit = min(limit * 4, ROWS_MAX)

    def _fetch(self, where: str, parameters: Sequence[object], limit: int) -> Sequence[Record]:
        """Fetch records in version order, in one row."""
        values = (DIGITS_BYTES_MAX, *parameters, limit)
        (found,) = self._connection.execute(_FETCH.format(where), values).fetchone()
        return [
            Record(topic, version, None if digits is None else bytes.fromhex(digits) or self._value(version))
            for topic, version, digits in _ROWS.decode(found)
        ]

    def _value(self, version: int) -> bytes:
        value: bytes = self._connection.execute("SELECT value FROM topic WHERE version = ?", (version,)).fetchone()[0]
        return value


def _state(connection: sqlite3.Connection) -> tuple[str, int, int, int]:
    try:
        row: tuple[str, int, int, int] | None = connection.execute(STATE).fetchone()
    except sqlite3.OperationalError as error:
        # SQLite's generic error: the statement is right, so the tables are gone.
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        row = None
    if row is None:
        raise StoreRewound("the file was emptied, or overwritten with another database, while it was open: reopen it")
    return row


def _portions(versions: Sequence[int]) -> Iterator[Sequence[int]]:
    at, size = 0, ROWS_MIN
    while at < len(versions):
        yield versions[at : at + size]
        at += size
        size = min(size * 4, ROWS_MAX)


def _json(items: Sequence[str] | Sequence[int]) -> str:
    return msgspec.json.encode(items).decode()


def _range(prefix: str) -> tuple[str, str]:
    """Return the half-open range of names under a prefix: "0" follows "/" in UTF-8, which is how SQLite compares."""
    return prefix, prefix[:-1] + "0"
