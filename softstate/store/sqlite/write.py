"""A group of publishes in one write transaction: looked up together, judged one by one, written together.

Every row that a statement steps to hands the interpreter lock over and takes it back, and while the event loop is busy
it comes back late. So what concerns the whole group is asked in one row, as JSON, and written many rows at a step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from softstate.model import Record
from softstate.store.base import Applied, Verdict, Write
from softstate.store.rules.judge import Standing, judge
from softstate.store.rules.paging import on_history
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


class SqliteBatch:
    """The changes of one write transaction that `snapshot` began. `records` are those applied, in revision order."""

    def __init__(self, connection: sqlite3.Connection, snapshot: SqliteSnapshot, keys_max: int) -> None:
        self.revision = snapshot.position.revision
        self.records: list[Record] = []
        self._connection = connection
        self._snapshot = snapshot
        self._keys_max = keys_max
        self._keys_held = snapshot.keys_held
        self._standing: dict[str, tuple[int, bool]] = {}
        """Version of each topic of the group that has a record, and whether it is alive."""
        self._used: dict[tuple[str, str], tuple[bytes, int]] = {}
        """What the idempotency keys of the group stand for already."""
        self._made: list[tuple[int, str, str, bytes]] = []

    def publish(self, group: Sequence[Write]) -> Sequence[Verdict]:
        """Judge every publish, and apply those that nothing speaks against."""
        self._look_up(group)
        verdicts = [self._apply(publish) for publish in group]
        self._write()
        return verdicts

    def _look_up(self, group: Sequence[Write]) -> None:
        topics = msgspec.json.encode(list({publish.topic: None for publish in group})).decode()
        for topic, version, live in _listed(self._connection.execute(_TOPICS, (topics,))):
            self._standing[topic] = version, bool(live)
        # Not as JSON, like the topics: a key may hold a zero character, at which SQLite's JSON ends a text.
        keyed = {(publish.topic, publish.key): None for publish in group if publish.key is not None}
        for statement, values in _statements(_KEYS, list(keyed)):
            for topic, key, digest, version in _listed(self._connection.execute(statement, values)):
                self._used[topic, key] = bytes.fromhex(digest), version

    def _apply(self, publish: Write) -> Verdict:
        version, live = self._standing.get(publish.topic, (0, False))
        standing = Standing(
            version=version,
            live=live,
            used=None if publish.key is None else self._used.get((publish.topic, publish.key)),
            witnessed=publish.witness is None or on_history(publish.witness, self._snapshot),
            keys_full=self._keys_held + len(self._made) >= self._keys_max,
        )
        verdict = judge(publish, standing)
        if verdict is not None:
            return verdict
        self.revision += 1
        self._standing[publish.topic] = self.revision, publish.cbor is not None
        if publish.key is not None:
            self._used[publish.topic, publish.key] = publish.digest, self.revision
            self._made.append((self.revision, publish.topic, publish.key, publish.digest))
        self.records.append(Record(publish.topic, self.revision, publish.cbor))
        return Applied(self.revision)

    def _write(self) -> None:
        newest = {record.topic: record for record in self.records}
        rows = sorted((record.version, record.topic, record.cbor) for record in newest.values())
        for statement, values in (*_statements(_WRITE_TOPICS, rows), *_statements(_WRITE_KEYS, self._made)):
            self._connection.execute(statement, values)
        if self._made:
            # Written down, since counting a million of them would take longer than the commit.
            self._connection.execute("UPDATE meta SET keys = ?", (self._keys_held + len(self._made),))


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
