"""Topics' rows as records, verified. Total: every row is a record, an unreadable one, or left out.

Every row that a statement steps to hands the interpreter lock over and takes it back, and while the event loop is busy
it is kept for milliseconds. So many rows come as one row of JSON: a page of 1,024 takes 64 ms instead of 1,280 beside a
thread that never rests. JSON cannot carry what damage may leave in a row (bytes for a name, text for a value, a name
that is no UTF-8), and is then given up for that portion: those rows are read one by one, as bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from softstate.model import Record
from softstate.store.rules.checksum import CHECKSUM_BYTES, read_record
from softstate.store.sqlite.state import seal

DIGITS_BYTES_MAX = 4096
"""A longer value is fetched by itself: as digits within JSON it would cost more than the change of hands saves."""

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, sqlite3.OperationalError)
"""Errors of a portion that JSON cannot carry. SQLite's own error must be its generic one (`cannot_be_json`)."""

_FETCH = (
    "SELECT json_group_array(json_array(topic, version, checksum,"
    " CASE typeof(value) WHEN 'blob' THEN CASE WHEN length(value) > ? THEN '' ELSE hex(value) END"
    " WHEN 'null' THEN NULL ELSE 0 END))"
    " FROM (SELECT topic, version, checksum, value FROM record WHERE {} ORDER BY version LIMIT ?)"
)
_FETCH_BYTES = (
    "SELECT version, typeof(topic), CAST(topic AS BLOB), typeof(value), CAST(value AS BLOB), checksum"
    " FROM record WHERE {} ORDER BY version LIMIT ?"
)
_FETCH_NAMES = (
    "SELECT json_group_array(topic), json_group_array(version) FROM"
    " (SELECT topic, version FROM record WHERE {} ORDER BY version LIMIT ?)"
)
_FETCH_NAMES_BYTES = "SELECT typeof(topic), CAST(topic AS BLOB), version FROM record WHERE {} ORDER BY version LIMIT ?"
_NAMES = msgspec.json.Decoder(list[str])
_VERSIONS = msgspec.json.Decoder(list[int])
_ROWS = msgspec.json.Decoder(list[tuple[str, int, int, str | int | None]])


def fetch(
    connection: sqlite3.Connection, head: int, where: str, parameters: Sequence[object], limit: int
) -> list[tuple[int, Record | None]]:
    """Fetch rows in version order: each as its version, and the record, None where it has no valid name.

    `head` is the newest revision of the snapshot.
    """
    try:
        (found,) = connection.execute(_FETCH.format(where), (DIGITS_BYTES_MAX, *parameters, limit)).fetchone()
        rows = _ROWS.decode(found)
    except NOT_JSON as error:
        if not cannot_be_json(error):
            raise
        return list(fetch_bytes(connection, head, where, parameters, limit))
    records: list[tuple[int, Record | None]] = []
    for topic, version, stored, digits in rows:
        if digits is None or (digits and type(digits) is str):
            cbor = None if digits is None else bytes.fromhex(digits)
            # A row that matches was written by a release of ours, which checks names.
            if 0 < version <= head and stored == seal(topic, version, cbor):
                records.append((version, Record(topic, version, cbor)))
                continue
        records.append((version, _record(connection, head, topic, version, stored, digits)))
    return records


def cannot_be_json(error: Exception) -> bool:
    """Tell whether rows must be read one by one; if not, the error is of another kind."""
    return not isinstance(error, sqlite3.Error) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR


def _record(
    connection: sqlite3.Connection, head: int, topic: str, version: int, stored: int, digits: str | int | None
) -> Record | None:
    if digits == "" and 0 < version <= head:
        cbor = _value(connection, version)
        if stored == seal(topic, version, cbor):
            return Record(topic, version, cbor)
    # Once more, since JSON may not have carried the name as it is.
    found = list(fetch_bytes(connection, head, "version = ?", (version,), 1))
    return found[0][1] if found else read_record(topic, version, None, None, head)


def _value(connection: sqlite3.Connection, version: int) -> bytes:
    row = connection.execute("SELECT value FROM record WHERE version = ?", (version,)).fetchone()
    # A damaged tree may hold a row that cannot be found by its key.
    return row[0] if row and type(row[0]) is bytes else b""


def fetch_bytes(
    connection: sqlite3.Connection, head: int, where: str, parameters: Sequence[object], limit: int
) -> Iterator[tuple[int, Record | None]]:
    """Fetch rows as `fetch` does, one by one."""
    rows = connection.execute(_FETCH_BYTES.format(where), (*parameters, limit))
    for version, topic_type, topic, value_type, value, stored in rows.fetchall():
        name = _text(topic) if topic_type == b"text" else None
        cbor = value if value_type in (b"blob", b"null") else ""
        sealed = stored.to_bytes(CHECKSUM_BYTES, "big", signed=True) if type(stored) is int else None
        yield version, read_record(name, version, cbor, sealed, head)


def fetch_names(
    connection: sqlite3.Connection, where: str, parameters: Sequence[object], limit: int
) -> tuple[Sequence[str], Sequence[int]]:
    """Fetch names and versions of rows in version order; the name is empty where it is none that JSON can carry."""
    try:
        topics, versions = connection.execute(_FETCH_NAMES.format(where), (*parameters, limit)).fetchone()
        return _NAMES.decode(topics), _VERSIONS.decode(versions)
    except NOT_JSON as error:
        if not cannot_be_json(error):
            raise
    rows = connection.execute(_FETCH_NAMES_BYTES.format(where), (*parameters, limit)).fetchall()
    return [(_text(topic) if kind == b"text" else None) or "" for kind, topic, _ in rows], [row[2] for row in rows]


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
