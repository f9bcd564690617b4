"""The one row that every transaction reads: where the history stands, and how much the file holds.

It is kept, not counted: the head, since a damaged row may have a version that no commit was given, and the number of
records with the sum of their checksums, by which `softstate store check` finds rows that have vanished.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from softstate.errors import StoreRewound
from softstate.position import Position
from softstate.store.rules.checksum import checksum, row_checksum
from softstate.store.rules.nonce import lineage_nonce
from softstate.store.sqlite.errors import Damaged

CHECKED_ROWS = 1_024
"""How many rows of the state and of the lineages are remembered as verified."""

SUM_MODULUS = 2**64
"""The sum of checksums is taken modulo this."""

_COLUMNS = ("epoch", "lineage", "head", "floor", "keys", "publishers", "lineages", "records", "total")
_READ = f"SELECT {', '.join(_COLUMNS)}, checksum FROM state WHERE id = 1"
_WRITE = f"INSERT OR REPLACE INTO state (id, {', '.join(_COLUMNS)}, checksum) VALUES (1{', ?' * (len(_COLUMNS) + 1)})"


class State(NamedTuple):
    """The state row. `lineage` is in force at `head`; `keys`, `publishers`, `lineages` and `records` count rows.

    `total` is the sum of the records' checksums, modulo 2^64, as a signed integer.
    """

    epoch: str
    lineage: str = ""
    head: int = 0
    floor: int = 0
    keys: int = 0
    publishers: int = 0
    lineages: int = 0
    records: int = 0
    total: int = 0

    @property
    def position(self) -> Position:
        """The newest commit."""
        return Position(self.epoch, self.lineage, self.head)


def as_integer(hashed: bytes) -> int:
    """Return a checksum as it is stored: an integer of 64 bits, signed."""
    return int.from_bytes(hashed, "big", signed=True)


def seal(topic: str, version: int, cbor: bytes | None) -> int:
    """Return the checksum of a topic's row."""
    return as_integer(checksum(topic, version, cbor))


def seal_of(*parts: str | bytes | int) -> int:
    """Return the checksum of any other row."""
    return as_integer(row_checksum(*parts))


def sum_of(total: int, added: Sequence[int] = (), removed: Sequence[int] = ()) -> int:
    """Return a sum of checksums after some were added and removed."""
    result = (total + sum(added) - sum(removed)) % SUM_MODULUS
    return result - SUM_MODULUS if result >= SUM_MODULUS // 2 else result


def read_state(connection: sqlite3.Connection) -> State:
    """Return the state. Raises `StoreRewound` when the file holds no store any more, `Damaged`."""
    try:
        row: tuple[Any, ...] | None = connection.execute(_READ).fetchone()
    except sqlite3.OperationalError as error:
        # SQLite's generic error: the statement is right, so the table is gone.
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise StoreRewound(
            "the file was emptied, or overwritten with another database, while it was open: reopen it"
        ) from error
    if row is None:
        raise Damaged("the row with its state is gone")
    return _verified(row)


@lru_cache(CHECKED_ROWS)
def _verified(row: tuple[Any, ...]) -> State:
    *fields, stored = row
    epoch, lineage, *numbers = fields
    if (
        type(epoch) is not bytes
        or type(lineage) is not bytes
        or any(type(number) is not int for number in numbers)
        or stored != seal_of(*fields)
    ):
        raise Damaged("the row with its state does not match its checksum")
    return State(epoch.decode(), lineage.decode(), *numbers)


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Store the state."""
    connection.execute(_WRITE, (*state, seal_of(*state)))


def begin_lineage(connection: sqlite3.Connection, state: State, random: Random) -> State:
    """Add a lineage row within a transaction; return the state with it."""
    nonce, start = lineage_nonce(random), state.head + 1
    add_lineages(connection, [(start, nonce)])
    state = state._replace(lineage=nonce, head=start, lineages=state.lineages + 1)
    write_state(connection, state)
    return state


def add_lineages(connection: sqlite3.Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Add lineage rows, each as its revision and its nonce."""
    connection.executemany(
        "INSERT INTO history (start, nonce, checksum) VALUES (?, ?, ?)",
        [(start, nonce, seal_of(start, nonce)) for start, nonce in rows],
    )


@lru_cache(CHECKED_ROWS)
def lineage_of(start: object, nonce: object, stored: object) -> tuple[int, str]:
    """Return a lineage row as its revision and its nonce. Raises `Damaged`."""
    if type(start) is not int or type(nonce) is not bytes or stored != seal_of(start, nonce):
        raise Damaged(f"the lineage row at revision {start} does not match its checksum")
    return start, nonce.decode()


def check_lineages(connection: sqlite3.Connection, state: State) -> None:
    """Raise `Damaged` unless every lineage row is there and intact."""
    rows = [
        lineage_of(*row)
        for row in connection.execute("SELECT start, nonce, checksum FROM history ORDER BY start").fetchall()
    ]
    if len(rows) != state.lineages or not rows or rows[-1][1] != state.lineage or rows[-1][0] > state.head:
        raise Damaged("a lineage row has vanished")


def recount(connection: sqlite3.Connection, state: State) -> State:
    """Return the state with everything counted again, as after rows were put in without it."""
    keys, publishers, lineages = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("used_key", "publisher", "history")
    )
    records = total = 0
    for (stored,) in connection.execute("SELECT checksum FROM record"):
        records += 1
        total += stored if type(stored) is int else 0
    return state._replace(keys=keys, publishers=publishers, lineages=lineages, records=records, total=sum_of(total))
