"""The cost of writing the same values to SQLite directly, as durably, so many in one transaction.

``python -m bench.load.servers.sqlite_writer FILE``, driven over `bench.load.process`. One table, and
one upsert for each change: without checks of versions, idempotency keys, history or other processes.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import Any

from bench.load.process import serve


class Writer:
    """One connection, with the pragmas of softstate (`softstate.store.sqlite.connection`)."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE topic (name TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL)"
        )
        self._version = 0

    def write(self, topics: int, batch: int, seconds: float, value_bytes: int, per_s: float = 0.0) -> dict[str, Any]:
        """Commit transactions of `batch` changes each, of all topics in turn, for so many seconds.

        One after the other without pause, or `per_s` a second by the clock.
        """
        execute, value = self._connection.execute, b"v" * value_bytes
        names = [f"bench/{number:06}" for number in range(topics)]
        version = first = self._version
        cpu_s, began = time.process_time(), time.monotonic()
        end, took = began + seconds, list[float]()
        while (now := time.monotonic()) < end:
            if per_s and (wait_s := began + len(took) / per_s - now) > 0:
                time.sleep(wait_s)
                now += wait_s
            execute("BEGIN IMMEDIATE")
            for _ in range(batch):
                version += 1
                execute(
                    "INSERT INTO topic VALUES (?, ?, ?) ON CONFLICT (name)"
                    " DO UPDATE SET version = excluded.version, value = excluded.value",
                    (names[version % topics], version, value),
                )
            execute("COMMIT")
            took.append(time.monotonic() - now)
        self._version = version
        wall_s = time.monotonic() - began
        took.sort()
        return {
            "answers": version - first,
            "wall_s": wall_s,
            "server_cpu_s": time.process_time() - cpu_s,
            "p50_s": took[len(took) // 2],
        }


if __name__ == "__main__":
    serve({"write": Writer(sys.argv[1]).write})
