"""The costs of a store for session state: the wall time that a node waits for an operation, and bytes of a session.

Each is one row or hash, written over one connection, one after the other, as a node does that answers a client only
once its session is stored. A node that joins the operations of a turn pays less for each, as the batch of 32 shows.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure.engines import Engine, engine
from bench.measure.servers import NotInstalled

OPERATIONS = {False: 1_000, True: 50}
BATCH = 32
BATCHES_MIN = 9
SESSIONS = 200
TTL_MS = 66_000


@dataclass(frozen=True, slots=True)
class Sessions:
    """A place for sessions in an engine.

    `write` writes so many sessions, from a number on, and returns once they are stored. `size` asks the engine for the
    bytes of all of them.
    """

    write: Callable[[int, int], None]
    size: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of the seconds of wall time of an operation, alone and as one of a batch; bytes of a session."""

    engine: str
    alone_s: float
    batched_s: float
    session_bytes: float


def costs(*, quick: bool) -> tuple[list[Cost], list[str]]:
    """Measure the engines that are installed; return notes about those that are not."""
    found, notes = [], []
    for kind, opened in (("redis", _redis), ("sqlite", _sqlite), ("postgres", _postgres)):
        try:
            with engine(kind) as started, opened(started) as sessions:
                found.append(_cost(f"{kind}: {started.about}", sessions, OPERATIONS[quick]))
        except NotInstalled as missing:
            notes.append(f"{kind} was left out: {missing}")
    return found, notes


def _cost(name: str, sessions: Sessions, operations: int) -> Cost:
    write = sessions.write
    write(0, SESSIONS)
    session_bytes = sessions.size() / SESSIONS
    alone_s = _median_s(lambda number: write(number % SESSIONS, 1), operations)
    batched_s = _median_s(lambda number: write(number * BATCH % SESSIONS, BATCH), max(operations // BATCH, BATCHES_MIN))
    return Cost(name, alone_s, batched_s / BATCH, session_bytes)


def _median_s(call: Callable[[int], None], times: int) -> float:
    took_s = []
    for number in range(times):
        began = time.perf_counter()
        call(number)
        took_s.append(time.perf_counter() - began)
    return median(took_s)


def _token(number: int) -> str:
    return f"s{number % SESSIONS:079}"


@contextmanager
def _redis(started: Engine) -> Iterator[Sessions]:
    port = int(started.url.rpartition(":")[2].partition("/")[0])
    with closing(socket.create_connection(("127.0.0.1", port))) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = opened.makefile("rb")

        def write(first: int, count: int) -> None:
            words: list[tuple[str, ...]] = []
            for number in range(first, first + count):
                words += [("HSET", _token(number), "names", "t/1 t/2"), ("PEXPIRE", _token(number), f"{TTL_MS}")]
            ask(words)

        def ask(words: list[tuple[str, ...]]) -> list[int]:
            opened.sendall(b"".join(map(_resp, words)))
            return [int(reader.readline().removeprefix(b":")) for _ in words]

        def size() -> int:
            return sum(ask([("MEMORY", "USAGE", _token(number)) for number in range(SESSIONS)]))

        yield Sessions(write, size)


def _resp(words: tuple[str, ...]) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


@contextmanager
def _sqlite(started: Engine) -> Iterator[Sessions]:
    with closing(sqlite3.connect(Path(started.url) / "sessions.db", isolation_level=None)) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("PRAGMA synchronous=FULL")
        opened.execute("CREATE TABLE sessions (token TEXT PRIMARY KEY, names TEXT, revision INTEGER) WITHOUT ROWID")

        def write(first: int, count: int) -> None:
            opened.execute("BEGIN IMMEDIATE")
            rows = [(_token(number), "t/1 t/2", number) for number in range(first, first + count)]
            opened.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", rows)
            opened.execute("COMMIT")

        def size() -> int:
            (pages,), (page_bytes,) = (
                opened.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size")
            )
            return int(pages * page_bytes)

        yield Sessions(write, size)


@contextmanager
def _postgres(started: Engine) -> Iterator[Sessions]:
    psycopg: Any = import_module("psycopg")
    with psycopg.connect(started.url, autocommit=True) as opened:
        opened.execute("CREATE TABLE sessions (token text PRIMARY KEY, names text, revision bigint)")

        def write(first: int, count: int) -> None:
            rows = [(_token(number), "t/1 t/2", number) for number in range(first, first + count)]
            with opened.transaction(), opened.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO sessions VALUES (%s, %s, %s) ON CONFLICT (token) DO UPDATE SET revision ="
                    " excluded.revision",
                    rows,
                )

        def size() -> int:
            return int(opened.execute("SELECT pg_total_relation_size('sessions')").fetchone()[0])

        yield Sessions(write, size)
