"""The one row that every transaction reads: where the history stands, and how much the file holds.

It is kept, not counted: the head, since a damaged row may have a version that no commit was given, and the number of
records with the sum of their checksums, by which `softstate store check` finds rows that have vanished.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from random import Random
from struct import Struct
from typing import Any, NamedTuple

from softstate.errors import StoreRewound
from softstate.position import Position
from softstate.store.rules.checksum import row_checksum
from softstate.store.rules.nonce import lineage_nonce
from softstate.store.sqlite.errors import Damaged

CHECKED_ROWS = 1_024
"""How many rows of the state, and how many of the lineages, are remembered as verified."""

_LENGTH, _VERSION, _CHECKSUM = Struct(">I"), Struct(">q"), Struct(">q")
_NUMBERS = Struct(">" + "Iq" * 7)

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


# Hot: by `checksum` and `row_checksum` the same numbers take 1.5 and 9 us, by hand 0.9 and 2 (timeit).


def seal(topic: str, version: int, cbor: bytes | None) -> int:
    """Return the checksum of a topic's row (`softstate.store.rules.checksum.checksum`) as it is stored: an integer."""
    name = topic.encode()
    value = b"\0" if cbor is None else b"\1" + cbor
    hashed = sha256(_LENGTH.pack(len(name)) + name + _VERSION.pack(version) + value).digest()
    checksum: int = _CHECKSUM.unpack_from(hashed)[0]
    return checksum


def seal_of(*parts: str | bytes | int) -> int:
    """Return the checksum of any other row (`softstate.store.rules.checksum.row_checksum`) as an integer."""
    return int.from_bytes(row_checksum(*parts), "big", signed=True)


def _seal_of_state(epoch: bytes, lineage: bytes, numbers: Sequence[int]) -> int:
    """Return what `seal_of` returns of a state."""
    packed = _NUMBERS.pack(*(part for number in numbers for part in (_VERSION.size, number)))
    hashed = sha256(_LENGTH.pack(len(epoch)) + epoch + _LENGTH.pack(len(lineage)) + lineage + packed).digest()
    checksum: int = _CHECKSUM.unpack_from(hashed)[0]
    return checksum


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
    return _verified.get(row) or _verify(row)


_verified: dict[tuple[Any, ...], State] = {}


def _verify(row: tuple[Any, ...]) -> State:
    epoch, lineage, *numbers, stored = row
    if (
        type(epoch) is not bytes
        or type(lineage) is not bytes
        or any(type(number) is not int for number in numbers)
        or stored != _seal_of_state(epoch, lineage, numbers)
    ):
        raise Damaged("the row with its state does not match its checksum")
    state = State(epoch.decode(), lineage.decode(), *numbers)
    _remember(row, state)
    return state


def _remember(row: tuple[Any, ...], state: State) -> None:
    if len(_verified) >= CHECKED_ROWS:
        _verified.clear()
    _verified[row] = state


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Store the state."""
    epoch, lineage, *numbers = state
    names = epoch.encode(), lineage.encode()
    stored = _seal_of_state(*names, numbers)
    connection.execute(_WRITE, (*state, stored))
    _remember((*names, *numbers, stored), state)


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
