"""Groups of any size come to what the memory store makes of them, change by change."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest

from softstate.errors import RequestError
from softstate.model import PAGE_RECORDS_MAX, Page, Query
from softstate.names import ALL
from softstate.store.base import Applied, Committed, Store, Verdict, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.sqlite.rows import DIGITS_BYTES_MAX
from softstate.store.sqlite.snapshot import ROWS_MAX, ROWS_MIN
from softstate.store.sqlite.store import SqliteStore
from softstate.store.sqlite.write import ROWS_AT_ONCE


def drawn(random: Random, count: int) -> list[Write]:
    """Draw a group: topics come back within it, and so do keys, some of them for another request."""
    return [
        Write(
            f"t/{random.randrange(max(count // 2, 1))}",
            random.choice([None, b"\x01", bytes(random.randrange(1, 9))]),
            expect=random.choice([None, None, 0, random.randrange(count + 2)]),
            key=random.choice([None, f"k{random.randrange(9)}", f"zero\0{random.randrange(9)}", "ends in zero\0"]),
            digest=bytes([random.randrange(2)]),
        )
        for _ in range(count)
    ]


def told(verdict: Verdict) -> object:
    return asdict(verdict) if isinstance(verdict, Applied) else (verdict.code, verdict.message, verdict.current)


def compared(committed: Committed) -> object:
    return [told(verdict) for verdict in committed.verdicts], list(committed.records), committed.position.revision


async def everything(store: Store) -> list[object]:
    (page,) = await store.read([Query(prefixes={ALL: 1}, limit=PAGE_RECORDS_MAX, limit_bytes=2**30)])
    assert isinstance(page, Page)
    return list(page.records)


@pytest.mark.parametrize("count", [1, 3, 4, 15, 64, 65, 84, 200])
async def test_a_group_comes_to_the_same_as_in_memory(count: int, tmp_path: Path) -> None:
    random = Random(count)
    store, memory = await SqliteStore.open(str(tmp_path / "s.db"), keys_max=30), MemoryStore(keys_max=30)
    try:
        for _ in range(4):
            group = drawn(random, count)
            ours, theirs = await store.publish(group), await memory.publish(group)
            assert compared(ours) == compared(theirs)
            assert await everything(store) == await everything(memory)
            assert (await store.info()).keys == (await memory.info()).keys
            assert all(isinstance(verdict, Applied | RequestError) for verdict in ours.verdicts)
    finally:
        await store.aclose()


def test_any_number_of_rows_is_made_of_the_sizes() -> None:
    assert ROWS_AT_ONCE[-1] == 1
    assert sorted(ROWS_AT_ONCE, reverse=True) == list(ROWS_AT_ONCE)


@pytest.mark.parametrize("prefix", ["t/", "/"])
@pytest.mark.parametrize("count", [0, ROWS_MIN - 1, ROWS_MIN, ROWS_MIN + 1, ROWS_MIN * 5, ROWS_MAX * 2 + 1])
async def test_a_page_of_any_size_holds_all_in_order(prefix: str, count: int, tmp_path: Path) -> None:
    sizes = (1, DIGITS_BYTES_MAX, DIGITS_BYTES_MAX + 1)
    group = [Write(f"t/{number}", bytes([number % 256]) * sizes[number % 3]) for number in range(count)]
    store = await SqliteStore.open(str(tmp_path / "s.db"))
    try:
        done = await store.publish(group)
        await store.publish([Write("u/1", b"\x01"), *[Write(f"u/{number}", None) for number in range(300)]])
        (page,) = await store.read([Query(prefixes={prefix: 0}, limit=PAGE_RECORDS_MAX, limit_bytes=2**30)])
        assert isinstance(page, Page)
        assert [record for record in page.records if record.topic.startswith("t/")] == list(done.records)
        held = {publish.topic: 1 for publish in group}
        (page,) = await store.read([Query(topics=held, limit=PAGE_RECORDS_MAX, limit_bytes=2**30)])
        assert isinstance(page, Page)
        assert list(page.records) == list(done.records)
    finally:
        await store.aclose()
