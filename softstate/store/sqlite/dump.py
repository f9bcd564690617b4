"""Filling an SQLite file with what another store dumped, within a transaction that the caller began.

`softstate.store.sqlite.backup` writes a dump to a file of its own instead.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from softstate.store.base import Dump
from softstate.store.rules.dump import check_joined


def replace_contents(connection: sqlite3.Connection, pages: Iterable[Dump]) -> None:
    """Put the pages of a dump in place of all that the file holds. Raises `Unavailable` if they do not join."""
    last: Dump | None = None
    for page in pages:
        check_joined(last, page)
        if not page.after:
            _empty(connection, page.position.epoch)
        _add(connection, page)
        last = page
    check_joined(last, None)
    # Stored, as `softstate.store.sqlite.write` does with every change, since counting a million takes long.
    connection.execute("UPDATE meta SET keys = (SELECT count(*) FROM idempotency)")


def _empty(connection: sqlite3.Connection, epoch: str) -> None:
    """Delete everything, and give the store another epoch."""
    connection.execute("DELETE FROM topic")
    connection.execute("DELETE FROM lineage")
    connection.execute("DELETE FROM idempotency")
    connection.execute("UPDATE meta SET epoch = ?, floor = 0, keys = 0", (epoch,))


def _add(connection: sqlite3.Connection, page: Dump) -> None:
    """Add a page to the earlier ones; a topic that has changed since then moves to its new version.

    So does a key that has expired since then, and was used again.
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
