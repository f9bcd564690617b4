"""The write-ahead log stays small, is told of when it cannot, and does not take the store down."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from softstate.store.base import Number, Write
from softstate.store.sqlite import connection as sqlite_connection, log as sqlite_log, store as sqlite_store
from softstate.store.sqlite.store import SqliteStore

LIMIT = 64 * 1024


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "LOG_BYTES_MAX", LIMIT)
    monkeypatch.setattr(sqlite_connection, "LOG_BYTES_MAX", LIMIT)
    monkeypatch.setattr(sqlite_store, "LOG_BYTES_WARN", 2**20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "softstate.db"


@pytest.fixture
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that may read the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def fill(store: SqliteStore, count: int = 120) -> None:
    for number in range(count):
        await store.publish([Write("t", bytes([number]) * 60_000)])


async def test_a_pinned_log_is_warned_of_and_cut_off_once_it_can_be(path: Path, reader: sqlite3.Connection) -> None:
    store = await SqliteStore.open(str(path))
    await fill(store, 1)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM record").fetchone()
    await fill(store)
    size = store.gauges()["store_log_bytes"]
    assert size > 6 * 2**20
    assert not store.cautions, "not yet looked at"
    assert await store.compact(tombstones=0, keys=0) == 0
    assert [caution.partition(":")[0] for caution in store.cautions] == [f"{path}-wal is above 1 MiB"]
    assert store.gauges()["store_log_bytes"] >= size
    reader.execute("COMMIT")
    await store.compact(tombstones=0, keys=0)
    assert (store.gauges()["store_log_bytes"], list(store.cautions)) == (0, [])
    await store.aclose()


async def test_a_log_is_cut_to_its_limit_when_it_is_begun_anew(path: Path, reader: sqlite3.Connection) -> None:
    """By SQLite, with a later commit: no upkeep is needed where publishes go on."""
    store = await SqliteStore.open(str(path))
    await fill(store, 1)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM record").fetchone()
    await fill(store)
    reader.execute("COMMIT")
    await fill(store, 2)
    assert 0 < store.gauges()["store_log_bytes"] <= LIMIT + 60_000 * 2
    await store.aclose()


async def test_a_small_log_is_left_alone(path: Path) -> None:
    store = await SqliteStore.open(str(path))
    await store.publish([Write("t", b"\x01")])
    size = store.gauges()["store_log_bytes"]
    await store.compact(tombstones=0, keys=0)
    assert store.gauges()["store_log_bytes"] == size
    await store.aclose()
    assert store.gauges()["store_log_bytes"] == 0


async def test_trimming_waits_for_no_lock(path: Path, reader: sqlite3.Connection) -> None:
    """Another process's write transaction must not hold up the publishes of this one."""
    store = await SqliteStore.open(str(path), busy_s=0.0)
    await fill(store)
    reader.execute("BEGIN IMMEDIATE")
    writer = store._engine.file.connection("writer")
    store._engine.file.log.trim(writer)
    reader.execute("ROLLBACK")
    store._engine.file.log.trim(writer)
    assert store.gauges()["store_log_bytes"] == 0
    await store.aclose()


async def test_bounds_are_warned_of_before_they_are_reached(tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / "softstate.db"), keys_max=5, publishers_max=10)
    await store.publish([Write("a", b"\x01", key=f"k{number}") for number in range(3)])
    await store.publish([Write("a", b"\x01", number=Number(f"p{number}", 1, 0)) for number in range(8)])
    await store.head()
    gauges = store.gauges()
    assert (gauges["store_keys"], gauges["store_publishers"]) == (3, 8)
    (caution,) = store.cautions
    assert caution.startswith("80% or more of the publishers that may be held (10) are: beyond it publishes of new")
    await store.publish([Write("a", b"\x01", key="k")])
    await store.head()
    assert len(store.cautions) == 2
    await store.compact(tombstones=0, keys=100)
    await store.head()
    assert not store.cautions
    await store.aclose()
