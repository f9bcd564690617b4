"""A group of publishes in one write transaction: looked up together, judged one by one, written together.

Every row that a statement steps to hands the interpreter lock over and takes it back, and while the event loop is busy
it comes back late. So the whole group is looked up in one row, as JSON, and written many rows at a step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from softstate.store.base import Write
from softstate.store.rules.judge import JudgedGroup, KeyUse, TopicState, judge_group
from softstate.store.sqlite.snapshot import SqliteSnapshot

ROWS_AT_ONCE = (64, 16, 4, 1)
"""How many rows one statement takes: few sizes, so that SQLite compiles each once, and 1 to fit any number."""

_TOPICS = (
    "SELECT json_group_array(json_array(topic, version, value IS NOT NULL)) FROM topic"
    " WHERE topic IN (SELECT value FROM json_each(?))"
)
_KEYS = (
    "WITH asked (topic, key) AS (VALUES {})"
    " SELECT json_group_array(json_array(used.topic, used.key, hex(used.digest), used.version))"
    " FROM asked CROSS JOIN idempotency AS used ON used.topic = asked.topic AND used.key = asked.key"
)
_WRITE_TOPICS = (
    "INSERT INTO topic (version, topic, value) VALUES {} ON CONFLICT (topic)"
    " DO UPDATE SET version = excluded.version, value = excluded.value"
)
_WRITE_KEYS = "INSERT INTO idempotency (version, topic, key, digest) VALUES {}"


def apply_group(
    connection: sqlite3.Connection, snapshot: SqliteSnapshot, group: Sequence[Write], keys_max: int
) -> JudgedGroup:
    """Judge a group in the write transaction that `snapshot` began, and write the applied part."""
    judged = judge_group(
        group,
        snapshot,
        _topics_of(connection, group),
        _keys_of(connection, group),
        before=snapshot.position.revision,
        keys_held=snapshot.keys_held,
        keys_max=keys_max,
    )
    newest = {record.topic: record for record in judged.records}
    rows = sorted((record.version, record.topic, record.cbor) for record in newest.values())
    made = [(key.version, key.topic, key.key, key.digest) for key in judged.keys]
    for statement, values in (*_statements(_WRITE_TOPICS, rows), *_statements(_WRITE_KEYS, made)):
        connection.execute(statement, values)
    if made:
        # Stored, since counting a million of them would take longer than the commit.
        connection.execute("UPDATE meta SET keys = ?", (snapshot.keys_held + len(made),))
    return judged


def _topics_of(connection: sqlite3.Connection, group: Sequence[Write]) -> dict[str, TopicState]:
    """Return the state of each topic of the group that has a record."""
    topics = msgspec.json.encode(list({write.topic: None for write in group})).decode()
    found = _listed(connection.execute(_TOPICS, (topics,)))
    return {topic: TopicState(version, bool(live)) for topic, version, live in found}


def _keys_of(connection: sqlite3.Connection, group: Sequence[Write]) -> dict[tuple[str, str], KeyUse]:
    """Return the requests that the idempotency keys of the group stand for already."""
    # Not as JSON, like the topics: a key may hold a zero character, at which SQLite's JSON ends a text.
    keyed = {(write.topic, write.key): None for write in group if write.key is not None}
    used: dict[tuple[str, str], KeyUse] = {}
    for statement, values in _statements(_KEYS, list(keyed)):
        for topic, key, digest, version in _listed(connection.execute(statement, values)):
            used[topic, key] = bytes.fromhex(digest), version
    return used


def _statements(template: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Spread rows over statements of `ROWS_AT_ONCE`; yield each with its parameters."""
    at = 0
    while at < len(rows):
        count = next(size for size in ROWS_AT_ONCE if size <= len(rows) - at)
        row = f"({', '.join('?' * len(rows[at]))})"
        yield template.format(", ".join([row] * count)), [value for row in rows[at : at + count] for value in row]
        at += count


def _listed(cursor: sqlite3.Cursor) -> list[Any]:
    (text,) = cursor.fetchone()
    found: list[Any] = msgspec.json.decode(text)
    return found
