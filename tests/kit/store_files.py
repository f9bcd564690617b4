"""For tests of `softstate store`, which run in a directory of their own: stores filled, damaged, listed as files."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import trio

from softstate.store import Store, open_store
from softstate.store.base import Write

T = TypeVar("T")


def within(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open a store, work on it, close it."""

    async def main() -> T:
        store = await open_store(url)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return trio.run(main)


async def fill(store: Store) -> None:
    """Write three topics, one of them twice with a key, and delete one."""
    await store.publish([Write("a", b"\x01"), Write("b", b"\x01"), Write("c", b"\x01")])
    await store.publish([Write("c", b"\x02", key="key", digest=b"d"), Write("b", None)])


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
