"""One transaction on a PostgreSQL connection, seen as a `Snapshot`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from softstate.errors import StoreRewound
from softstate.model import PAGE_BYTES_MAX, PAGE_RECORDS_MAX, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Key
from softstate.store.limits import NEAR_HEAD, PREFIX_TOPICS_MAX
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.schema import key_text

ROWS_MAX = PAGE_RECORDS_MAX + 1
"""How many records one statement brings at most, of about `PAGE_BYTES_MAX`: a page, and one that tells `more`."""

_STATE = (
    "SELECT epoch, revision, floor, keys, current_setting('fsync') = 'on', EXISTS (SELECT FROM inbox),"
    " (SELECT nonce FROM lineage WHERE start <= revision ORDER BY start DESC LIMIT 1),"
    " (SELECT nonce FROM lineage WHERE start <= %s ORDER BY start DESC LIMIT 1) FROM meta"
)

LINEAGES = (
    "SELECT revision, (SELECT nonce FROM lineage WHERE start <= revision ORDER BY start DESC LIMIT 1)"
    " FROM unnest(%s::bigint[]) AS asked (revision)"
)

_BATCH = (
    "SELECT topic, version, value FROM (SELECT topic, version, value, coalesce("
    "sum(octet_length(value)) OVER (ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before"
    " FROM (SELECT topic, version, value FROM topic WHERE {} ORDER BY version LIMIT %s) AS batch) AS batch"
    " WHERE before < %s ORDER BY version"
)
"""Records in version order: so many, but none after those that have reached so many bytes (of the first always one)."""

_ALL = _BATCH.format("version > %s AND (%s OR value IS NOT NULL)")
_UNDER = _BATCH.format("version > %s AND topic >= %s AND topic < %s AND (%s OR value IS NOT NULL)")
_SOME = _BATCH.format("version = ANY (%s::bigint[]) AND (%s OR value IS NOT NULL)")


def lineages_of(connection: Connection, revisions: Collection[int]) -> Mapping[int, str | None]:
    """Look up the lineage in force at each revision, None before the first row; above the head it is the newest."""
    return dict(connection.execute(LINEAGES, (list(revisions),)).fetchall())


class PostgresSnapshot:
    """The view of one transaction. Made as its first statement, it fixes the snapshot; it ends with the transaction.

    The lineage at revision `seen` comes with it, so that `check_seen` costs nothing. `sent` tells whether the inbox
    holds anything. Raises `StoreRewound` when there is no store there at all.
    """

    def __init__(self, connection: Connection, seen: int) -> None:
        self._connection = connection
        row = connection.execute(_STATE, (seen,)).fetchone()
        if row is None:
            raise StoreRewound("the store's tables were emptied while it was open: reopen it")
        epoch, head, self.floor, self.keys_held, self.synced, self.sent, newest, at_seen = row
        self.position = Position(epoch, newest or "", head)
        self._lineages: dict[int, str | None] = {head: newest, seen: at_seen}
        self._versions: dict[str, int] = {}
        """By topic; 0 for one without a record."""
        self._records: dict[int, Record] = {}

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
            self._lineages.update(lineages_of(self._connection, missing))

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        rows = self._connection.execute(
            "SELECT start, nonce FROM lineage WHERE start > %s AND start <= %s ORDER BY start", (after, upto)
        )
        return [Position(self.position.epoch, nonce, start) for start, nonce in rows]

    def keys_above(self, after: int, limit: int) -> Sequence[Key]:
        """List the idempotency keys made above `after`, in revision order, `limit` at most."""
        rows = self._connection.execute(
            "SELECT topic, key, digest, version FROM idempotency WHERE version > %s ORDER BY version LIMIT %s",
            (after, limit), binary=True,
        )  # fmt: skip
        return [Key(topic, key_text(key), digest, version) for topic, key, digest, version in rows]

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

    def damaged(self, _held: Mapping[str, int]) -> Collection[str]:
        """See `softstate.store.rules.history.Snapshot.damaged`."""
        return ()

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        known = self._versions
        missing = [topic for topic in topics if topic not in known]
        if missing:
            known.update(dict.fromkeys(missing, 0))
            rows = self._connection.execute(
                "SELECT topic, version FROM topic WHERE topic = ANY (%s::text[])", (missing,), binary=True
            )
            known.update(rows.fetchall())
        return {topic: version for topic in topics if (version := known[topic])}

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
        if prefix == ALL:
            return self._scan(_ALL, after, (tombstones,))
        if self.position.revision - after > NEAR_HEAD:
            versions = self._versions_under(prefix, after)
            if len(versions) <= PREFIX_TOPICS_MAX:
                return self._scan_some(versions, tombstones=tombstones)
        return self._scan(_UNDER, after, (*_range(prefix), tombstones))

    def _versions_under(self, prefix: str, after: int) -> list[int]:
        """List the versions above `after` under a prefix; one more than the limit at most.

        Without an order, for the server would rather walk through all versions from `after` on than sort these few.
        """
        rows = self._connection.execute(
            "SELECT version FROM topic WHERE topic >= %s AND topic < %s AND version > %s LIMIT %s",
            (*_range(prefix), after, PREFIX_TOPICS_MAX + 1), binary=True,
        )  # fmt: skip
        return sorted(version for (version,) in rows)

    def _scan_some(self, versions: Sequence[int], *, tombstones: bool) -> Iterator[Record]:
        while versions:
            batch = versions[:ROWS_MAX]
            records, full = self._batch(_SOME, batch, tombstones)
            yield from records
            last = records[-1].version if full else batch[-1]
            versions = versions[bisect_right(versions, last) :]

    def _scan(self, statement: str, after: int, parameters: tuple[Any, ...]) -> Iterator[Record]:
        full = True
        while full:
            records, full = self._batch(statement, after, *parameters)
            yield from records
            if full:
                after = records[-1].version

    def _batch(self, statement: str, *parameters: Any) -> tuple[list[Record], bool]:
        """Return a batch of records, and whether there may be more where they come from."""
        cursor = self._connection.execute(statement, (*parameters, ROWS_MAX, PAGE_BYTES_MAX), binary=True)
        rows: list[tuple[str, int, bytes | None]] = cursor.fetchall()
        records = [Record(topic, version, value) for topic, version, value in rows]
        return records, len(rows) >= ROWS_MAX or sum(len(value or b"") for _, _, value in rows) >= PAGE_BYTES_MAX


def _range(prefix: str) -> tuple[str, str]:
    """Return the half-open range of names under a prefix: "0" follows "/" in bytes, which is how names are compared."""
    return prefix, prefix[:-1] + "0"
