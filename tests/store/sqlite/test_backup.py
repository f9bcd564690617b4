"""Backups of any store as SQLite files, and reading a file without leaving a trace."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from softstate.errors import StoreRefused, StoreReplaced, Unavailable
from softstate.store.base import Dump, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.rules.dump import pages
from softstate.store.sqlite.backup import write_backup
from softstate.store.sqlite.store import SqliteStore
from softstate.testing.conformance.stage import put, state


async def filled() -> MemoryStore:
    store = MemoryStore()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(20)])
    return store


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 (not a Path's blocking method)


async def test_a_backup_of_a_memory_store_is_a_file(tmp_path: Path) -> None:
    source = await filled()
    position = await write_backup(pages(source), str(tmp_path / "b.db"))
    assert names(tmp_path) == ["b.db"]
    store = await SqliteStore.open(str(tmp_path / "b.db"), read_only=True)
    assert (await store.head(), await state(store)) == (position, await state(source))
    assert position.revision == (await source.head()).revision + 1
    await store.aclose()


@pytest.mark.parametrize("ending", ["error", "cancelled", "broken off", "no place"])
async def test_a_backup_that_fails_leaves_all_as_it_was(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    path.write_text("the last backup")
    source = await filled()

    async def failing() -> AsyncIterator[Dump]:
        async with aclosing(pages(source, limit=5)) as dump:
            async for page in dump:
                yield page
                if ending == "error":
                    await source.aclose()
                elif ending == "cancelled":
                    scope.cancel()
                elif ending == "broken off":
                    return

    errors = {"error": trio.ClosedResourceError, "broken off": Unavailable, "no place": Unavailable}
    if ending == "no place":
        path.unlink()
        path.mkdir()
    with trio.CancelScope() as scope:
        if ending == "cancelled":
            await write_backup(failing(), str(path))
        else:
            with pytest.raises(errors[ending]):
                await write_backup(failing(), str(path))
    assert scope.cancelled_caught == (ending == "cancelled")
    assert names(tmp_path) == ["b.db"]
    assert ending == "no place" or path.read_text() == "the last backup"


async def test_a_backup_that_cannot_even_be_begun_leaves_all_as_it_was(tmp_path: Path) -> None:
    """On a disk that refuses to write, SQLite leaves its log behind, too."""
    path = tmp_path / "b.db"
    path.write_text("the last backup")
    source = await filled()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(Unavailable):
            await write_backup(pages(source), str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["b.db"]
    assert path.read_text() == "the last backup"


async def test_reading_a_file_changes_nothing_and_sees_commits_of_others(tmp_path: Path) -> None:
    path = str(tmp_path / "softstate.db")
    store = await SqliteStore.open(path)
    await put(store, "a")
    reader = await SqliteStore.open(path, read_only=True)
    head = await store.head()
    assert await reader.head() == head, "no lineage row"
    version = await put(store, "b")
    assert (await reader.head()).revision == version
    for call in (
        reader.publish([Write("c", b"\x01")]),
        reader.compact(tombstones=1, keys=1),
        reader.adopt(pages(await filled()), replace=True),
        reader.reopen(),
        reader.destroy(),
    ):
        with pytest.raises(StoreRefused, match="opened to read only"):
            await call
    await store.aclose()
    assert set(await state(reader)) == {"a", "b"}
    await reader.aclose()
    assert names(tmp_path) == ["softstate.db"]


async def test_a_reader_does_not_touch_the_log_of_a_file_that_was_swapped(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    await put(store, "a")
    reader = await SqliteStore.open(str(path), read_only=True)
    path.rename(tmp_path / "old.db")
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(StoreReplaced):
        await reader.head()
    before = names(tmp_path)
    await reader.aclose()
    assert names(tmp_path) == before
    await store.aclose()


async def test_only_a_store_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    with pytest.raises(StoreRefused, match="there is no file"):
        await SqliteStore.open(str(path), read_only=True)
    path.touch()
    with pytest.raises(StoreRefused, match="is empty"):
        await SqliteStore.open(str(path), read_only=True)
    path.write_bytes(b"something else, and quite a lot of it" * 100)
    with pytest.raises(StoreRefused, match="not an SQLite database"):
        await SqliteStore.open(str(path), read_only=True)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreRefused, match="is a directory"):
        await SqliteStore.open(str(path), read_only=True)
    assert names(tmp_path) == ["softstate.db"]


@pytest.mark.parametrize("name", ["a b#?%41&c.db", "ü.db", ":memory:"])
async def test_any_name_of_a_file_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / name))
    assert name in names(tmp_path)
    await store.aclose()
    reader = await SqliteStore.open(str(tmp_path / name), read_only=True)
    await reader.head()
    await reader.aclose()
