"""Filling an SQLite file with what another store dumped, within a transaction that somebody else began."""

from __future__ import annotations

import sqlite3

from softstate.store.base import Dump


def empty(connection: sqlite3.Connection, epoch: str) -> None:
    """Delete everything, and give the store another epoch."""
    connection.execute("DELETE FROM topic")
    connection.execute("DELETE FROM lineage")
    connection.execute("DELETE FROM idempotency")
    connection.execute("UPDATE meta SET epoch = ?, floor = 0, keys = 0", (epoch,))


def take(connection: sqlite3.Connection, page: Dump) -> None:
    """Add a page to what earlier pages have brought; a topic that has changed meanwhile moves to its new version.

    So does a key that has expired meanwhile, and was used again.
    """
    connection.executemany(
        "INSERT INTO topic (version, topic, value) VALUES (?, ?, ?)"
        " ON CONFLICT (topic) DO UPDATE SET version = excluded.version, value = excluded.value",
        [(record.version, record.topic, record.cbor) for record in page.records],
    )
    connection.executemany("INSERT INTO lineage VALUES (?, ?)", [(row.revision, row.lineage) for row in page.rows])
    connection.executemany(
        "INSERT INTO idempotency (version, topic, key, digest) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (topic, key) DO UPDATE SET version = excluded.version, digest = excluded.digest",
        [(key.version, key.topic, key.key, key.digest) for key in page.keys],
    )
    connection.execute("UPDATE meta SET floor = ?", (page.floor,))


def count_keys(connection: sqlite3.Connection) -> None:
    """Write down how many idempotency keys there are now: see `_Batch.finish`."""
    connection.execute("UPDATE meta SET keys = (SELECT count(*) FROM idempotency)")
