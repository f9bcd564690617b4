"""The contents of softstate's SQLite file: creating it, and refusing a file that is not ours.

A topic's row has its version as the rowid: the table lies in commit order, so the change feed and everything "since"
are range scans, and writing appends. The index by name then holds (topic, version), all that a prefix scan needs
until it knows which values it wants. The idempotency table is laid out the same way: the version that a key stands
for is the revision at which it was made, so the oldest keys are the lowest rowids.
"""

from __future__ import annotations

import sqlite3
import time
from random import Random

from softstate.errors import StoreMissing, StoreRefused
from softstate.position import Position
from softstate.store.rules.nonce import epoch_nonce, lineage_nonce

APPLICATION_ID = 0x736F6674
"""``soft`` in ASCII: by it `file` and `PRAGMA application_id` know our files."""

SCHEMA_VERSION = 1
"""In `PRAGMA user_version`. A file with a higher one is from a newer softstate."""

OPEN_RETRY_S = 0.02
"""How long to wait when SQLite answers "busy" at once, as it does when two processes turn on WAL together."""

_SCHEMA = (
    "CREATE TABLE topic (version INTEGER PRIMARY KEY, topic TEXT NOT NULL, value BLOB)",
    "CREATE UNIQUE INDEX topic_name ON topic (topic)",
    "CREATE INDEX topic_tombstone ON topic (version) WHERE value IS NULL",
    "CREATE TABLE lineage (start INTEGER PRIMARY KEY, nonce TEXT NOT NULL)",
    "CREATE TABLE idempotency (version INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL, digest BLOB)",
    "CREATE UNIQUE INDEX idempotency_key ON idempotency (topic, key)",
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, floor INTEGER, keys INTEGER)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

STATE = (
    "SELECT epoch, floor, keys,"
    " max(floor, ifnull((SELECT max(version) FROM topic), 0), ifnull((SELECT max(start) FROM lineage), 0)) FROM meta"
)
"""Epoch, floor, number of idempotency keys, and head: the newest of all that has a revision and may still be there."""


def claim(connection: sqlite3.Connection, path: str, random: Random, busy_s: float, *, create: bool) -> Position:
    """Make the file ours if it is empty and `create`, commit a lineage row, and return its position.

    Everything is one transaction: a crash leaves an empty file or a complete one, and of two processes that create
    it together, the second finds it made. Raises `StoreRefused` for what is not ours, before anything is changed,
    `StoreMissing` for an empty file that is not to be made ours, and `sqlite3.Error` for the rest.
    """
    # One snapshot, or another process's half of creating it might be seen before and half after it commits.
    connection.execute("BEGIN")
    try:
        if not _ours_or_empty(connection, path) and not create:
            raise StoreMissing(
                f"{path} is empty: restore a backup, or make an empty store with softstate store create sqlite:{path}"
            )
    finally:
        connection.execute("ROLLBACK")
    _turn_on_wal(connection, path, busy_s)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _ours_or_empty(connection, path):
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES (1, ?, 0, 0)", (epoch_nonce(random),))
        position = begin_lineage(connection, random)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return position


def examine(connection: sqlite3.Connection, path: str) -> Position:
    """Return the newest position of a file, changing nothing. Raises `StoreRefused` unless it is ours."""
    connection.execute("BEGIN")
    try:
        if not _ours_or_empty(connection, path):
            raise StoreMissing(f"{path} is empty: name a store that was in use")
        epoch, _, _, head = connection.execute(STATE).fetchone()
        (nonce,) = connection.execute("SELECT nonce FROM lineage ORDER BY start DESC LIMIT 1").fetchone()
    finally:
        connection.execute("ROLLBACK")
    return Position(epoch, nonce, head)


def begin_lineage(connection: sqlite3.Connection, random: Random) -> Position:
    """Add a lineage row within a transaction; return its position."""
    epoch, _, _, head = connection.execute(STATE).fetchone()
    nonce = lineage_nonce(random)
    connection.execute("INSERT INTO lineage VALUES (?, ?)", (head + 1, nonce))
    return Position(epoch, nonce, head + 1)


def _ours_or_empty(connection: sqlite3.Connection, path: str) -> bool:
    """Tell whether the file is ours already; False when it is empty. Raises `StoreRefused` for any other."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if schema == SCHEMA_VERSION:
            return True
        raise StoreRefused(
            f"{path} has schema version {schema}, this softstate knows {SCHEMA_VERSION}:"
            " install the softstate that wrote it, or name another file"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or schema or tables:
        raise StoreRefused(
            f"{path} is an SQLite database of another application, and was left untouched: name another file"
        )
    return False


def _turn_on_wal(connection: sqlite3.Connection, path: str, busy_s: float) -> None:
    deadline = time.monotonic() + busy_s
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(OPEN_RETRY_S)
        else:
            break
    if mode != "wal":
        raise StoreRefused(
            f"{path} cannot use a write-ahead log (journal mode stays {mode!r}), as on most network file systems:"
            " name a file on a local disk"
        )
