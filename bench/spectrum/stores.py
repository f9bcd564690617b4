"""Places for sessions in real engines: Redis with an expiry, tables in SQLite and PostgreSQL.

Each session is one hash or row under its token, with the text of its names. A queue has an entry for each change that a
session is owed. Every call returns once the engine has stored what it was given; one connection, for one thread.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

TTL_MS = 66_000

SESSIONS = "CREATE TABLE sessions (token {text} PRIMARY KEY, names text)"
QUEUE = "CREATE TABLE queue (token {text}, topic {text}, PRIMARY KEY (token, topic))"


class SessionStore(Protocol):
    """One engine."""

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write sessions: tokens, and the texts of their names. All of them at once."""

    def extend(self, token: str) -> None:
        """Have a session last for another TTL."""

    def drop(self, token: str) -> None:
        """Delete a session."""

    def queue(self, tokens: Sequence[str], topic: str) -> None:
        """Note that these sessions are owed a change of a topic."""

    def unqueue(self, tokens: Sequence[str], topic: str) -> None:
        """Note that they have it."""

    def size(self) -> int:
        """Ask the engine for the bytes of all sessions."""


class RedisSessions:
    """A hash with an expiry for each session, and a list for its queue."""

    def __init__(self, opened: socket.socket) -> None:
        self._opened = opened
        self._reader = opened.makefile("rb")
        self._tokens: dict[str, None] = {}

    def _ask(self, words: Sequence[tuple[str, ...]]) -> list[int]:
        self._opened.sendall(b"".join(map(_resp, words)))
        return [int(self._reader.readline().removeprefix(b":")) for _ in words]

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        """See `SessionStore.put`."""
        words: list[tuple[str, ...]] = []
        for token, names in rows:
            words += [("HSET", token, "names", names), ("PEXPIRE", token, f"{TTL_MS}")]
            self._tokens[token] = None
        self._ask(words)

    def extend(self, token: str) -> None:
        """See `SessionStore.extend`."""
        self._ask([("PEXPIRE", token, f"{TTL_MS}")])

    def drop(self, token: str) -> None:
        """See `SessionStore.drop`."""
        self._ask([("DEL", token)])
        self._tokens.pop(token, None)

    def queue(self, tokens: Sequence[str], topic: str) -> None:
        """See `SessionStore.queue`."""
        self._ask([("RPUSH", f"queue:{token}", topic) for token in tokens])

    def unqueue(self, tokens: Sequence[str], topic: str) -> None:
        """See `SessionStore.unqueue`."""
        self._ask([("LREM", f"queue:{token}", "1", topic) for token in tokens])

    def size(self) -> int:
        """See `SessionStore.size`."""
        return sum(self._ask([("MEMORY", "USAGE", token) for token in self._tokens]))


def _resp(words: tuple[str, ...]) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


class SqliteSessions:
    """Two tables of a file, synced at each commit."""

    def __init__(self, opened: sqlite3.Connection) -> None:
        self._opened = opened
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("PRAGMA synchronous=FULL")
        for table in (SESSIONS, QUEUE):
            opened.execute(f"{table.format(text='TEXT')} WITHOUT ROWID")

    def _commit(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        self._opened.execute("BEGIN IMMEDIATE")
        self._opened.executemany(statement, rows)
        self._opened.execute("COMMIT")

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        """See `SessionStore.put`."""
        self._commit("INSERT OR REPLACE INTO sessions VALUES (?, ?)", rows)

    def extend(self, token: str) -> None:
        """See `SessionStore.extend`; these sessions have no end."""

    def drop(self, token: str) -> None:
        """See `SessionStore.drop`."""
        self._commit("DELETE FROM sessions WHERE token = ?", [(token,)])

    def queue(self, tokens: Sequence[str], topic: str) -> None:
        """See `SessionStore.queue`."""
        self._commit("INSERT OR REPLACE INTO queue VALUES (?, ?)", [(token, topic) for token in tokens])

    def unqueue(self, tokens: Sequence[str], topic: str) -> None:
        """See `SessionStore.unqueue`."""
        self._commit("DELETE FROM queue WHERE token = ? AND topic = ?", [(token, topic) for token in tokens])

    def size(self) -> int:
        """See `SessionStore.size`: the pages of the file."""
        (pages,), (page_bytes,) = (
            self._opened.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size")
        )
        return int(pages * page_bytes)


class PostgresSessions:
    """Two tables of a cluster, synced at each commit."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        for table in (SESSIONS, QUEUE):
            opened.execute(table.format(text="text"))

    def _commit(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        with self._opened.transaction(), self._opened.cursor() as cursor:
            cursor.executemany(statement, rows)

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        """See `SessionStore.put`."""
        self._commit(
            "INSERT INTO sessions VALUES (%s, %s) ON CONFLICT (token) DO UPDATE SET names = excluded.names", rows
        )

    def extend(self, token: str) -> None:
        """See `SessionStore.extend`; these sessions have no end."""

    def drop(self, token: str) -> None:
        """See `SessionStore.drop`."""
        self._commit("DELETE FROM sessions WHERE token = %s", [(token,)])

    def queue(self, tokens: Sequence[str], topic: str) -> None:
        """See `SessionStore.queue`; one statement for all."""
        self._opened.execute(
            "INSERT INTO queue SELECT unnest(%s::text[]), %s ON CONFLICT DO NOTHING", (list(tokens), topic)
        )

    def unqueue(self, tokens: Sequence[str], topic: str) -> None:
        """See `SessionStore.unqueue`; one statement for all."""
        self._opened.execute("DELETE FROM queue WHERE token = ANY(%s) AND topic = %s", (list(tokens), topic))

    def size(self) -> int:
        """See `SessionStore.size`: relation and index."""
        return int(self._opened.execute("SELECT pg_total_relation_size('sessions')").fetchone()[0])


@contextmanager
def session_store(kind: str, url: str) -> Iterator[SessionStore]:
    """Open a store for sessions in an engine: redis, sqlite (`url` is a folder) or postgres. It must have none yet."""
    match kind:
        case "redis":
            port = int(url.rpartition(":")[2].partition("/")[0])
            with closing(socket.create_connection(("127.0.0.1", port))) as opened:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield RedisSessions(opened)
        case "sqlite":
            with closing(sqlite3.connect(Path(url) / "sessions.db", isolation_level=None)) as file:
                yield SqliteSessions(file)
        case _:
            psycopg: Any = import_module("psycopg")
            with psycopg.connect(url, autocommit=True) as connection:
                yield PostgresSessions(connection)
