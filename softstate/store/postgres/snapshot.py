"""One transaction on a PostgreSQL connection, seen as a `Snapshot`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from softstate.errors import Unavailable
from softstate.model import PAGE_BYTES_MAX, PAGE_RECORDS_MAX, Query, Record
from softstate.names import ALL, covers, prefixes_of
from softstate.position import Position
from softstate.store.base import Key, Publisher
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.schema import DAMAGED_LINEAGE, check_meta, key_text, publisher_of
from softstate.store.rules.checksum import read_record, row_checksum
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.history import Scan
from softstate.store.rules.prefix_scan import PrefixScan, names_below
from softstate.store.rules.version_index import VersionIndex

ROWS_MAX = PAGE_RECORDS_MAX + 1
"""How many records one statement brings at most, of about `PAGE_BYTES_MAX`: a page, and one that tells `more`."""

_STATE = (
    "SELECT layout, epoch, revision, floor, keys, publishers, incarnation, meta.checksum, newest.start, newest.nonce,"
    " newest.checksum, seen.start, seen.nonce, seen.checksum, current_setting('fsync') = 'on',"
    " EXISTS (SELECT FROM inbox),"
    " (SELECT version FROM topic WHERE version < 1 ORDER BY version LIMIT 1) IS NOT NULL"
    " OR (SELECT version FROM topic WHERE version > revision ORDER BY version DESC LIMIT 1) IS NOT NULL,"
    " pg_snapshot_xmax(pg_current_snapshot())::text FROM meta"
    " LEFT JOIN LATERAL (SELECT * FROM lineage WHERE start <= revision ORDER BY start DESC LIMIT 1) AS newest ON true"
    " LEFT JOIN LATERAL (SELECT * FROM lineage WHERE start <= %s ORDER BY start DESC LIMIT 1) AS seen ON true"
)

"""With ORDER BY, not EXISTS: else the planner may walk through all topics, to find none that is out of range."""

LINEAGES = (
    "SELECT revision, start, nonce, checksum FROM unnest(%s::bigint[]) AS asked (revision) LEFT JOIN LATERAL"
    " (SELECT start, nonce, checksum FROM lineage WHERE start <= revision ORDER BY start DESC LIMIT 1) AS found ON true"
)

_BATCH = (
    "SELECT topic, version, value, checksum FROM (SELECT topic, version, value, checksum, coalesce("
    "sum(octet_length(value)) OVER (ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before"
    " FROM (SELECT topic, version, value, checksum FROM topic WHERE {} ORDER BY version LIMIT %s) AS batch) AS batch"
    " WHERE before < %s ORDER BY version"
)
"""Records in version order: so many, but none after those that have reached so many bytes (of the first always one)."""

_SHOWN = "(%s OR value IS NOT NULL OR checksum IS DISTINCT FROM checksum(topic, version, NULL))"
"""All, or all but tombstones; a value that was taken away leaves no tombstone, but a damaged record."""

_ALL = _BATCH.format(f"version > %s AND version <= %s AND {_SHOWN}")
_SOME = _BATCH.format(f"version = ANY (%s::bigint[]) AND {_SHOWN}")

_STRAYS = "SELECT topic FROM topic WHERE (version < 1 OR version > %s) AND topic >= %s AND topic < %s ORDER BY topic"
"""Damaged rows, whose version is none of this history."""

_DAMAGED = (
    "SELECT topic FROM topic WHERE topic = ANY (%s::text[])"
    " AND checksum IS DISTINCT FROM checksum(topic, version, value)"
)


def lineages_of(rows: Iterable[tuple[int, int | None, str | None, bytes | None]]) -> dict[int, str | None]:
    """Return the lineage in force at each revision that `LINEAGES` was asked for, None before the first row.

    Above the head it is the newest. Raises `Unavailable` when a row is damaged.
    """
    found: dict[int, str | None] = {}
    for revision, start, nonce, checksum in rows:
        if start is not None and nonce is not None and checksum != row_checksum(start, nonce):
            raise Unavailable(DAMAGED_LINEAGE)
        found[revision] = nonce
    return found


class PostgresSnapshot:
    """The view of one transaction. Made as its first statement, it fixes the snapshot; it ends with the transaction.

    The lineage at revision `seen` comes with it, so that `check_seen` costs nothing. `sent` tells whether the inbox
    holds anything. Raises `StoreRewound` when there is no store there at all, `Unavailable` when it is damaged or of
    another layout. `written` differs once any transaction of the server has written anything. Rows of topics that are
    damaged are records that say so, wherever they are met. `index` is that of the thread that reads.
    """

    def __init__(self, connection: Connection, seen: int, index: VersionIndex | None = None) -> None:
        self._connection = connection
        self._index = index if index is not None else VersionIndex()
        row = connection.execute(_STATE, (seen,), binary=True).fetchone()
        if row is None:
            check_meta(None, sound=None)
        assert row is not None
        layout, epoch, head, self.floor, self.keys_held, self.publishers_held, incarnation, checksum, *more = row
        self.synced, self.sent, self._has_strays, self.written = more[6:]
        parts = (layout, epoch, head, self.floor, self.keys_held, self.publishers_held, incarnation)
        check_meta(layout, sound=checksum == row_checksum(*parts))
        self._lineages = lineages_of([(head, *more[:3]), (seen, *more[3:6])])
        self.position = Position(epoch, self._lineages[head] or "", head)
        self._versions: dict[str, int] = {}
        """By topic; 0 for one without a record."""
        self._records: dict[int, Record] = {}
        self._strays: set[str] = set()
        """Those topics among `_versions` whose row has a version that is not from 1 to the head."""

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        if revision > self.position.revision:
            return None
        if revision not in self._lineages:
            self.know_lineages([revision])
        return self._lineages[revision]

    def know_lineages(self, revisions: Iterable[int]) -> None:
        """Look up the lineages in force at some revisions, all in one step."""
        missing = {revision for revision in revisions if revision not in self._lineages}
        if missing:
            self._lineages.update(lineages_of(self._connection.execute(LINEAGES, (list(missing),), binary=True)))

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        rows: Sequence[tuple[int, str, bool]] = self._connection.execute(
            "SELECT start, nonce, checksum = lineage_checksum(start, nonce) FROM lineage"
            " WHERE start > %s AND start <= %s ORDER BY start",
            (after, upto),
        ).fetchall()
        if not all(sound for _, _, sound in rows):
            raise Unavailable(DAMAGED_LINEAGE)
        return [Position(self.position.epoch, nonce, start) for start, nonce, _ in rows]

    def keys_above(self, after: int, limit: int) -> Sequence[Key]:
        """List the idempotency keys made above `after`, in revision order, `limit` at most, without damaged ones."""
        rows = self._connection.execute(
            "SELECT topic, key, digest, version FROM idempotency WHERE version > %s AND version <= %s"
            " AND checksum = key_checksum(topic, key, version, digest) ORDER BY version LIMIT %s",
            (after, self.position.revision, limit), binary=True,
        )  # fmt: skip
        return [Key(topic, key_text(key), digest, version) for topic, key, digest, version in rows]

    def publishers_above(self, after: int, limit: int) -> Sequence[Publisher]:
        """List the publishers touched above `after`, in that order, `limit` and those touched with the last of them."""
        rows = self._connection.execute(
            "SELECT publisher, settled, touched, uses FROM publisher WHERE touched > %s AND touched <= %s"
            " AND checksum = publisher_checksum(publisher, settled, touched, uses)"
            " ORDER BY touched FETCH FIRST %s ROWS WITH TIES",
            (after, self.position.revision, limit), binary=True,
        )  # fmt: skip
        return [publisher_of(row) for row in rows]

    # Each statement is a round trip. So what a group of queries asks for is fetched for all of them together, and what
    # one has found, no other looks for again: clients that poll after a crash ask for much the same.

    def foresee(self, group: Sequence[Query]) -> None:
        """Fetch in a few steps the records that the answers to a group will ask for, as many as a page may hold."""
        self.know_lineages(
            query.witness.revision for query in group if query.witness and query.witness.epoch == self.position.epoch
        )
        versions = self.versions([topic for query in group for topic in query.topics])
        wanted = {
            versions[topic]
            for query in group
            for topic, held in query.topics.items()
            if versions.get(topic, 0) > max(held, query.after)
        }
        self._fetch(sorted(wanted)[:ROWS_MAX])

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        known = self._versions
        missing = [topic for topic in topics if topic not in known]
        if missing:
            known.update(dict.fromkeys(missing, 0))
            rows = self._connection.execute(
                "SELECT topic, version FROM topic WHERE topic = ANY (%s::text[])", (missing,), binary=True
            )
            for topic, version in rows:
                if 0 < version <= self.position.revision:
                    known[topic] = version
                else:
                    self._strays.add(topic)
        return {topic: version for topic in topics if (version := known[topic])}

    def damaged(self, held: Mapping[str, int]) -> Collection[str]:
        """Return topics whose damaged row has a version of no use: none of this history, or below the one held."""
        versions = self.versions(held)
        found = {topic for topic in held if topic in self._strays}
        below = [topic for topic, version in held.items() if 0 < versions.get(topic, 0) < version]
        if below:
            found.update(topic for (topic,) in self._connection.execute(_DAMAGED, (below,)))
        return found

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions, given in ascending order."""
        for index, version in enumerate(versions):
            if version not in self._records:
                self._fetch(versions[index : index + ROWS_MAX])
            yield self._records[version]

    def _fetch(self, versions: Sequence[int]) -> None:
        """Bring the records that have these versions, as many as one statement brings, and at least the first."""
        missing = [version for version in versions if version not in self._records]
        if missing:
            records, _ = self._batch(_SOME, missing, True)
            self._records.update((record.version, record) for record in records)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after` in version order, a batch at a time."""
        if not after and self._has_strays:
            yield from self._stray_records(prefix)
        last: int | None = after
        while last is not None:
            records, last = self._batch(_ALL, last, self.position.revision, tombstones)
            yield from (record for record in records if covers(prefix, record.topic))

    def scan_counted(self, scans: Sequence[Scan], cost: ReadCost) -> Iterator[Record]:
        """See `softstate.store.rules.history.CountedSnapshot.scan_counted`."""
        whole = {prefix for prefix, after, _ in scans if not after}
        if whole and self._has_strays:
            for record in self._stray_records(ALL):
                cost.add(1)
                if not whole.isdisjoint(prefixes_of(record.topic)):
                    yield record
        yield from PrefixScan(self, self.position.revision, self._index, cost).records(scans)

    def versions_under(self, prefix: str, limit: int) -> Sequence[int]:
        """List the versions of all records under a prefix, `limit` at most.

        Without an order, for the server would rather walk through all versions than sort these few.
        """
        rows = self._connection.execute(
            "SELECT version FROM topic WHERE topic >= %s AND topic < %s AND version > 0 AND version <= %s LIMIT %s",
            (*names_below(prefix), self.position.revision, limit), binary=True,
        )  # fmt: skip
        return [version for (version,) in rows]

    def log(self, after: int, limit: int) -> tuple[Sequence[str], Sequence[int]]:
        """List topics and versions of the next `limit` records above a revision, in version order."""
        rows = self._connection.execute(
            "SELECT coalesce(topic, ''), version FROM topic WHERE version > %s AND version <= %s"
            " ORDER BY version LIMIT %s",
            (after, self.position.revision, limit), binary=True,
        ).fetchall()  # fmt: skip
        return [topic for topic, _ in rows], [version for _, version in rows]

    def load_present(self, versions: Sequence[int], prefixes: Collection[str]) -> Iterator[Record]:
        """Yield those of these versions, ascending, that are still of a record, which one of the prefixes covers."""
        missing = [version for version in versions if version not in self._records]
        while missing:
            records, last = self._batch(_SOME, missing, True)
            self._records.update((record.version, record) for record in records)
            missing = [] if last is None else missing[bisect_right(missing, last) :]
        wanted = set(prefixes)
        for version in versions:
            record = self._records.get(version)
            if record is not None and not wanted.isdisjoint(prefixes_of(record.topic)):
                yield record

    def all_after(self, after: int, limit: int) -> Sequence[Record]:
        """List the next records above a revision, in version order: `limit` at least, fewer only at the end."""
        records: list[Record] = []
        last: int | None = after
        while last is not None and len(records) < limit:
            some, last = self._batch(_ALL, last, self.position.revision, True)
            records += some
        return records

    def _stray_records(self, prefix: str) -> Iterator[Record]:
        least, beyond = ("", _BEYOND_ALL) if prefix == ALL else names_below(prefix)
        rows = self._connection.execute(_STRAYS, (self.position.revision, least, beyond), binary=True)
        for (topic,) in rows.fetchall():
            record = read_record(topic, None, None, None, self.position.revision)
            if record is not None:
                yield record

    def _batch(self, statement: str, *parameters: Any) -> tuple[list[Record], int | None]:
        """Return a batch of records, and the version after which there may be more where they come from."""
        cursor = self._connection.execute(statement, (*parameters, ROWS_MAX, PAGE_BYTES_MAX), binary=True)
        rows: list[tuple[str, int, bytes | None, bytes]] = cursor.fetchall()
        head = self.position.revision
        records = [record for row in rows if (record := read_record(*row, head)) is not None]
        full = len(rows) >= ROWS_MAX or sum(len(value or b"") for _, _, value, _ in rows) >= PAGE_BYTES_MAX
        return records, rows[-1][1] if full else None


_BEYOND_ALL = "\U0010ffff"
"""Greater than any topic, in bytes."""
