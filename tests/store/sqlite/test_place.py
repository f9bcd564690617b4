"""The files of an SQLite store in their place: gone, put back, made by whom, and readable by whom."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from softstate.errors import Rewound, StoreMissing, StoreRefused, StoreReplaced, Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.store import open_store
from softstate.store.base import Dump, Write
from softstate.store.sqlite.backup import write_backup
from softstate.store.sqlite.place import make_private
from softstate.store.sqlite.store import SqliteStore

Call: TypeAlias = Callable[[], Awaitable[object]]

Place: TypeAlias = tuple[Path, Callable[[], object], Callable[[], object]]
"""A path, what makes its file go away, and what puts it back."""


async def put(store: SqliteStore, topic: str) -> int:
    return (await store.publish([Write(topic, b"\x01")])).position.revision


async def topics(store: SqliteStore) -> list[str]:
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    assert isinstance(page, Page)
    return [record.topic for record in page.records]


class NoPages:
    """Pages that must not be asked for before it is known that there is a store."""

    def __aiter__(self) -> NoPages:
        return self

    async def __anext__(self) -> Dump:
        raise AssertionError("asked for")


def every_call(store: SqliteStore) -> list[Call]:
    """List calls of every method that needs the file."""

    async def adopt() -> object:
        return await store.adopt(NoPages(), replace=True)

    return [
        lambda: put(store, "lost"),
        store.head,
        store.info,
        store.reopen,
        adopt,
        lambda: store.read([Query(prefixes={ALL: 0})]),
        lambda: store.feed(store._engine.seen),
        lambda: store.lineage_at([1]),
        lambda: store.compact(tombstones=9, keys=9),
        lambda: store.dump(0),
    ]


# Gone ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["file moved", "file and log moved", "folder moved", "behind a link"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a path, what makes its file go away, and what puts it back."""
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    path = folder / "softstate.db"
    match request.param:
        case "file moved":
            return path, lambda: path.rename(away), lambda: away.rename(path)
        case "file and log moved":

            def move(source: Path, target: Path) -> None:
                target.mkdir(exist_ok=True)
                for file in list(source.iterdir()):
                    file.rename(target / file.name)

            return path, lambda: move(folder, away), lambda: move(away, folder)
        case "folder moved":
            return path, lambda: folder.rename(away), lambda: away.rename(folder)
        case _:
            link = tmp_path / "link.db"
            link.symlink_to(path)
            return link, lambda: folder.rename(away), lambda: away.rename(folder)


async def test_a_file_that_is_gone_is_down_until_it_is_back(place: Place) -> None:
    """Not a new history: nothing is made in its place, and it goes on where it was, with the same lineage."""
    path, take_away, put_back = place
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    before = await store.head()
    take_away()
    for call in every_call(store) * 2:
        with pytest.raises(Unavailable, match="is gone: put it back"):
            await call()
    with trio.fail_after(10):
        await store.wait(before.revision)
    assert not path.exists()
    put_back()
    assert await store.head() == before
    assert await put(store, "b") == before.revision + 1
    assert await topics(store) == ["a", "b"]
    await store.aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT topic FROM record ORDER BY version").fetchall() == [("a",), ("b",)]


async def test_a_file_that_is_gone_when_the_store_is_closed_loses_nothing(tmp_path: Path) -> None:
    path, away = tmp_path / "softstate.db", tmp_path / "away.db"
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    path.rename(away)
    await store.aclose()
    away.rename(path)
    store = await SqliteStore.open(str(path), create=False)
    assert await topics(store) == ["a"]
    await store.aclose()


async def test_gone_within_a_transaction(tmp_path: Path) -> None:
    """The last look is right before the commit."""
    path, away = tmp_path / "softstate.db", tmp_path / "away.db"

    class Moving(list[Write]):
        def __iter__(self) -> Iterator[Write]:
            if path.exists():
                path.rename(away)
            return super().__iter__()

    store = await SqliteStore.open(str(path))
    with pytest.raises(Unavailable, match="is gone"):
        await store.publish(Moving([Write("lost", b"\x01")]))
    away.rename(path)
    assert await topics(store) == []
    await store.aclose()


@pytest.mark.parametrize("what", ["older copy", "another store"])
async def test_what_takes_the_place_of_a_file_that_was_gone(what: str, tmp_path: Path) -> None:
    """Judged by what is there at the look: another file is a replacement, which is reopened, and then judged."""
    path, away, other = tmp_path / "softstate.db", tmp_path / "away.db", tmp_path / "other.db"
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    if what == "older copy":
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as target:
            source.backup(target)
    else:
        theirs = await SqliteStore.open(str(other))
        await put(theirs, "theirs")
        await theirs.aclose()
    await put(store, "b")
    before = await store.head()
    path.rename(away)
    with pytest.raises(Unavailable, match="is gone"):
        await store.head()
    other.rename(path)
    with pytest.raises(StoreReplaced):
        await store.head()
    await store.reopen()
    (answer,) = await store.read([Query(prefixes={ALL: 0}, witness=before)])
    assert isinstance(answer, Rewound)
    assert await topics(store) == (["a"] if what == "older copy" else ["theirs"])
    await store.aclose()


async def test_a_store_made_anew_ends_the_history(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    before = await store.head()
    for name in modes(tmp_path):
        take_away(tmp_path / name)
    with pytest.raises(Unavailable, match="softstate store create"):
        await store.reopen()
    assert modes(tmp_path) == {}
    await (await SqliteStore.open(str(path))).aclose()
    with pytest.raises(StoreReplaced):
        await store.head()
    assert (await store.reopen()).epoch != before.epoch
    await store.aclose()


# The files beside it -------------------------------------------------------------------------------------------------


def take_away(path: Path, *, replace: bool = False) -> None:
    path.unlink()
    if replace:
        path.touch()


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_log_that_is_taken_away_takes_no_commit_with_it(ending: str, how: str, tmp_path: Path) -> None:
    """SQLite would go on writing to a file without a name, and every commit there would be lost with the process."""
    path = tmp_path / "softstate.db"
    beside = Path(f"{path}{ending}")
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    before = await store.head()
    take_away(beside, replace=how == "replaced")
    for call in (lambda: put(store, "lost"), store.head):
        with pytest.raises(StoreReplaced, match="was removed or replaced while it was open"):
            await call()
    position = await store.reopen()
    assert (position.epoch, position.revision) == (before.epoch, before.revision + 1)
    await put(store, "b")
    assert await store.lineage_at([before.revision]) == [before.lineage]
    assert await topics(store) == ["a", "b"]
    await store.aclose()


async def test_a_log_that_sqlite_deletes_itself_is_nothing(tmp_path: Path) -> None:
    """Its last connection does, when it is closed after an error."""
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    await put(store, "a")
    for role in ("writer", "reader"):
        store._engine.file._drop(role)
    assert list(modes(tmp_path)) == ["softstate.db"]
    await put(store, "b")
    assert await topics(store) == ["a", "b"]
    take_away(tmp_path / "softstate.db-wal")
    with pytest.raises(StoreReplaced):
        await put(store, "lost")
    await store.aclose()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# Made ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["nothing", "empty file", "empty database"])
async def test_nothing_is_made_unless_it_may_be(what: str, tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    if what == "empty file":
        path.touch()
    elif what == "empty database":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE x (y)")
            connection.execute("DROP TABLE x")
    before = contents(tmp_path)
    with pytest.raises(StoreMissing, match=f"softstate store create sqlite:{path}"):
        await open_store(f"sqlite:{path}", create=False)
    assert contents(tmp_path) == before
    await (await open_store(f"sqlite:{path}")).aclose()
    await (await open_store(f"sqlite:{path}", create=False)).aclose()


async def test_memory_is_never_there_before() -> None:
    with pytest.raises(StoreMissing, match="begins empty"):
        await open_store("memory:", create=False)


async def test_a_log_without_its_file_is_not_thrown_away(tmp_path: Path) -> None:
    """SQLite deletes the log that it finds beside an empty file: it may hold acknowledged publishes."""
    path, away = tmp_path / "softstate.db", tmp_path / "away.db"
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    shutil.copy(f"{path}-wal", tmp_path / "log")
    await store.aclose()
    path.rename(away)
    (tmp_path / "log").rename(tmp_path / "softstate.db-wal")
    with pytest.raises(StoreRefused, match="put the file back, or move the log away"):
        await SqliteStore.open(str(path))
    assert not path.exists()
    take_away(tmp_path / "softstate.db-wal", replace=True)
    await (await SqliteStore.open(str(path))).aclose()


# Readable by its owner -----------------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o177, 0o777], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@pytest.mark.usefixtures("mask")
async def test_only_the_owner_reads_a_store_and_its_backups(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    assert modes(tmp_path) == dict.fromkeys(["softstate.db", "softstate.db-wal", "softstate.db-shm"], 0o600)

    async def pages() -> AsyncIterator[Dump]:
        page = await store.dump(0)
        assert set(modes(tmp_path).values()) == {0o600}, "the backup too, while it is written"
        assert len(modes(tmp_path)) > 3
        yield page

    await write_backup(pages(), str(tmp_path / "backup.db"))
    assert set(modes(tmp_path).values()) == {0o600}
    await store.aclose()


def test_a_file_is_never_readable_for_others_not_even_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fchmod = os.fchmod

    def noted(descriptor: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fchmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", noted)
    before = os.umask(0)
    try:
        assert make_private(str(tmp_path / "a"))
    finally:
        os.umask(before)
    assert seen == [0o600]
    assert not make_private(str(tmp_path / "a"))


async def test_a_mode_that_was_chosen_is_kept(tmp_path: Path) -> None:
    """A group may share a store: its files are given the mode of the store by SQLite."""
    path = tmp_path / "softstate.db"
    await (await SqliteStore.open(str(path))).aclose()
    path.chmod(0o660)
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    assert set(modes(tmp_path).values()) == {0o660}
    await store.aclose()


def test_threads_that_make_one_file_agree_who_did(tmp_path: Path) -> None:
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(make_private(str(tmp_path / "a")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
