"""Writing a dump to an SQLite file that appears under its name only when it is complete."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from softstate.position import Position
from softstate.store.base import Dump
from softstate.store.rules.nonce import lineage_nonce
from softstate.store.sqlite.copies import discard, put_in_place
from softstate.store.sqlite.store import SqliteStore


async def write_backup(pages: AsyncIterator[Dump], path: str) -> Position:
    """Write the pages of a dump to a file of their own, in place of the one at `path`; return its head.

    That is one above the dump's: the file ends with a lineage row, as any store that was copied. If it fails or is
    cancelled, all is as it was. Raises `Unavailable`, `StoreRefused`, and what the pages raise.
    """
    partial = f"{path}.{lineage_nonce()}.partial"
    store: SqliteStore | None = None
    done = False
    try:
        store = await SqliteStore.open(partial)
        position = await store.adopt(pages, replace=True)
        await store.aclose()
        await trio.to_thread.run_sync(put_in_place, partial, path)
        done = True
    finally:
        if not done:
            with trio.CancelScope(shield=True):
                if store is not None:
                    await store.aclose()
                await trio.to_thread.run_sync(discard, partial)
    return position
