"""Dumping a store while it changes under the reader, and what an SQLite file goes through while it adopts a dump."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from softstate.errors import StoreMissing, StoreReplaced, StoreRewound, Unavailable
from softstate.model import PAGE_BYTES_MAX, Query
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Dump, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.store.rules.dump import DUMP_TRIES, check_joined, pages
from softstate.store.sqlite.store import SqliteStore
from softstate.testing.conformance.stage import put, state


async def filled(topics: int) -> MemoryStore:
    store = MemoryStore()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(topics)])
    return store


async def starts(dump: AsyncGenerator[Dump, None]) -> list[int]:
    async with aclosing(dump):
        return [page.after async for page in dump]


async def test_compaction_beyond_the_cursor_makes_a_dump_start_over() -> None:
    store = await filled(6)
    begun: list[int] = []

    async def compacted() -> AsyncGenerator[Dump, None]:
        async with aclosing(pages(store, limit=2)) as dump:
            async for page in dump:
                if len(begun) == 1:
                    await store.compact(tombstones=await put(store, "t/0", None), keys=0)
                begun.append(page.after)
                yield page

    async with aclosing(compacted()) as dump:
        topics = [record.topic async for page in dump for record in page.records]
    assert begun == [0, 3, 0, 4, 6]
    assert topics[4:] == ["t/1", "t/2", "t/3", "t/4", "t/5"], "what the second beginning brought, without the dead one"


async def test_a_floor_from_before_the_dump_does_not_matter() -> None:
    store = await filled(6)
    await store.compact(tombstones=await put(store, "t/0", None), keys=0)
    assert await starts(pages(store, limit=2)) == [0, 4, 6]


async def test_a_store_that_is_compacted_all_the_time_is_given_up() -> None:
    class Restless(MemoryStore):
        async def dump(self, after: int, limit: int = 2) -> Dump:
            page = await super().dump(after, limit)
            topic = f"t/{page.position.revision}"
            await put(self, topic)
            await self.compact(tombstones=await put(self, topic, None), keys=0)
            return page

    store = Restless((await filled(6)).disk)
    tried: list[int] = []
    with pytest.raises(Unavailable, match=f"was compacted {DUMP_TRIES} times"):
        await starts(pages(store, limit=2, progress=lambda page: tried.append(page.after)))
    assert tried == [0] * DUMP_TRIES


@pytest.mark.parametrize("rewound", [True, False])
async def test_pages_of_two_histories_are_never_mixed(*, rewound: bool) -> None:
    store = await filled(4)
    backup = store.disk.snapshot()
    await put(store, "lost")
    found: list[tuple[int, str]] = []
    async with aclosing(pages(store, limit=2)) as dump:
        async for page in dump:
            if not found:
                if rewound:
                    store.disk.restore(backup)
                await store.reopen()
            found += [(page.after, record.topic) for record in page.records]
    kept = [(0, "t/0"), (0, "t/1"), (3, "t/2"), (3, "t/3")]
    assert found == (kept[:2] + kept if rewound else [*kept, (5, "lost")])


async def test_a_rewound_store_is_not_dumped() -> None:
    store = await filled(4)
    await trio.lowlevel.checkpoint()
    store.disk.restore(MemoryDisk().snapshot())
    with pytest.raises(StoreRewound):
        await starts(pages(store))


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
async def test_pages_are_bounded_by_bytes_and_keys(engine: str, tmp_path: Path) -> None:
    store = MemoryStore() if engine == "memory" else await SqliteStore.open(str(tmp_path / "softstate.db"))
    big = b"\x5a" + (PAGE_BYTES_MAX // 2).to_bytes(4, "big") + bytes(PAGE_BYTES_MAX // 2)
    await store.publish([Write(f"big/{number}", big) for number in range(5)])
    await store.publish([Write("keyed", b"\x01", key=f"{number}", digest=b"d") for number in range(25)])
    sizes = [(len(page.records), len(page.keys)) async for page in pages(store, limit=10)]
    assert sizes == [(2, 0), (2, 0), (1, 10), (0, 10), (1, 5)]
    await store.aclose()


@pytest.mark.parametrize(
    ("after", "upto", "more", "following", "why"),
    [
        (0, 4, True, None, "broke off"),
        (0, 4, True, 5, "gap before revision 5"),
        (0, 4, True, 3, "gap before revision 3"),
        (0, 4, True, 4, None),
        (0, 4, True, 0, None),
        (2, 4, False, None, None),
    ],
)
def test_pages_must_join(after: int, upto: int, more: bool, following: int | None, why: str | None) -> None:
    def page(after: int, upto: int, more: bool) -> Dump:
        return Dump(after, Position("e", "l", 9), 0, [], [], [], upto, more)

    last = page(after, upto, more)
    successor = None if following is None else page(following, 9, False)
    if why is None:
        check_joined(last, successor)
    else:
        with pytest.raises(Unavailable, match=why):
            check_joined(last, successor)


def test_no_page_at_all_is_no_copy() -> None:
    with pytest.raises(Unavailable, match="broke off"):
        check_joined(None, None)


async def test_readers_of_a_file_that_adopts_see_all_or_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "softstate.db")
    store, other = await SqliteStore.open(path), await SqliteStore.open(path, busy_s=0.05)
    await put(other, "mine")
    source = await filled(40)
    looked = 0

    async def watched() -> AsyncIterator[Dump]:
        nonlocal looked
        async for page in pages(source, limit=10):
            yield page
            assert set(await state(other)) == {"mine"}
            with pytest.raises(Unavailable, match="lock"):
                await put(other, "not now")
            looked += 1

    await store.adopt(watched(), replace=True)
    assert looked == 4
    with pytest.raises(StoreRewound):
        await other.head()
    assert len(await state(store)) == 40
    await other.reopen()
    assert await state(other) == await state(store)
    await store.aclose()
    await other.aclose()


async def test_calls_wait_while_their_own_store_adopts(tmp_path: Path) -> None:
    store = await SqliteStore.open(str(tmp_path / "softstate.db"))
    source = await filled(4)
    order: list[str] = []

    async def read() -> None:
        assert len(await state(store)) == 4
        order.append("read")

    async def begun(nursery: trio.Nursery) -> AsyncIterator[Dump]:
        nursery.start_soon(read)
        async for page in pages(source, limit=1):
            await trio.testing.wait_all_tasks_blocked()
            order.append("page")
            yield page

    async with trio.open_nursery() as nursery:
        await store.adopt(begun(nursery), replace=False)
    assert order == ["page"] * 4 + ["read"]
    await store.aclose()


async def test_nothing_is_adopted_by_a_file_that_was_swapped_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    source = await filled(4)

    async def swapping() -> AsyncIterator[Dump]:
        async for page in pages(source):
            path.rename(tmp_path / "old.db")
            sqlite3.connect(path).close()
            path.touch()
            yield page

    with pytest.raises(StoreReplaced):
        await store.adopt(swapping(), replace=False)
    with pytest.raises(StoreMissing):
        await store.reopen()
    assert path.stat().st_size == 0
    await store.aclose()


async def test_a_key_that_expired_and_was_used_again_stands_for_the_newer_request(tmp_path: Path) -> None:
    for store in (MemoryStore(), await SqliteStore.open(str(tmp_path / "softstate.db"))):
        source = await filled(1)
        await put(source, "t/0", key="key", digest=b"old")
        await put(source, "t/1")

        async def expiring(source: MemoryStore) -> AsyncIterator[Dump]:
            async for page in pages(source, limit=1):
                yield page
                if page.keys and page.more:
                    await source.compact(tombstones=0, keys=(await source.head()).revision)
                    await put(source, "t/0", key="key", digest=b"new")

        await store.adopt(expiring(source), replace=False)
        page = await store.dump(0)
        assert [(key.digest, key.version) for key in page.keys] == [(b"new", (await source.head()).revision)]
        assert (await store.info()).keys == 1
        await store.aclose()


async def test_a_destroyed_file_leaves_nothing_behind(tmp_path: Path) -> None:
    path = str(tmp_path / "softstate.db")
    store, other = await SqliteStore.open(path), await SqliteStore.open(path)
    await put(store, "a")
    await store.destroy()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 (not a Path's blocking method)
    with pytest.raises(Unavailable, match="is gone"):
        await other.head()
    with pytest.raises(trio.ClosedResourceError):
        await store.head()
    await other.aclose()


async def test_a_file_that_took_the_place_of_ours_is_not_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "softstate.db"
    store = await SqliteStore.open(str(path))
    path.rename(tmp_path / "old.db")
    path.write_bytes(b"somebody else's")
    with pytest.raises(StoreReplaced):
        await store.destroy()
    assert path.read_bytes() == b"somebody else's"


async def test_much_is_moved_from_engine_to_engine_and_back(tmp_path: Path) -> None:
    source, copy = await filled(5_000), MemoryStore()
    file = await SqliteStore.open(str(tmp_path / "softstate.db"))
    await file.adopt(pages(source), replace=False)
    await copy.adopt(pages(file), replace=False)
    assert await state(copy) == await state(source)
    assert (await copy.read([Query(prefixes={ALL: 0}, witness=await source.head())]))[0]
    await file.aclose()
