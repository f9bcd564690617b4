"""The layout of softstate's SQLite file: creating it, and refusing a file that is not ours.

A topic's row has its version as the rowid: the table lies in commit order, so the change feed and everything "since"
are range scans, and writing appends. The index by name then holds (topic, version), all that a prefix scan needs
until it knows which values it wants. The checksum stands before the value, which may lie on other pages. The table of
idempotency keys is laid out the same way: the version that a key stands for is the revision at which it was made, so
the oldest keys are the lowest rowids.

Every checksum is an integer, the first 8 bytes of a SHA-256 (`softstate.store.rules.checksum`). The number of the
layout is `PRAGMA user_version`. Every layout has new names for its tables: a process of an earlier release that still
has the file open finds no table to write to, and opening it again refuses the number.
"""

from __future__ import annotations

import sqlite3
import time
from random import Random

from softstate.errors import StoreMissing, StoreRefused
from softstate.store.base import LAYOUT
from softstate.store.rules.nonce import epoch_nonce
from softstate.store.sqlite.errors import Damaged
from softstate.store.sqlite.state import State, begin_lineage, check_lineages, read_state

APPLICATION_ID = 0x736F6674
"""``soft`` in ASCII: by it `file` and `PRAGMA application_id` know our files."""

OPEN_RETRY_S = 0.02
"""How long to wait when SQLite answers "busy" at once, as it does when two processes turn on WAL together."""

_SCHEMA = {
    "record": "CREATE TABLE record (version INTEGER PRIMARY KEY, topic TEXT NOT NULL, checksum INTEGER, value BLOB)",
    "record_topic": "CREATE UNIQUE INDEX record_topic ON record (topic)",
    "record_tombstone": "CREATE INDEX record_tombstone ON record (version) WHERE value IS NULL",
    "history": "CREATE TABLE history (start INTEGER PRIMARY KEY, nonce TEXT, checksum INTEGER)",
    "used_key": (
        "CREATE TABLE used_key (version INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL, checksum INTEGER,"
        " digest BLOB)"
    ),
    "used_key_name": "CREATE UNIQUE INDEX used_key_name ON used_key (topic, key)",
    "publisher": (
        "CREATE TABLE publisher (publisher TEXT NOT NULL, touched INTEGER, settled INTEGER, checksum INTEGER,"
        " uses BLOB)"
    ),
    "publisher_name": "CREATE UNIQUE INDEX publisher_name ON publisher (publisher)",
    "publisher_touched": "CREATE INDEX publisher_touched ON publisher (touched)",
    "state": (
        "CREATE TABLE state (id INTEGER PRIMARY KEY, epoch TEXT, lineage TEXT, head INTEGER, floor INTEGER,"
        " keys INTEGER, publishers INTEGER, lineages INTEGER, records INTEGER, total INTEGER, checksum INTEGER)"
    ),
}
"""Every table and index by its name."""


class EarlierLayout(StoreRefused):
    """The file is of an earlier release, and was opened to read only: it would have to be carried over first."""


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of this layout within a transaction, and mark the file."""
    for statement in _SCHEMA.values():
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {LAYOUT}")


def prepare(connection: sqlite3.Connection, path: str, random: Random, busy_s: float, *, create: bool) -> bool:
    """Make the file ours if it is empty and `create`, with a first lineage row; return whether it was.

    Everything is one transaction: a crash leaves an empty file or a complete one, and of two processes that create
    it together, the second finds it made. Raises `StoreRefused` for what is not ours, before anything is changed,
    `StoreMissing` for an empty file that is not to be made ours, and `sqlite3.Error` for the rest.
    """
    # One snapshot, or another process's half of creating it might be seen before and half after it commits.
    connection.execute("BEGIN")
    try:
        layout = layout_of(connection, path)
        if not layout and not create:
            raise StoreMissing(
                f"{path} is empty: restore a backup, or make an empty store with softstate store create sqlite:{path}"
            )
    finally:
        connection.execute("ROLLBACK")
    _turn_on_wal(connection, path, busy_s)
    if layout:
        return False
    connection.execute("BEGIN IMMEDIATE")
    try:
        made = not layout_of(connection, path)
        if made:
            create_tables(connection)
            begin_lineage(connection, State(epoch_nonce(random)), random)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return made


def examine(connection: sqlite3.Connection, path: str) -> State:
    """Return the state of a file, within a transaction. Raises `StoreRefused` unless it is ours, `Damaged`."""
    layout = layout_of(connection, path)
    if not layout:
        raise StoreMissing(f"{path} is empty: name a store that was in use")
    if layout != LAYOUT:
        raise EarlierLayout(
            f"{path} has layout {layout}, of an earlier softstate: a node that starts on it carries it over, as does"
            f" softstate store migrate sqlite:{path}"
        )
    names = ", ".join(f"'{name}'" for name in _SCHEMA)
    found = connection.execute(f"SELECT name, sql FROM sqlite_master WHERE name IN ({names})").fetchall()
    if dict(found) != {name.encode(): sql.encode() for name, sql in _SCHEMA.items()}:
        raise Damaged("the definition of its tables is not ours")
    state = read_state(connection)
    check_lineages(connection, state)
    return state


def layout_of(connection: sqlite3.Connection, path: str) -> int:
    """Return the number of the file's layout; 0 when it is empty. Raises `StoreRefused` for what is not ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    layout = read_layout(connection)
    if application == APPLICATION_ID:
        if 1 <= layout <= LAYOUT:
            return layout
        raise StoreRefused(
            f"{path} has layout {layout}, this softstate knows {LAYOUT} and earlier ones:"
            " install the softstate that wrote it, or name another file"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or layout or tables:
        raise StoreRefused(
            f"{path} is an SQLite database of another application, and was left untouched: name another file"
        )
    return 0


def read_layout(connection: sqlite3.Connection) -> int:
    """Return the number of the layout as it is written in the file."""
    layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return layout


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
    if mode != b"wal":
        raise StoreRefused(
            f"{path} cannot use a write-ahead log (journal mode stays {mode.decode()!r}), as on most network file"
            " systems: name a file on a local disk"
        )
