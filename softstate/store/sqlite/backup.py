"""Writing a dump to an SQLite file that appears under its name only when it is complete."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import trio

from softstate.errors import Unavailable
from softstate.position import Position
from softstate.store.base import Dump
from softstate.store.rules.nonce import lineage_nonce
from softstate.store.sqlite.store import SqliteStore


async def write_backup(pages: AsyncIterator[Dump], path: str) -> Position:
    """Write the pages of a dump to a file of their own, in place of the one at `path`; return its head.

    That is one above the dump's: the file ends with a lineage row, as any store that was copied. If it fails or is
    cancelled, all is as it was. Raises `Unavailable`, `StoreRefused`, and what the pages raise.
    """
    partial = f"{path}.{lineage_nonce()}.partial"
    store = await SqliteStore.open(partial)
    done = False
    try:
        position = await store.adopt(pages, replace=True)
        await store.aclose()
        await trio.to_thread.run_sync(_put_in_place, partial, path)
        done = True
    finally:
        if not done:
            with trio.CancelScope(shield=True):
                await store.destroy()
    return position


def _put_in_place(partial: str, path: str) -> None:
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            # Without a write-ahead log it is one file, which can be read where nothing can be written.
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            if mode != "delete":
                raise Unavailable(f"cannot put {path} in place: {partial} keeps its write-ahead log")
        os.replace(partial, path)  # noqa: PTH105 (paths are text here)
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)  # noqa: PTH100, PTH120
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"cannot put {path} in place: {error}") from error
