"""Stores for session state: what is written is there, and what a table does reaches the store behind its mirror."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from bench.spectrum.placements import Mirror, placed_in
from bench.spectrum.stores import session_store


class Noting:
    """A store that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        self.asked.append(("put", *rows))

    def extend(self, token: str) -> None:
        self.asked.append(("extend", token))

    def drop(self, token: str) -> None:
        self.asked.append(("drop", token))

    def queue(self, tokens: Sequence[str], topic: str) -> None:
        self.asked.append(("queue", topic, *tokens))

    def unqueue(self, tokens: Sequence[str], topic: str) -> None:
        self.asked.append(("unqueue", topic, *tokens))

    def size(self) -> int:
        return 0


def test_a_table_does_each_operation_in_its_store_before_it_returns() -> None:
    for durable, extended in ((False, [("extend", "s")]), (True, [])):
        store = Noting()
        table = placed_in(Mirror(durable, lambda: 0.0, store=store))(0.0)
        lease = table.grant("s", 0.0, 60.0)
        table.add(lease, ["a", "b"])
        table.extend(lease, 10.0)
        table.remove(lease, ["a"])
        queued = [("queue", "b", "s"), ("unqueue", "b")] if durable else []
        table.reached("b")
        table.reached("unknown")
        table.release(lease)
        put = [("put", ("s", "")), ("put", ("s", "a b")), *extended, ("put", ("s", "b"))]
        assert store.asked == [*put, *queued, ("drop", "s")]


def test_sessions_and_queues_are_in_the_file(tmp_path: Path) -> None:
    with session_store("sqlite", str(tmp_path)) as store:
        store.put([("s", "a"), ("t", "b")])
        store.put([("s", "a c")])
        store.drop("t")
        store.queue(["s", "t"], "a")
        store.unqueue(["s"], "a")
        assert store.size() > 0
    with sqlite3.connect(tmp_path / "sessions.db") as file:
        assert file.execute("SELECT * FROM sessions").fetchall() == [("s", "a c")]
        assert file.execute("SELECT * FROM queue").fetchall() == [("t", "a")]
