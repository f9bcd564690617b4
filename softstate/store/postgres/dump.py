"""Filling a PostgreSQL store from the dump of another store: one transaction, on a connection of its own."""

from __future__ import annotations

from random import Random

from softstate.position import Position
from softstate.store.base import Dump
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.url import PostgresAddress
from softstate.store.postgres.write import (
    INSERT_KEYS,
    INSERT_LINEAGE,
    INSERT_PUBLISHERS,
    INSERT_TOPICS,
    NOTIFY,
    PostgresTransaction,
    key_columns,
    publisher_columns,
    topic_columns,
)
from softstate.store.rules.dump import check_joined, published_to
from softstate.store.rules.history import check_seen
from softstate.store.rules.nonce import lineage_nonce


class Adoption:
    """The steps of `Store.adopt`, for one connection that keeps its transaction in between."""

    def __init__(self, address: PostgresAddress, random: Random) -> None:
        self._address = address
        self._random = random
        self._last: Dump | None = None

    def begin(self, connection: Connection, seen: Position, *, replace: bool) -> None:
        """Take the counter, which keeps all others from publishing. Raises `StoreRefused` if anything is there."""
        while True:
            transaction = PostgresTransaction(connection, self._random, fresh=True, revisions=[seen.revision], group=())
            check_seen(seen, transaction.snapshot)
            if replace:
                # The contents of the inbox were published here, and are lost with the rest.
                connection.execute("DELETE FROM inbox")
                return
            row = connection.execute("SELECT count(*) FROM lineage").fetchone()
            assert row is not None
            # Lineage rows alone make a head as high as there are rows.
            if transaction.position.revision > row[0]:
                raise published_to(self._address.name)
            if not transaction.more:
                return

    def take(self, connection: Connection, page: Dump) -> None:
        """Add a page to the earlier ones; a topic that has changed since then moves to its new version."""
        check_joined(self._last, page)
        self._last = page
        with connection.pipeline():
            if not page.after:
                connection.execute("DELETE FROM topic")
                connection.execute("DELETE FROM lineage")
                connection.execute("DELETE FROM idempotency")
                connection.execute("DELETE FROM publisher")
            records = [record for record in page.records if not record.unreadable]
            if records:
                connection.execute(INSERT_TOPICS, topic_columns(records))
            if page.keys:
                connection.execute(INSERT_KEYS, key_columns(page.keys))
            if page.publishers:
                connection.execute(INSERT_PUBLISHERS, publisher_columns(page.publishers))
            for row in page.rows:
                connection.execute(INSERT_LINEAGE, (row.revision, row.lineage))

    def finish(self, connection: Connection) -> Position:
        """Commit all of it with a lineage row; return its position."""
        check_joined(self._last, None)
        assert self._last is not None
        epoch, revision = self._last.position.epoch, self._last.upto + 1
        row = Position(epoch, lineage_nonce(self._random), revision)
        with connection.pipeline():
            connection.execute(INSERT_LINEAGE, (row.revision, row.lineage))
            connection.execute("UPDATE meta SET epoch = %s", (epoch,))
            connection.execute(
                "SELECT advance(%s, %s, (SELECT count(*) FROM idempotency), (SELECT count(*) FROM publisher),"
                " incarnation())",
                (revision, self._last.floor),
            )
            connection.execute(NOTIFY, ("",))
            connection.execute("COMMIT")
        return row
