"""Parts of the checks that copy a store: contents to copy, pages to replay, and the sum of a dump's pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import trio

from softstate.model import Record
from softstate.position import Position
from softstate.store.base import Dump, Key, Store, Write
from softstate.store.rules.dump import pages
from softstate.testing.conformance.stage import put

TOPICS = 40
"""Topics of the contents that every copy is made of."""

FEW = 7
"""Records of a page, where a check needs a dump of several pages."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The sum of the pages of one dump."""

    position: Position
    floor: int
    records: dict[str, Record]
    rows: Sequence[Position]
    keys: frozenset[Key]


class ReplayedPages:
    """Pages that were dumped before, to be adopted. They need not be read to their end."""

    def __init__(self, copy: Sequence[Dump]) -> None:
        self._pages = iter(copy)

    def __aiter__(self) -> ReplayedPages:
        return self

    async def __anext__(self) -> Dump:
        await trio.lowlevel.checkpoint()
        for page in self._pages:
            return page
        raise StopAsyncIteration


async def collect(dump: AsyncIterator[Dump]) -> Contents:
    """Add up the pages of a dump, as a store that adopts them does."""
    records: dict[str, Record] = {}
    rows: list[Position] = []
    keys: dict[tuple[str, str], Key] = {}
    last: Dump | None = None
    async for page in dump:
        if not page.after:
            records, rows, keys = {}, [], {}
        records.update({record.topic: record for record in page.records})
        rows += page.rows
        keys.update({(key.topic, key.key): key for key in page.keys})
        last = page
    assert last is not None
    return Contents(last.position, last.floor, records, rows, frozenset(keys.values()))


async def dump_of(store: Store) -> Contents:
    """Dump all that a store holds."""
    return await collect(pages(store, limit=FEW))


async def fill(store: Store) -> Position:
    """Fill a store with values, tombstones, keys, a floor and lineages, and return its head."""
    await store.publish([Write(f"t/{number}", bytes([number])) for number in range(TOPICS)])
    await put(store, "gone")
    await put(store, "gone", None)
    await store.compact(tombstones=await put(store, "t/0", None), keys=0)
    await store.reopen()
    await store.publish([Write("keyed", b"\x01", key=f"key {number}", digest=b"d") for number in range(FEW + 2)])
    await store.publish([Write("t/1", None), Write("t/2", b"\x02"), Write("empty", b"\xf6")])
    return await store.head()
