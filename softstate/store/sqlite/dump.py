"""Filling an SQLite file with what another store dumped, within a transaction that the caller began.

`softstate.store.sqlite.backup` writes a dump to a file of its own instead.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from softstate.errors import StoreRefused
from softstate.store.base import Dump
from softstate.store.rules.dump import check_joined
from softstate.store.sqlite.remembered import KEY_COLUMNS, PUBLISHER_COLUMNS, key_row, publisher_row
from softstate.store.sqlite.state import State, add_lineages, recount, seal


def replace_contents(connection: sqlite3.Connection, pages: Iterable[Dump]) -> State:
    """Put the pages of a dump in place of all that the file holds; return the state, which is not stored yet.

    Raises `Unavailable` if the pages do not join, `StoreRefused` for a record that is unreadable.
    """
    last: Dump | None = None
    for page in pages:
        check_joined(last, page)
        if not page.after:
            for table in ("record", "history", "used_key", "publisher"):
                connection.execute(f"DELETE FROM {table}")
        _add(connection, page)
        last = page
    check_joined(last, None)
    assert last is not None
    position = last.position
    return recount(connection, State(position.epoch, position.lineage, last.upto, last.floor))


def _add(connection: sqlite3.Connection, page: Dump) -> None:
    """Add a page to the earlier ones; a topic that has changed since then moves to its new version.

    So does a key that has expired since then, and was used again, and a publisher that has published.
    """
    for record in page.records:
        if record.unreadable:
            raise StoreRefused(
                f"the record of {record.topic!r} is unreadable, and cannot be copied: publish the topic again without"
                " expect, or leave it out (--skip-unreadable)"
            )
    connection.executemany(
        "INSERT INTO record (version, topic, checksum, value) VALUES (?, ?, ?, ?) ON CONFLICT (topic)"
        " DO UPDATE SET version = excluded.version, checksum = excluded.checksum, value = excluded.value",
        [
            (record.version, record.topic, seal(record.topic, record.version, record.cbor), record.cbor)
            for record in page.records
        ],
    )
    add_lineages(connection, [(row.revision, row.lineage) for row in page.rows])
    connection.executemany(
        f"INSERT INTO used_key ({KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic, key)"
        " DO UPDATE SET version = excluded.version, digest = excluded.digest, checksum = excluded.checksum",
        [key_row(key) for key in page.keys],
    )
    connection.executemany(
        f"INSERT INTO publisher ({PUBLISHER_COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (publisher) DO UPDATE SET"
        " settled = excluded.settled, touched = excluded.touched, uses = excluded.uses, checksum = excluded.checksum",
        [publisher_row(publisher) for publisher in page.publishers],
    )
