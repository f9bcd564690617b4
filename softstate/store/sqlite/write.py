"""A group of publishes in one write transaction: looked up together, judged one by one, written together.

Every row that a statement steps to hands the interpreter lock over and takes it back, and while the event loop is busy
it comes back late. So the whole group is looked up in one row, as JSON, and written many rows at a step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from softstate.position import REVISION_MAX
from softstate.store.base import Publisher, Write
from softstate.store.rules.judge import JudgedGroup, KeyUse, TopicState, is_verified, judge_group
from softstate.store.sqlite.remembered import (
    KEY_COLUMNS,
    PUBLISHER_COLUMNS,
    key_row,
    publisher_row,
    read_key,
    read_publisher,
)
from softstate.store.sqlite.rows import fetch
from softstate.store.sqlite.snapshot import SqliteSnapshot, as_json
from softstate.store.sqlite.state import State, seal, sum_of, write_state

ROWS_AT_ONCE = (64, 16, 4, 1)
"""How many rows one statement takes: few sizes, so that SQLite compiles each once, and 1 to fit any number."""

_TOPICS = (
    "SELECT json_group_array(json_array(asked.key, version, record.value IS NOT NULL,"
    " CASE typeof(checksum) WHEN 'integer' THEN checksum ELSE 0 END))"
    " FROM json_each(?) AS asked CROSS JOIN record WHERE topic = asked.value"
)
_TOPIC = (
    "SELECT version, value IS NOT NULL, CASE typeof(checksum) WHEN 'integer' THEN checksum ELSE 0 END FROM record"
    " WHERE topic = ?"
)
_KEYS = (
    "WITH asked (topic, key) AS (VALUES {})"
    " SELECT used.topic, used.key, used.digest, used.version, used.checksum"
    " FROM asked CROSS JOIN used_key AS used ON used.topic = asked.topic AND used.key = asked.key"
)
_PUBLISHERS = f"SELECT {PUBLISHER_COLUMNS} FROM publisher WHERE publisher IN (VALUES {{}})"
"""Not by way of JSON, whose strings SQLite 3.40 cuts at U+0000: a publisher may have any name."""

_WRITE_TOPICS = (
    "INSERT INTO record (version, topic, checksum, value) VALUES {} ON CONFLICT (topic)"
    " DO UPDATE SET version = excluded.version, checksum = excluded.checksum, value = excluded.value"
)
_WRITE_KEYS = (
    f"INSERT INTO used_key ({KEY_COLUMNS}) VALUES {{}} ON CONFLICT (topic, key)"
    " DO UPDATE SET version = excluded.version, digest = excluded.digest, checksum = excluded.checksum"
)
_WRITE_PUBLISHERS = (
    f"INSERT INTO publisher ({PUBLISHER_COLUMNS}) VALUES {{}} ON CONFLICT (publisher) DO UPDATE SET"
    " settled = excluded.settled, touched = excluded.touched, uses = excluded.uses, checksum = excluded.checksum"
)


def apply_group(
    connection: sqlite3.Connection,
    snapshot: SqliteSnapshot,
    state: State,
    group: Sequence[Write],
    keys_max: int,
    publishers_max: int,
) -> JudgedGroup:
    """Judge a group in the write transaction that `snapshot` began, and write the applied part.

    `state` is that of the transaction, which may have added a lineage row already.
    """
    found = _topics_of(connection, group)
    judged = judge_group(
        group,
        snapshot,
        _states_of(snapshot, group, found),
        _keys_of(connection, group),
        _publishers_of(connection, group),
        before=state.head,
        keys_held=state.keys,
        keys_max=keys_max,
        publishers_held=state.publishers,
        publishers_max=publishers_max,
    )
    newest = {record.topic: record for record in judged.records}
    rows = sorted(
        (record.version, record.topic, seal(record.topic, record.version, record.cbor), record.cbor)
        for record in newest.values()
    )
    keys = [key_row(key) for key in judged.keys]
    publishers = [publisher_row(publisher) for publisher in judged.publishers]
    for statement, values in (
        *_statements(_WRITE_TOPICS, rows),
        *_statements(_WRITE_KEYS, keys),
        *_statements(_WRITE_PUBLISHERS, publishers),
    ):
        _execute(connection, statement, values, state.head)
    replaced = [found[topic][2] for topic in newest if topic in found]
    changed = state._replace(
        head=judged.revision,
        # Stored, since counting a million of them would take longer than the commit.
        keys=state.keys + len(keys),
        publishers=state.publishers + judged.publishers_added,
        records=state.records + len(rows) - len(replaced),
        total=sum_of(state.total, [row[2] for row in rows], replaced),
    )
    if changed != state:
        write_state(connection, changed)
    return judged


def _execute(connection: sqlite3.Connection, statement: str, values: Sequence[object], head: int) -> None:
    try:
        connection.execute(statement, values)
    except sqlite3.IntegrityError:
        _make_way(connection, head)
        connection.execute(statement, values)


def _make_way(connection: sqlite3.Connection, head: int) -> None:
    """Move damaged rows away whose version is given to a commit only now.

    A topic's keeps its name, and so stays unreadable; a key is forgotten, as any damaged one.
    """
    aside = 0
    for version, record in fetch(connection, REVISION_MAX, "version > ?", (head,), -1):
        if record is None or record.unreadable:
            while connection.execute("SELECT 1 FROM record WHERE version = ?", (aside,)).fetchone():
                aside -= 1
            connection.execute("UPDATE record SET version = ? WHERE version = ?", (aside, version))
    keys = connection.execute(f"SELECT version, {KEY_COLUMNS} FROM used_key WHERE version > ?", (head,)).fetchall()
    for version, *row in keys:
        if read_key(tuple(row)) is None:
            connection.execute("DELETE FROM used_key WHERE version = ?", (version,))


def _topics_of(connection: sqlite3.Connection, group: Sequence[Write]) -> dict[str, tuple[int, bool, int]]:
    """Return version, whether it has a value, and stored checksum of each topic of the group that has a record."""
    if len(group) == 1:
        # Not by way of JSON, which is for not stepping to many rows: 50 µs less, of a publish that comes alone.
        topic = group[0].topic
        row = connection.execute(_TOPIC, (topic,)).fetchone()
        return {} if row is None else {topic: (row[0], bool(row[1]), row[2])}
    topics = list({write.topic: None for write in group})
    (found,) = connection.execute(_TOPICS, (as_json(topics),)).fetchone()
    return {topics[place]: (version, bool(live), stored) for place, version, live, stored in msgspec.json.decode(found)}


def _states_of(
    snapshot: SqliteSnapshot, group: Sequence[Write], found: Mapping[str, tuple[int, bool, int]]
) -> dict[str, TopicState]:
    """Return the state of each topic of the group that has a record, verified where the verdict depends on it."""
    states = {topic: TopicState(version, live) for topic, (version, live, _) in found.items()}
    verified = {write.topic for write in group if write.topic in found and is_verified(write)}
    if verified:
        versions = snapshot.versions(verified)
        readable = {record.topic for record in snapshot.load(sorted(versions.values())) if not record.unreadable}
        for topic in verified - readable:
            states[topic] = TopicState(states[topic].version, live=True, readable=False)
    return states


def _keys_of(connection: sqlite3.Connection, group: Sequence[Write]) -> dict[tuple[str, str], KeyUse]:
    """Return the requests that the idempotency keys of the group stand for already."""
    keyed = {(write.topic, write.key): None for write in group if write.key is not None}
    used: dict[tuple[str, str], KeyUse] = {}
    for statement, values in _statements(_KEYS, list(keyed)):
        for row in connection.execute(statement, values).fetchall():
            key = read_key(row)
            if key is not None:
                used[key.topic, key.key] = key.digest, key.version
    return used


def _publishers_of(connection: sqlite3.Connection, group: Sequence[Write]) -> dict[str, Publisher]:
    """Return the publishers of the group that are remembered."""
    names = {(write.number.publisher,): None for write in group if write.number is not None}
    known: dict[str, Publisher] = {}
    for statement, values in _statements(_PUBLISHERS, list(names)):
        for row in connection.execute(statement, values).fetchall():
            publisher = read_publisher(row)
            if publisher is not None:
                known[publisher.publisher] = publisher
    return known


def _statements(template: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Spread rows over statements of `ROWS_AT_ONCE`; yield each with its parameters."""
    at = 0
    while at < len(rows):
        count = next(size for size in ROWS_AT_ONCE if size <= len(rows) - at)
        row = f"({', '.join('?' * len(rows[at]))})"
        yield template.format(", ".join([row] * count)), [value for row in rows[at : at + count] for value in row]
        at += count
