"""The PostgreSQL store without the waiting: every transaction as an ordinary function of a connection.

Two threads may be in here at once: one that publishes and compacts, one that does all else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

from softstate.errors import Rewound
from softstate.model import Durability, Page, Query
from softstate.position import Position
from softstate.store.base import Committed, Dump, Feed, StoreInfo, Write
from softstate.store.limits import CALL_S, COMPACT_ROWS
from softstate.store.postgres.connection import Connection, PostgresConnection
from softstate.store.postgres.pooler import refuse_pooler
from softstate.store.postgres.schema import claim, needs_migration
from softstate.store.postgres.snapshot import PostgresSnapshot
from softstate.store.postgres.url import PostgresAddress
from softstate.store.postgres.write import PostgresTransaction
from softstate.store.rules.history import check_seen
from softstate.store.rules.paging import answer, dump_page, feed_page

LOCK_S = 2.0
"""How long a commit waits for another one that holds the counter."""

_UNSYNCED = (
    "PostgreSQL runs with fsync = off, so a crash of its machine may lose what was acknowledged, and damage the rest:"
    " turn it on"
)

_SIZES = (
    "SELECT (SELECT count(*) FROM topic), (SELECT count(*) FROM topic WHERE value IS NULL),"
    " pg_total_relation_size('topic') + pg_total_relation_size('lineage')"
    " + pg_total_relation_size('idempotency') + pg_total_relation_size('publisher')"
    " + pg_total_relation_size('inbox') + pg_total_relation_size('refused') + pg_total_relation_size('meta')"
)


def milliseconds(seconds: float) -> str:
    """Return a time as PostgreSQL's settings take it."""
    return str(round(seconds * 1000))


class PostgresEngine:
    """One process's view of the store. Every method raises as the method of `Store` that it serves."""

    def __init__(self, address: PostgresAddress, *, keys_max: int, random: Random) -> None:
        self.address = address
        self.durability = Durability.DURABLE
        self.warnings: Sequence[str] = ()
        self.timeouts: Mapping[str, str] = {
            "lock_timeout": milliseconds(LOCK_S),
            # A process that was stopped between its two round trips blocks all others no longer than this.
            "idle_in_transaction_session_timeout": milliseconds(CALL_S),
        }
        # Prefixes and revisions select too differently for one plan to serve them all.
        planning = {"plan_cache_mode": "force_custom_plan", "statement_timeout": milliseconds(CALL_S)}
        self.reader = PostgresConnection(address, "reader", {**self.timeouts, **planning})
        # Timing out, a COMMIT that waits for a standby would report success.
        self.writer = PostgresConnection(
            address, "writer", {**self.timeouts, "statement_timeout": "0"},
            check=lambda connection: refuse_pooler(connection, address, random),
        )  # fmt: skip
        self._keys_max = keys_max
        self.random = random
        self._seen_lock = threading.Lock()
        self.seen = Position("", "", 0)
        """The highest position that this process has met; set by both threads, and only ever raised."""
        self.sent = False
        """Whether the inbox held anything when the store was read last."""

    def saw(self, position: Position) -> None:
        """Remember a position that was read or committed just now."""
        with self._seen_lock:
            if position.revision > self.seen.revision:
                self.seen = position

    def begin_again(self, position: Position) -> None:
        """Forget the highest position seen, perhaps of another history. No call may be reading or writing."""
        with self._seen_lock:
            self.seen = position

    # The thread that writes -----------------------------------------------------------------------------------------

    def needs_migration(self, connection: Connection) -> bool:
        """Tell whether `open` will have to migrate."""
        return needs_migration(connection, self.address)

    def open(self, connection: Connection) -> Position:
        """Make or migrate the schema if need be, and commit a lineage row. What was seen before is forgotten."""
        claim(connection, self.address, self.random)
        transaction = PostgresTransaction(connection, self.random, fresh=True, revisions=(), group=())
        transaction.begin_lineage()
        transaction.commit()
        self.writer.fresh = False
        self.begin_again(transaction.position)
        self._probe(PostgresSnapshot(connection, 0))
        return transaction.position

    def _begin(self, connection: Connection, group: Sequence[Write]) -> PostgresTransaction:
        """Begin to write, after as many transactions as it takes to move all but the last entries of the inbox."""
        while True:
            seen = self.seen
            transaction = PostgresTransaction(
                connection, self.random, fresh=self.writer.fresh, revisions=[seen.revision], group=group
            )
            check_seen(seen, transaction.snapshot)
            if not transaction.more:
                return transaction
            self._commit_moved(transaction)

    def _commit_moved(self, transaction: PostgresTransaction) -> None:
        if transaction.moved:
            transaction.commit_moved()
            self.writer.fresh = False
            self.saw(transaction.position)

    def move(self, connection: Connection) -> None:
        """Move what the inbox holds into the store."""
        self._commit_moved(self._begin(connection, ()))

    def publish(self, connection: Connection, group: Sequence[Write]) -> Committed:
        """Apply a group of publishes in one transaction, after what other programs have put into the inbox."""
        transaction = self._begin(connection, group)
        verdicts = transaction.apply(group, self._keys_max)
        if not transaction.records:
            self._commit_moved(transaction)
            return Committed(verdicts, transaction.position.revision, [], transaction.position)
        transaction.commit()
        self.writer.fresh = False
        self.saw(transaction.position)
        return Committed(verdicts, transaction.records[0].version - 1, transaction.records, transaction.position)

    def compact(self, connection: Connection, tombstones: int, keys: int) -> tuple[int, bool]:
        """Forget `COMPACT_ROWS` tombstones and as many keys at most; return the floor, and whether to go on."""
        transaction = self._begin(connection, ())
        floor = transaction.snapshot.floor
        row = connection.execute(
            "SELECT coalesce(max(version), 0), count(*) FROM (SELECT version FROM topic"
            " WHERE value IS NULL AND version <= %s ORDER BY version LIMIT %s) AS oldest",
            (tombstones, COMPACT_ROWS),
        ).fetchone()
        assert row is not None
        newest, buried = row
        if buried:
            connection.execute("DELETE FROM topic WHERE value IS NULL AND version <= %s", (newest,))
            floor = max(floor, newest)
        expired = connection.execute(
            "DELETE FROM idempotency WHERE version IN"
            " (SELECT version FROM idempotency WHERE version <= %s ORDER BY version LIMIT %s)",
            (keys, COMPACT_ROWS),
        ).rowcount
        if buried or expired:
            transaction.keys -= expired
            # Writing to meta hides that another program has put it there, so a lineage row comes first.
            transaction.begin_lineage()
            transaction.commit(floor=floor)
            self.writer.fresh = False
            self.saw(transaction.position)
        else:
            self._commit_moved(transaction)
        return floor, COMPACT_ROWS in (buried, expired)

    # The thread that reads ------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, connection: Connection) -> Iterator[PostgresSnapshot]:
        # Noted before the snapshot begins: the other thread may commit at any moment.
        seen = self.seen
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield self._checked(connection, seen)
        connection.execute("COMMIT")

    def _checked(self, connection: Connection, seen: Position) -> PostgresSnapshot:
        snapshot = PostgresSnapshot(connection, seen.revision)
        check_seen(seen, snapshot)
        self.saw(snapshot.position)
        self.sent = snapshot.sent
        self._probe(snapshot)
        return snapshot

    def _probe(self, snapshot: PostgresSnapshot) -> None:
        # All else that makes commits weak, our connections and `publish` override: see postgres_session, _SET_UP.
        self.durability = Durability.DURABLE if snapshot.synced else Durability.WEAK
        self.warnings = () if snapshot.synced else (_UNSYNCED,)

    def read(self, connection: Connection, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """Answer a group of queries from one snapshot."""
        with self._reading(connection) as snapshot:
            snapshot.foresee(group)
            return [answer(query, snapshot) for query in group]

    def head(self, connection: Connection) -> Position:
        """Return the newest position. One statement, and so one snapshot by itself."""
        return self._checked(connection, self.seen).position

    def lineage_at(self, connection: Connection, revisions: Sequence[int]) -> Sequence[str | None]:
        """Return the lineage in force at each revision."""
        with self._reading(connection) as snapshot:
            snapshot.know_lineages(revisions)
            return list(map(snapshot.lineage_at, revisions))

    def feed(self, connection: Connection, after: Position, limit: int) -> Feed:
        """Return a page of the change feed."""
        with self._reading(connection) as snapshot:
            return feed_page(after, limit, snapshot)

    def dump(self, connection: Connection, after: int, limit: int) -> Dump:
        """Return a page of all that the store holds."""
        with self._reading(connection) as snapshot:
            return dump_page(after, limit, snapshot, snapshot.keys_above(after, limit + 1))

    def info(self, connection: Connection) -> StoreInfo:
        """Count what the store holds."""
        with self._reading(connection) as snapshot:
            row = connection.execute(_SIZES).fetchone()
            assert row is not None
            records, tombstones, size_bytes = row
            return StoreInfo(records - tombstones, tombstones, snapshot.keys_held, size_bytes)
