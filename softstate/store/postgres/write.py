"""A write transaction on PostgreSQL: two round trips, however many publishes it has.

The first locks the one row of `meta`, which every writer keeps until it commits, and then brings all that bears on the
verdicts. The second writes what was applied, and commits. So revisions are those of commits, in their order: nobody can
draw one before everyone who drew a lower one has committed or given up. And a transaction whose caller was cut off
after the first round trip never commits, for its COMMIT was never sent: a publish that was answered "unavailable" is
applied, if at all, before any that is sent later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random

from softstate.errors import StoreRewound
from softstate.model import Record
from softstate.position import Position
from softstate.store.base import Applied, Verdict, Write
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.snapshot import LINEAGES
from softstate.store.remote.encoding import to_stored
from softstate.store.remote.fetched import Fetched
from softstate.store.rules.judge import Standing, judge
from softstate.store.rules.nonce import lineage_nonce
from softstate.store.rules.paging import on_history

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""So that what is read behind the lock is what the last holder of the lock has left, whatever the server's default."""

LOCK = "SELECT epoch, head, floor, keys, incarnation, xmin = written, incarnation() FROM meta FOR UPDATE"

NEWEST = 2**63 - 1
"""A revision above all: the lineage there is the one in force now."""

INSERT_TOPICS = (
    "INSERT INTO topic (version, topic, value)"
    " SELECT version, topic, nullif(value, '') FROM unnest(%b::bigint[], %b::text[], %b::bytea[])"
    " AS change (version, topic, value)"
    " ON CONFLICT (topic) DO UPDATE SET version = excluded.version, value = excluded.value"
)

INSERT_KEYS = (
    "INSERT INTO idempotency (version, topic, key, digest)"
    " SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bytea[], %b::bytea[])"
    " ON CONFLICT (topic, key) DO UPDATE SET version = excluded.version, digest = excluded.digest"
)

INSERT_LINEAGE = "INSERT INTO lineage (start, nonce) VALUES (%s, %s)"

UPDATE_META = (
    "UPDATE meta SET head = %s, floor = %s, keys = %s, incarnation = %s, written = pg_current_xact_id()::xid"
    " RETURNING pg_notify(current_schema()::text, head::text)"
)

NOTIFY = "SELECT pg_notify(current_schema()::text, %s)"


class Writing:
    """A transaction that holds the counter. The first change begins a lineage, if history may have been rewound.

    `snapshot` is the store as found; it knows the lineages at `revisions`, and at the witnesses of `group`. Raises
    `StoreRewound` when there is no store there at all.
    """

    def __init__(
        self, connection: Connection, random: Random, *, fresh: bool, revisions: Collection[int], group: Sequence[Write]
    ) -> None:
        self._connection = connection
        self._random = random
        asked = {NEWEST, *revisions, *(publish.witness.revision for publish in group if publish.witness)}
        keyed = [(publish.topic, key_bytes(publish.key)) for publish in group if publish.key is not None]
        with connection.pipeline():
            connection.execute(BEGIN)
            meta = connection.execute(LOCK)
            lineages = connection.execute(LINEAGES, (list(asked),))
            topics = connection.execute(
                "SELECT topic, version, value IS NOT NULL FROM topic WHERE topic = ANY (%s::text[])",
                ([publish.topic for publish in group],), binary=True,
            )  # fmt: skip
            used: Iterable[tuple[str, bytes, bytes, int]] = ()
            if keyed:
                used = connection.execute(
                    "SELECT topic, key, digest, version FROM idempotency WHERE (topic, key) IN"
                    " (SELECT * FROM unnest(%b::text[], %b::bytea[]))",
                    ([topic for topic, _ in keyed], [key for _, key in keyed]), binary=True,
                )  # fmt: skip
        row = meta.fetchone()
        if row is None:
            raise StoreRewound("the store's tables were emptied while it was open: reopen it")
        epoch, head, floor, self.keys, incarnation, intact, self._incarnation = row
        lineage_of: Mapping[int, str | None] = dict(lineages)
        self._begins = fresh or not intact or incarnation != self._incarnation
        self._row: Position | None = None
        self._topics = {topic: (version, live) for topic, version, live in topics}
        self._used = {(topic, key): (digest, version) for topic, key, digest, version in used}
        self._new_keys: list[tuple[int, str, bytes, bytes]] = []
        self.snapshot = Fetched(Position(epoch, lineage_of[NEWEST] or "", head), floor, lineage_of=lineage_of)
        self.position = self.snapshot.position
        self.records: list[Record] = []

    def begin_lineage(self) -> None:
        """Take a revision for a lineage row, unless this transaction has one, or history cannot have been rewound."""
        if self._begins:
            self._begins = False
            self._row = Position(self.position.epoch, lineage_nonce(self._random), self.position.revision + 1)
            self.position = self._row

    def apply(self, publish: Write, keys_max: int) -> Verdict:
        """Judge one publish, and take a revision for it if nothing speaks against it."""
        version, live = self._topics.get(publish.topic, (0, False))
        standing = Standing(
            version=version,
            live=live,
            used=None if publish.key is None else self._used.get((publish.topic, key_bytes(publish.key))),
            witnessed=publish.witness is None or on_history(publish.witness, self.snapshot),
            keys_full=self.keys >= keys_max,
        )
        verdict = judge(publish, standing)
        if verdict is not None:
            return verdict
        self.begin_lineage()
        self.position = self.position.at(self.position.revision + 1)
        version = self.position.revision
        self.records.append(Record(publish.topic, version, publish.cbor))
        self._topics[publish.topic] = (version, publish.cbor is not None)
        if publish.key is not None:
            self.keys += 1
            key = key_bytes(publish.key)
            self._used[publish.topic, key] = (publish.digest, version)
            self._new_keys.append((version, publish.topic, key, publish.digest))
        return Applied(version)

    def commit(self, *, floor: int | None = None) -> None:
        """Write everything down and commit, the end of this transaction."""
        connection = self._connection
        newest = {record.topic: record for record in self.records}
        floor = self.snapshot.floor if floor is None else floor
        with connection.pipeline():
            if self._row is not None:
                connection.execute(INSERT_LINEAGE, (self._row.revision, self._row.lineage))
            if newest:
                connection.execute(INSERT_TOPICS, columns_of(newest.values()))
            if self._new_keys:
                connection.execute(INSERT_KEYS, [list(column) for column in zip(*self._new_keys, strict=True)])
            connection.execute(UPDATE_META, (self.position.revision, floor, self.keys, self._incarnation))
            connection.execute("COMMIT")


def key_bytes(key: str) -> bytes:
    """Return an idempotency key as the store keeps it: a client may choose any text, and PostgreSQL's has no NUL."""
    return key.encode("utf-8", "surrogatepass")


def columns_of(records: Collection[Record]) -> tuple[list[int], list[str], list[bytes]]:
    """Return records as `INSERT_TOPICS` takes them."""
    return (
        [record.version for record in records],
        [record.topic for record in records],
        [to_stored(record.cbor) for record in records],
    )
