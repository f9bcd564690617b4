"""An SQLite store in trouble: swapped files, a full disk, locks, damage. What it says, and that it recovers."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from softstate.errors import Rewound, StoreMissing, StoreRefused, StoreReplaced, StoreRewound, Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.store.base import Write
from softstate.store.sqlite import connection as sqlite_file, engine as sqlite_engine, schema as sqlite_schema
from softstate.store.sqlite.state import begin_lineage
from softstate.store.sqlite.store import SqliteStore


@asynccontextmanager
async def opened(path: Path, busy_s: float = 5.0) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(str(path), busy_s=busy_s)
    try:
        yield store
    finally:
        await store.aclose()


async def put(store: SqliteStore, topic: str, size: int = 1) -> None:
    await store.publish([Write(topic, bytes(size))])


async def topics(store: SqliteStore) -> list[str]:
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    assert isinstance(page, Page)
    return [record.topic for record in page.records]


async def make(path: Path, *names: str) -> None:
    async with opened(path) as store:
        for name in names:
            await put(store, name)


def copy(source: Path, target: Path) -> None:
    """Copy with SQLite's own backup, which writes into the target as a transaction."""
    with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as to:
        from_.backup(to)


def overwrite(path: Path, content: bytes) -> bytes:
    """Overwrite a file where it lies, and return what it held."""
    with path.open("r+b") as file:
        before = file.read()
        file.seek(0)
        file.write(content)
    return before


# Swapped -------------------------------------------------------------------------------------------------------------


async def test_swapped_file(tmp_path: Path) -> None:
    """A file renamed over ours: everything says so, nothing is committed anywhere, and reopening serves it."""
    path, other = tmp_path / "softstate.db", tmp_path / "other.db"
    await make(other, "theirs")
    async with opened(path) as store:
        for number in range(20):
            await put(store, f"ours/{number}", 1000)
        head = await store.head()
        kept = tmp_path / "kept.db"
        path.rename(kept)
        other.rename(path)

        for call in (lambda: put(store, "lost"), store.head, lambda: store.compact(tombstones=9, keys=9)):
            with pytest.raises(StoreReplaced, match="was replaced by another file"):
                await call()
        with trio.fail_after(10):
            await store.wait(head.revision)
        position = await store.reopen()
        assert position.epoch != head.epoch
        assert await topics(store) == ["theirs"]
        await put(store, "new")
        (answer,) = await store.read([Query(witness=head)])
        assert isinstance(answer, Rewound)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT topic FROM record ORDER BY version").fetchall() == [("theirs",), ("new",)]


async def test_log_of_a_swapped_file_is_set_aside(tmp_path: Path) -> None:
    """SQLite would replay it into the new file, and damage it; it may also hold the old file's last commits."""
    path, other = tmp_path / "softstate.db", tmp_path / "other.db"
    await make(other, "theirs")
    async with opened(path) as store:
        await put(store, "ours")
        inode = path.stat().st_ino
        path.rename(tmp_path / "kept.db")
        other.rename(path)
        await store.reopen()
        aside = tmp_path / f"softstate.db-wal.of-replaced-file-{inode}"
        assert aside.is_file()
    aside.rename(tmp_path / "kept.db-wal")
    async with opened(tmp_path / "kept.db") as store:
        assert await topics(store) == ["ours"], "put back beside its file, the log still has every commit"


async def test_swapped_and_closed_leaves_the_new_file_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "softstate.db", tmp_path / "other.db"
    await make(other, "theirs")
    async with opened(path) as store:
        await put(store, "ours")
        other.rename(path)
    async with opened(path) as store:
        assert await topics(store) == ["theirs"]


async def test_swapped_within_a_transaction(tmp_path: Path) -> None:
    """The last look is right before the commit."""
    path, other = tmp_path / "softstate.db", tmp_path / "other.db"
    await make(other, "theirs")

    class Swapping(list[Write]):
        def __iter__(self) -> Iterator[Write]:
            if other.exists():
                path.rename(tmp_path / "kept.db")
                other.rename(path)
            return super().__iter__()

    async with opened(path) as store:
        with pytest.raises(StoreReplaced):
            await store.publish(Swapping([Write("lost", b"\x01")]))
    async with opened(tmp_path / "kept.db") as store:
        assert await topics(store) == []


async def test_reopening_what_is_not_ours(tmp_path: Path) -> None:
    path, other = tmp_path / "softstate.db", tmp_path / "other.db"
    other.write_text("no database\n" * 100)
    async with opened(path) as store:
        await put(store, "a")
        inode = path.stat().st_ino
        path.rename(tmp_path / "kept.db")
        other.rename(path)
        with pytest.raises(StoreRefused, match="not an SQLite database"):
            await store.reopen()
        with pytest.raises(StoreReplaced):
            await store.head()
        path.unlink()
        (tmp_path / "kept.db").rename(path)
        (tmp_path / f"softstate.db-wal.of-replaced-file-{inode}").rename(tmp_path / "softstate.db-wal")
        await put(store, "b")
        assert await topics(store) == ["a", "b"], "with the old file and its log back in place it works as before"


# Restored in place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("advanced", [False, True])
async def test_an_older_copy_restored_in_place(advanced: bool, tmp_path: Path) -> None:
    path, backup = tmp_path / "softstate.db", tmp_path / "backup.db"
    async with opened(path) as store:
        await put(store, "a")
        copy(path, backup)
        await put(store, "lost")
        seen = await store.head()
        copy(backup, path)
        if advanced:
            await make(path, "b", "c", "d")
        for call in (store.head, lambda: put(store, "z"), lambda: store.feed(seen)):
            with pytest.raises(StoreRewound, match="an older copy was restored"):
                await call()
        with trio.fail_after(10):
            await store.wait(seen.revision + 100)
        position = await store.reopen()
        assert position.epoch == seen.epoch
        assert await topics(store) == (["a", "b", "c", "d"] if advanced else ["a"])


@pytest.mark.parametrize(
    ("what", "error", "complaint"),
    [
        ("nothing", StoreMissing, "is empty: restore a backup, or make an empty store"),
        ("another application's", StoreRefused, "another application"),
    ],
)
async def test_something_else_restored_in_place(
    what: str, error: type[StoreRefused], complaint: str, tmp_path: Path
) -> None:
    """An emptied file is not taken for a new store, no more than that of another application."""
    path, other, kept = tmp_path / "softstate.db", tmp_path / "other.db", tmp_path / "kept.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        if what == "nothing":
            connection.execute("DROP TABLE theirs")
    async with opened(path) as store:
        await put(store, "a")
        copy(path, kept)
        copy(other, path)
        for call in (store.head, lambda: put(store, "z")):
            with pytest.raises(StoreRewound, match="emptied, or overwritten"):
                await call()
        with pytest.raises(error, match=complaint):
            await store.reopen()
        copy(kept, path)
        await store.reopen()
        assert await topics(store) == ["a"]


# Errors that pass ----------------------------------------------------------------------------------------------------


async def test_full_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "softstate.db") as store:
        await put(store, "a")
        head = await store.head()
        writer = store._engine.file.connection("writer")
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(Unavailable, match="the disk is full: make room"):
            await store.publish([Write("small", b"\x01"), Write("big", bytes(60_000))])
        assert await store.head() == head
        await put(store, "b")
        assert store._engine.file.connection("writer") is writer, "the connection is as good as before"
        writer.execute("PRAGMA max_page_count = 100000")
        await put(store, "big", 60_000)
        assert await topics(store) == ["a", "b", "big"]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR])
async def test_without_room_for_a_lineage_row_reads_are_served(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start on a full disk: under the newest row found, until the first change brings the row of this opening."""
    path = tmp_path / "softstate.db"
    await make(path, "a")

    def no_room(*_: object) -> NoReturn:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(sqlite_engine, "begin_lineage", no_room)
    async with opened(path) as store:
        before = await store.head()
        assert (before.revision, await topics(store)) == (2, ["a"])
        assert "full" in store.unwritten
        assert str(path) in store.unwritten
        for _ in range(2):
            with pytest.raises(Unavailable, match="disk is full"):
                await put(store, "b")
        with pytest.raises(Unavailable, match="disk is full"):
            await store.compact(tombstones=1, keys=1)
        assert await store.head() == before
        monkeypatch.setattr(sqlite_engine, "begin_lineage", begin_lineage)
        done = await store.publish([Write("b", b"\x01"), Write("c", b"\x01", expect=9)])
        assert (done.before, done.position.revision) == (3, 4)
        assert store.unwritten == ""
        assert done.position.lineage != before.lineage
        assert await store.lineage_at([2, 3, 4]) == [before.lineage, *[done.position.lineage] * 2]
        await put(store, "d")
        assert (await store.head()).revision == 5, "one row"
        assert [row.revision for row in (await store.feed(before)).lineages] == [3]
        assert await store.audit() == []


async def test_a_new_store_is_not_made_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> NoReturn:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(sqlite_schema, "begin_lineage", no_room)
    with pytest.raises(Unavailable, match="make room"):
        await SqliteStore.open(str(tmp_path / "softstate.db"))


async def test_locked_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    async with opened(path, busy_s=0.0) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for call in (lambda: put(store, "a"), lambda: store.compact(tombstones=9, keys=9)):
                with pytest.raises(Unavailable, match="another process has held its lock"):
                    await call()
            assert await topics(store) == [], "readers do not mind"
            other.execute("ROLLBACK")
        await put(store, "a")


class Watch:
    """Replaces the module `time`: time passes during a sleep. Calls `until` before the sleep number `at`."""

    def __init__(self, at: int, until: Callable[[], object]) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._at = at
        self._until = until

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.slept) == self._at:
            self._until()


async def test_the_lock_of_another_process_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "softstate.db"
    async with opened(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            watch = Watch(3, lambda: other.execute("ROLLBACK"))
            monkeypatch.setattr(sqlite_file, "time", watch)
            await put(store, "a")
            assert watch.slept == [sqlite_file.LOCK_PAUSE_S] * 3
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another process has held its lock"):
                await put(store, "b")
            assert sum(watch.slept[3:]) == pytest.approx(5.0, abs=2 * sqlite_file.LOCK_PAUSE_S)
            other.execute("ROLLBACK")
        await put(store, "b")


@pytest.mark.parametrize("role", ["writer", "reader"])
async def test_a_damaged_file_is_unavailable_until_it_is_repaired(role: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    await make(path, "a")
    async with opened(path) as store:
        await store.head()
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = store._engine.file.connection(role)
            good = overwrite(path, bytes(path.stat().st_size))
            with pytest.raises(Unavailable, match="it is damaged: stop every node, and restore a backup"):
                await (store.head() if role == "reader" else put(store, "b"))
            overwrite(path, good)
        assert await topics(store) == ["a"]
        assert store._engine.file.connection(role) is not before, "a connection that met damage is not trusted again"


async def test_an_interrupted_group_is_rolled_back(tmp_path: Path) -> None:
    """A mistake of this program is no fault of the store: it comes through as it is, and leaves nothing behind."""

    class Mistaken(list[Write]):
        def __iter__(self) -> Iterator[Write]:
            yield Write("lost", b"\x01")
            raise RuntimeError("mistake")

    async with opened(tmp_path / "softstate.db") as store:
        with pytest.raises(RuntimeError, match="mistake"):
            await store.publish(Mistaken())
        with pytest.raises(TypeError):
            await store.publish([Write("lost", b"\x01"), Write("bad", object())])  # type: ignore[arg-type]
        await put(store, "a")
        assert await topics(store) == ["a"]
        assert (await store.head()).revision == 2


# Closing and cancelling ----------------------------------------------------------------------------------------------


async def test_closed(tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    await store.aclose()
    await store.aclose()
    calls: list[Callable[[], object]] = [store.head, store.reopen, lambda: store.wait(1), lambda: put(store, "a")]
    for call in calls:
        with pytest.raises(trio.ClosedResourceError):
            await call()  # type: ignore[misc]


async def test_closing_wakes_waiting_tasks(tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await store.wait(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await store.aclose()


async def test_cancelled_while_it_waits_its_turn(tmp_path: Path) -> None:
    async with opened(tmp_path / "softstate.db") as store:
        async with store._writer:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(put, store, "a")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
        assert await topics(store) == []


async def test_closing_waits_for_a_commit_in_flight_even_if_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, store, "a", 60_000)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.aclose()
    async with opened(path) as store:
        assert await topics(store) == ["a"]
