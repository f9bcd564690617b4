"""Carrying a file of an earlier layout over to this one.

Layout 1, of November 2026, had the tables topic, lineage, idempotency and meta, and no checksums. Nothing in it tells a
damaged row from another, but a value that does not decode, or a name that is none, was never published: such a row is
kept, and is unreadable.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from softstate.errors import Invalid
from softstate.names import check_topic
from softstate.position import REVISION_MAX
from softstate.store.base import LAYOUT, Key
from softstate.store.sqlite.copies import copy_file, discard, put_in_place
from softstate.store.sqlite.errors import Damaged
from softstate.store.sqlite.place import BESIDE, PRIVATE
from softstate.store.sqlite.remembered import KEY_COLUMNS, key_row
from softstate.store.sqlite.schema import create_tables, layout_of, read_layout
from softstate.store.sqlite.state import State, add_lineages, recount, seal, write_state
from softstate.wire import CBOR, check_value

ROWS_AT_ONCE = 1_024
"""Rows that are held in memory at once."""

UNREADABLE = 0
"""The checksum of a row that is none of ours: no other than one in 2^64 has it."""

_META = (
    "SELECT epoch, floor,"
    " max(floor, ifnull((SELECT max(version) FROM topic WHERE version <= ?), 0),"
    " ifnull((SELECT max(start) FROM lineage), 0)) FROM meta"
)
_TOPICS = "SELECT version, typeof(topic), CAST(topic AS BLOB), typeof(value), CAST(value AS BLOB) FROM topic"


def migrate(connection: sqlite3.Connection, path: str, *, backup: bool) -> str | None:
    """Carry a file over to this layout in one transaction, after a `backup` beside it, and return the path of that.

    None if nothing was to do, or no backup was asked for. A process of the earlier release that has the file open
    finds its tables gone. Raises `Damaged`, `Unavailable` if the backup cannot be made, and `sqlite3.Error`; the file
    is then as it was.
    """
    if read_layout(connection) == LAYOUT:
        return None
    connection.execute("BEGIN IMMEDIATE")
    try:
        layout = layout_of(connection, path)
        if layout == LAYOUT:
            return None
        # The lock is held: what is copied is what is carried over, and no other process copies.
        with _copied(path, f"{path}.layout-{layout}") if backup else nullcontext() as named:
            _carry_over(connection)
            copy: str | None = named() if named is not None else None
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    _make_private(path)
    return copy


@contextmanager
def _copied(path: str, target: str) -> Iterator[Callable[[], str]]:
    """Copy a file before the body; yield what names the copy by `target`, and returns its name.

    That is for the end of the body: a process that is killed before leaves one unnamed copy, which the next one
    replaces, and one that fails leaves none. A large file that cannot be carried over would fill the disk otherwise.
    """
    partial = f"{target}.partial"
    copies = [partial]

    def named() -> str:
        copies.append(_unused(target))
        put_in_place(partial, copies[-1])
        return copies[-1]

    discard(partial)
    copy_file(path, partial)
    try:
        yield named
    except BaseException:
        for copy in copies:
            discard(copy)
        raise


def _unused(path: str) -> str:
    """Return a name that no file has: an earlier copy is not overwritten."""
    name, number = path, 1
    while os.path.lexists(name):
        number += 1
        name = f"{path}.{number}"
    return name


def _carry_over(connection: sqlite3.Connection) -> None:
    row = connection.execute(_META, (REVISION_MAX,)).fetchone()
    if row is None or [type(field) for field in row] != [bytes, int, int] or not row[0].isalnum():
        raise Damaged("its table meta does not hold what it should")
    epoch, floor, head = row
    lineages = [_lineage(*row) for row in connection.execute("SELECT start, nonce FROM lineage ORDER BY start")]
    if not lineages:
        raise Damaged("it has no lineage row")
    create_tables(connection)
    add_lineages(connection, lineages)
    _carry_topics_over(connection, head)
    keys = _portioned(connection, "SELECT topic, key, digest, version FROM idempotency")
    connection.executemany(
        f"INSERT OR IGNORE INTO used_key ({KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        (key_row(Key(row[0].decode(), row[1].decode(), row[2], row[3])) for row in keys if _is_key(head, *row)),
    )
    for table in ("topic", "lineage", "idempotency", "meta"):
        connection.execute(f"DROP TABLE {table}")
    state = State(epoch.decode(), lineages[-1][1], head, floor)
    write_state(connection, recount(connection, state))


def _carry_topics_over(connection: sqlite3.Connection, head: int) -> None:
    cursor = connection.execute(_TOPICS)
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        sound: list[tuple[int, str, int, bytes | None]] = []
        for version, topic_type, topic, value_type, value in rows:
            name = _published_name(head, version, topic_type, topic, value_type, value)
            if name is not None:
                sound.append((version, name, seal(name, version, value), value))
            else:
                # As it stands, of its types.
                connection.execute(
                    "INSERT OR IGNORE INTO record (version, topic, checksum, value)"
                    " SELECT version, topic, ?, value FROM topic WHERE version = ?",
                    (UNREADABLE, version),
                )
        connection.executemany(
            "INSERT OR IGNORE INTO record (version, topic, checksum, value) VALUES (?, ?, ?, ?)", sound
        )


def _portioned(connection: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    cursor = connection.execute(sql)
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield from rows


def _lineage(start: object, nonce: object) -> tuple[int, str]:
    if type(start) is not int or type(nonce) is not bytes or not (0 < start <= REVISION_MAX and nonce.isalnum()):
        raise Damaged("a lineage row does not hold what it should")
    return start, nonce.decode()


def _published_name(
    head: int, version: int, topic_type: bytes, topic: bytes, value_type: bytes, value: bytes | None
) -> str | None:
    """Return the name of a topic's row; None if the row cannot have been published as it is."""
    if topic_type != b"text" or value_type not in (b"blob", b"null") or not 0 < version <= head:
        return None
    try:
        name = check_topic(topic.decode())
        if value is not None:
            check_value(CBOR.loads(value, Any))
    except (Invalid, UnicodeDecodeError):
        return None
    return name


def _is_key(head: int, topic: object, key: object, digest: object, version: object) -> bool:
    """Tell whether a row is of an idempotency key. One above the head would stand in the way of the key made there."""
    if type(topic) is not bytes or type(key) is not bytes or type(digest) is not bytes or type(version) is not int:
        return False
    if not 0 < version <= head:
        return False
    try:
        return bool(topic.decode() and key.decode())
    except UnicodeDecodeError:
        return False


def _make_private(path: str) -> None:
    """Take the files from other users: in earlier layouts all could read them."""
    for name in (path, *(os.path.realpath(path) + ending for ending in BESIDE)):
        with suppress(FileNotFoundError, PermissionError):  # not there, or another user's
            Path(name).chmod(PRIVATE)
