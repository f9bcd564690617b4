"""Looking at everything that an SQLite file holds, for ``softstate store check``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from softstate.store.sqlite.errors import Damaged
from softstate.store.sqlite.remembered import KEY_COLUMNS, PUBLISHER_COLUMNS, read_key, read_publisher
from softstate.store.sqlite.rows import fetch
from softstate.store.sqlite.state import State, check_lineages, read_state, recount

ROWS_AT_ONCE = 256
"""How many rows are read at once."""

INTEGRITY_LINES_MAX = 20
"""How many faults of the file itself are told: one page that is damaged makes many."""

VERSION_MIN = -(2**63)


def audit(connection: sqlite3.Connection) -> list[str]:
    """Return everything that is wrong, each a sentence with what to do. Takes a transaction that has begun."""
    found: list[str] = []
    try:
        lines = connection.execute(f"PRAGMA integrity_check({INTEGRITY_LINES_MAX})").fetchall()
        found += [
            f"the file is damaged: {line.decode(errors='replace')}: stop every node, and restore a backup"
            for (line,) in lines
            if line != b"ok"
        ]
        state = read_state(connection)
        found += _rows(connection, state)
        found += _remembered(connection)
        check_lineages(connection, state)
    except (sqlite3.DatabaseError, Damaged) as error:
        found.append(f"{error}: it is damaged: stop every node, and restore a backup")
    return found


def _rows(connection: sqlite3.Connection, state: State) -> Iterator[str]:
    """Look at every topic's row, and for rows that have vanished."""
    intact, nameless, after = True, 0, VERSION_MIN
    while True:
        rows = fetch(connection, state.head, "version >= ?", (after,), ROWS_AT_ONCE)
        for _, record in rows:
            if record is None:
                nameless += 1
            elif record.unreadable:
                intact = False
                yield f"the record of {record.topic!r} is unreadable: publish it without expect, or restore a backup"
        if len(rows) < ROWS_AT_ONCE:
            break
        after = rows[-1][0] + 1
    if nameless:
        yield f"{nameless} records have lost their names: their topics have vanished; restore a backup"
    counted = recount(connection, state)
    if counted.records < state.records:
        yield (
            f"{state.records - counted.records} records have vanished, of {state.records}: restore a backup, since"
            " nothing tells which"
        )
    elif counted.records > state.records:
        yield f"{counted.records - state.records} records are there that no publish left: restore a backup"
    elif counted.total != state.total and intact and not nameless:
        yield (
            "the sum of all checksums is not the one that publishes left: records were exchanged, or one whose"
            " checksum was damaged was published again; restore a backup, or copy the store, which counts again"
        )


def _remembered(connection: sqlite3.Connection) -> Iterator[str]:
    """Look at every row of a key or publisher; damaged ones harm no topic."""
    for what, columns, table, read in (
        ("idempotency keys", KEY_COLUMNS, "used_key", read_key),
        ("publishers", PUBLISHER_COLUMNS, "publisher", read_publisher),
    ):
        damaged = sum(read(row) is None for row in connection.execute(f"SELECT {columns} FROM {table}"))
        if damaged:
            yield f"{damaged} {what} are damaged, and count as forgotten: a request repeated under one is applied again"
