"""A write transaction on PostgreSQL: two round trips, however many publishes it has.

The first locks the one row of `meta`, which every writer keeps until it commits, moves what the inbox holds, and then
brings all that the verdicts depend on. The second writes the applied changes, and commits. So revisions follow the
order of commits: no transaction can draw one before all that drew a lower one have committed or given up. And a
transaction whose caller was cut off after the first round trip never commits, for its COMMIT was never sent: a publish
that was answered "unavailable" is applied, if at all, before any that is sent later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from random import Random

from softstate.model import Record
from softstate.position import Position
from softstate.store.base import Key, Publisher, Verdict, Write
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.schema import check_meta, key_bytes, key_text, publisher_of
from softstate.store.postgres.snapshot import LINEAGES, lineages_of
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.judge import TopicState, is_verified, judge_group
from softstate.store.rules.nonce import lineage_nonce
from softstate.store.rules.publishers import pack

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""So that reads behind the lock see what the last holder of the lock has left; the server's default may be another."""

TAKE = (
    "SELECT layout, epoch, revision, floor, keys, publishers, present, sound, begins, moved, more FROM take_counter(%s)"
)
"""See ``functions.sql``."""

_TOPICS = (
    "SELECT topic, version, value IS NOT NULL,"
    " topic <> ALL (%s::text[]) OR checksum IS NOT DISTINCT FROM checksum(topic, version, value)"
    " FROM topic WHERE topic = ANY (%s::text[])"
)
"""The second list: those asked for; the first: those of them whose rows are verified, which takes their values."""

_KEYS = (
    "SELECT topic, key, digest, version FROM idempotency WHERE (topic, key) IN"
    " (SELECT * FROM unnest(%b::text[], %b::bytea[])) AND checksum = key_checksum(topic, key, version, digest)"
)

_PUBLISHERS = (
    "SELECT publisher, settled, touched, uses FROM publisher WHERE publisher = ANY (%b::bytea[])"
    " AND checksum = publisher_checksum(publisher, settled, touched, uses)"
)

NEWEST = 2**63 - 1
"""A revision above all: the lineage there is the one in force now."""

INSERT_TOPICS = (
    "INSERT INTO topic (version, topic, value, checksum)"
    " SELECT version, topic, value, checksum(topic, version, value) FROM"
    " (SELECT version, topic, nullif(value, '') AS value FROM unnest(%b::bigint[], %b::text[], %b::bytea[])"
    " AS given (version, topic, value)) AS change"
    " ON CONFLICT (topic) DO UPDATE"
    " SET version = excluded.version, value = excluded.value, checksum = excluded.checksum"
)
"""A deletion has no value. CBOR has at least one byte, so the empty string stands for that in an array."""

INSERT_KEYS = (
    "INSERT INTO idempotency (version, topic, key, digest, checksum)"
    " SELECT version, topic, key, digest, key_checksum(topic, key, version, digest)"
    " FROM unnest(%b::bigint[], %b::text[], %b::bytea[], %b::bytea[]) AS made (version, topic, key, digest)"
    " ON CONFLICT (topic, key) DO UPDATE"
    " SET version = excluded.version, digest = excluded.digest, checksum = excluded.checksum"
)

INSERT_LINEAGE = (
    "INSERT INTO lineage (start, nonce, checksum) SELECT start, nonce, lineage_checksum(start, nonce)"
    " FROM (VALUES (%s::bigint, %s::text)) AS begun (start, nonce)"
)

INSERT_PUBLISHERS = (
    "INSERT INTO publisher (publisher, settled, touched, uses, checksum)"
    " SELECT publisher, settled, touched, uses, publisher_checksum(publisher, settled, touched, uses)"
    " FROM unnest(%b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[]) AS noted (publisher, settled, touched, uses)"
    " ON CONFLICT (publisher) DO UPDATE SET settled = excluded.settled, touched = excluded.touched,"
    " uses = excluded.uses, checksum = excluded.checksum"
)

ADVANCE = "SELECT advance(%s, %s, %s, %s, %s)"

NOTIFY = "SELECT pg_notify(current_schema()::text, %s)"


class PostgresTransaction:
    """A transaction that holds the counter. The first change begins a lineage, if history may have been rewound.

    `moved` tells how many entries of the inbox it has taken already, and `more` whether it must leave it at that, since
    the inbox holds more than one transaction takes. `snapshot` is the store as it is after these; it knows the lineages
    at `revisions`, and at the witnesses of `group`. Raises `StoreRewound` when there is no store there at all, and
    `Unavailable` when its layout is another one or its row of `meta` is damaged.
    """

    def __init__(
        self, connection: Connection, random: Random, *, fresh: bool, revisions: Collection[int], group: Sequence[Write]
    ) -> None:
        self._connection = connection
        self._random = random
        asked = {NEWEST, *revisions, *(publish.witness.revision for publish in group if publish.witness)}
        keyed = [(publish.topic, key_bytes(publish.key)) for publish in group if publish.key is not None]
        numbered = {key_bytes(publish.number.publisher) for publish in group if publish.number is not None}
        verified = {publish.topic for publish in group if is_verified(publish)}
        with connection.pipeline():
            connection.execute(BEGIN)
            meta = connection.execute(TAKE, (fresh,))
            lineages = connection.execute(LINEAGES, (list(asked),), binary=True)
            topics = connection.execute(_TOPICS, (list(verified), [publish.topic for publish in group]), binary=True)
            used: Iterable[tuple[str, bytes, bytes, int]] = ()
            if keyed:
                columns = [topic for topic, _ in keyed], [key for _, key in keyed]
                used = connection.execute(_KEYS, columns, binary=True)
            noted: Iterable[tuple[bytes, int, int, bytes]] = ()
            if numbered:
                noted = connection.execute(_PUBLISHERS, (list(numbered),), binary=True)
        row = meta.fetchone()
        assert row is not None
        layout, epoch, head, floor, self.keys, self.publishers, self._incarnation, sound, *more = row
        self._begins: bool
        self._begins, self.moved, self.more = more
        check_meta(layout, sound=sound)
        lineage_of = lineages_of(lineages)
        self._row: Position | None = None
        self._topics = {
            topic: TopicState(version, live, readable and 0 < version <= head)
            for topic, version, live, readable in topics
        }
        self._used = {(topic, key_text(key)): (digest, version) for topic, key, digest, version in used}
        self._known = {publisher.publisher: publisher for publisher in map(publisher_of, noted)}
        self._made: list[Key] = []
        self._noted: Sequence[Publisher] = ()
        self.snapshot = FetchedSnapshot(Position(epoch, lineage_of[NEWEST] or "", head), floor, lineage_of=lineage_of)
        self.position = self.snapshot.position
        self.records: list[Record] = []
        self.changed = False
        """Whether there is anything to commit beside what came from the inbox."""

    @property
    def begins(self) -> bool:
        """Whether the next change has to begin a lineage: none has begun in this transaction, and one must."""
        return self._begins

    def begin_lineage(self) -> None:
        """Take a revision for a lineage row, unless this transaction has one, or history cannot have been rewound."""
        if self._begins:
            self._begins = False
            self._row = Position(self.position.epoch, lineage_nonce(self._random), self.position.revision + 1)
            self.position = self._row

    def apply(self, group: Sequence[Write], keys_max: int, publishers_max: int) -> list[Verdict]:
        """Judge the group, and take a revision for each write that is applied and has an effect."""
        judged = judge_group(
            group,
            self.snapshot,
            self._topics,
            self._used,
            self._known,
            before=self.position.revision + self._begins,
            keys_held=self.keys,
            keys_max=keys_max,
            publishers_held=self.publishers,
            publishers_max=publishers_max,
        )
        if judged.records or judged.publishers:
            self.begin_lineage()
            self.position = self.position.at(judged.revision)
            self.keys += len(judged.keys)
            self.publishers += judged.publishers_added
            self.records, self._made, self._noted = judged.records, judged.keys, judged.publishers
            self.changed = True
        return judged.verdicts

    def commit(self, *, floor: int | None = None) -> None:
        """Write everything down and commit, the end of this transaction."""
        connection = self._connection
        newest = {record.topic: record for record in self.records}
        floor = self.snapshot.floor if floor is None else floor
        with connection.pipeline():
            if self._row is not None:
                connection.execute(INSERT_LINEAGE, (self._row.revision, self._row.lineage))
            if newest:
                connection.execute(INSERT_TOPICS, topic_columns(newest.values()))
            if self._made:
                connection.execute(INSERT_KEYS, key_columns(self._made))
            if self._noted:
                connection.execute(INSERT_PUBLISHERS, publisher_columns(self._noted))
            connection.execute(ADVANCE, (self.position.revision, floor, self.keys, self.publishers, self._incarnation))
            connection.execute("COMMIT")

    def commit_moved(self) -> None:
        """Commit what was taken from the inbox, and nothing else."""
        self._connection.execute("COMMIT")


def key_columns(keys: Collection[Key]) -> tuple[list[int], list[str], list[bytes], list[bytes]]:
    """Return idempotency keys as `INSERT_KEYS` takes them."""
    return (
        [key.version for key in keys],
        [key.topic for key in keys],
        [key_bytes(key.key) for key in keys],
        [key.digest for key in keys],
    )


def publisher_columns(publishers: Collection[Publisher]) -> tuple[list[bytes], list[int], list[int], list[bytes]]:
    """Return publishers as `INSERT_PUBLISHERS` takes them."""
    return (
        [key_bytes(publisher.publisher) for publisher in publishers],
        [publisher.settled for publisher in publishers],
        [publisher.touched for publisher in publishers],
        [pack(publisher.uses) for publisher in publishers],
    )


def topic_columns(records: Collection[Record]) -> tuple[list[int], list[str], list[bytes]]:
    """Return records as `INSERT_TOPICS` takes them."""
    return (
        [record.version for record in records],
        [record.topic for record in records],
        [record.cbor or b"" for record in records],
    )
