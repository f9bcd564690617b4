"""The PostgreSQL store without the waiting: every transaction as an ordinary function of a connection.

Two threads may be in here at once: one that publishes and compacts, one that does all else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import structlog
from psycopg import errors

from softstate.errors import Rewound
from softstate.model import Durability, Page, Query
from softstate.position import Position
from softstate.store.base import Committed, Dump, Feed, StoreInfo, Write
from softstate.store.limits import CALL_S
from softstate.store.postgres.audit import audit
from softstate.store.postgres.compaction import forget
from softstate.store.postgres.connection import Connection, PostgresConnection
from softstate.store.postgres.errors import explain
from softstate.store.postgres.pooler import refuse_pooler
from softstate.store.postgres.schema import LAYOUT, claim, needs_migration
from softstate.store.postgres.snapshot import PostgresSnapshot
from softstate.store.postgres.url import PostgresAddress
from softstate.store.postgres.write import PostgresTransaction
from softstate.store.rules.history import check_seen
from softstate.store.rules.paging import answer_group, dump_page, feed_page, within_cost
from softstate.store.rules.version_index import VersionIndex

LOCK_S = 2.0
"""How long a commit waits for another one that holds the counter."""

_UNSYNCED = (
    "PostgreSQL runs with fsync = off, so a crash of its machine may lose what was acknowledged, and damage the rest:"
    " turn it on"
)

_INBOX = (
    "publish(topic, value) and delete(topic) in SQL go by way of the inbox since layout 2, and return nothing:"
    " publish_now and delete_now return the version; {} entries of the inbox wait, {} were refused (table refused)"
)

_SIZES = (
    "SELECT (SELECT count(*) FROM topic), (SELECT count(*) FROM topic WHERE value IS NULL),"
    " (SELECT count(*) FROM inbox), (SELECT count(*) FROM refused),"
    " pg_total_relation_size('topic') + pg_total_relation_size('lineage')"
    " + pg_total_relation_size('idempotency') + pg_total_relation_size('publisher')"
    " + pg_total_relation_size('inbox') + pg_total_relation_size('refused') + pg_total_relation_size('meta')"
)

log = structlog.get_logger("softstate.store")


def milliseconds(seconds: float) -> str:
    """Return a time as PostgreSQL's settings take it."""
    return str(round(seconds * 1000))


class PostgresEngine:
    """One process's view of the store. Every method raises as the method of `Store` that it serves."""

    def __init__(
        self, address: PostgresAddress, *, keys_max: int, random: Random, create: bool, read_only: bool
    ) -> None:
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
        self._create = create
        self.read_only = read_only
        self.random = random
        self._seen_lock = threading.Lock()
        self._index = VersionIndex()
        self._read_last: tuple[Position | None, str] = (None, "")
        self.unwritten = ""
        """The reason why the lineage row of the last opening is still to be committed; empty if it is not."""
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
        self._index.clear()

    # The thread that writes -----------------------------------------------------------------------------------------

    def needs_migration(self, connection: Connection) -> bool:
        """Tell whether `open` will have to migrate."""
        return needs_migration(connection, self.address)

    def open(self, connection: Connection) -> Position:
        """Make or migrate the schema if need be, and commit a lineage row. What was seen before is forgotten.

        If `read_only`, nothing is written. If nothing can be written just now, the newest row that is there serves
        until the first change, which begins with a row of its own.
        """
        claim(connection, self.address, self.random, create=self._create, read_only=self.read_only)
        self.writer.fresh = True
        position = None if self.read_only else self._begin_lineage(connection)
        snapshot = PostgresSnapshot(connection, 0)
        self.begin_again(position or snapshot.position)
        self._probe(snapshot)
        return position or snapshot.position

    def _begin_lineage(self, connection: Connection) -> Position | None:
        try:
            transaction = PostgresTransaction(connection, self.random, fresh=True, revisions=(), group=())
            transaction.begin_lineage()
            transaction.commit()
        except (errors.ReadOnlySqlTransaction, errors.DiskFull) as error:
            connection.execute("ROLLBACK")
            log.warning(
                "store opened, but nothing can be written: publishes fail until that has passed",
                store=self.address.name, because=error.diag.message_primary,
            )  # fmt: skip
            self.unwritten = str(explain(error, self.address.name, opening=False))
            return None
        self.writer.fresh, self.unwritten = False, ""
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
            if not transaction.begins:
                # Entries may change nothing, and then no lineage row was written.
                self.writer.fresh, self.unwritten = False, ""
            self.saw(transaction.position)

    def move(self, connection: Connection) -> None:
        """Move what the inbox holds into the store."""
        self._commit_moved(self._begin(connection, ()))

    def publish(self, connection: Connection, group: Sequence[Write], publishers_max: int) -> Committed:
        """Apply a group of publishes in one transaction, after what other programs have put into the inbox."""
        transaction = self._begin(connection, group)
        verdicts = transaction.apply(group, self._keys_max, publishers_max)
        if transaction.changed:
            transaction.commit()
            self.writer.fresh, self.unwritten = False, ""
            self.saw(transaction.position)
        else:
            self._commit_moved(transaction)
        records, position = transaction.records, transaction.position
        return Committed(verdicts, position.revision - len(records), records, position)

    def compact(self, connection: Connection, tombstones: int, keys: int) -> tuple[int, bool]:
        """Forget some of what is old enough; return the floor, and whether to go on."""
        transaction = self._begin(connection, ())
        gone = forget(
            connection,
            head=transaction.position.revision,
            floor=transaction.snapshot.floor,
            tombstones=tombstones,
            keys=keys,
        )
        if gone.any:
            transaction.keys = max(0, transaction.keys - gone.keys)
            transaction.publishers = max(0, transaction.publishers - gone.publishers)
            # Writing to meta hides that another program has put it there, so a lineage row comes first.
            transaction.begin_lineage()
            transaction.commit(floor=gone.floor)
            self.writer.fresh, self.unwritten = False, ""
            self.saw(transaction.position)
        else:
            self._commit_moved(transaction)
        return gone.floor, gone.more

    # The thread that reads ------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, connection: Connection) -> Iterator[PostgresSnapshot]:
        # Noted before the snapshot begins: the other thread may commit at any moment.
        seen = self.seen
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield self._checked(connection, seen)
        connection.execute("COMMIT")

    def _checked(self, connection: Connection, seen: Position) -> PostgresSnapshot:
        snapshot = PostgresSnapshot(connection, seen.revision, self._index)
        check_seen(seen, snapshot)
        self.saw(snapshot.position)
        self._forget_index_if_changed(snapshot)
        self.sent = snapshot.sent
        self._probe(snapshot)
        return snapshot

    def _forget_index_if_changed(self, snapshot: PostgresSnapshot) -> None:
        """Forget which versions are where if somebody may have changed rows, and was no node: the head is as it was."""
        position, written = self._read_last
        if snapshot.position == position and snapshot.written != written:
            self._index.clear()
        self._read_last = snapshot.position, snapshot.written

    def _probe(self, snapshot: PostgresSnapshot) -> None:
        # All else that makes commits weak, our connections and `publish` override: see postgres_session, _SET_UP.
        self.durability = Durability.DURABLE if snapshot.synced else Durability.WEAK
        self.warnings = () if snapshot.synced else (_UNSYNCED,)

    def read(self, connection: Connection, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """Answer a group of queries from one snapshot, as far as one call may cost."""
        with self._reading(connection) as snapshot:
            begun = within_cost(group)
            snapshot.foresee(begun)
            return answer_group(begun, snapshot)

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
            keys, publishers = snapshot.keys_above(after, limit + 1), snapshot.publishers_above(after, limit + 1)
            return dump_page(after, limit, snapshot, keys, publishers)

    def audit(self, connection: Connection) -> Sequence[str]:
        """Return what is wrong with rows that a dump does not show."""
        with self._reading(connection) as snapshot:
            return audit(connection, snapshot.position.revision)

    def info(self, connection: Connection) -> StoreInfo:
        """Count what the store holds."""
        with self._reading(connection) as snapshot:
            row = connection.execute(_SIZES).fetchone()
            assert row is not None
            records, tombstones, waiting, refused, size_bytes = row
            return StoreInfo(
                records - tombstones,
                tombstones,
                snapshot.keys_held,
                size_bytes,
                snapshot.publishers_held,
                LAYOUT,
                [_INBOX.format(waiting, refused)],
            )
