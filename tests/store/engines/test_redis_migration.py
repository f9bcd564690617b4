"""Carrying over a store that softstate of November 2026 has written (layout 1), kept in ``november/redis.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from softstate.errors import StoreMissing, StoreRefused, Unavailable
from softstate.model import Query
from softstate.names import ALL
from softstate.store.base import LAYOUT, Applied, Write
from softstate.store.redis import migration
from softstate.store.redis.dump import stage
from softstate.store.redis.engine import RedisEngine
from softstate.store.redis.store import RedisStore
from softstate.testing.conformance.stage import put, read_page
from softstate.wire import decode_value
from tests.store.engines.redis_rig import RedisRig, Refused

NOVEMBER = json.loads((Path(__file__).parent / "november" / "redis.json").read_text())

EPOCH, LINEAGES, HEAD, FLOOR = (
    "0c5c7fd0a6a3a4506513270e269e0d37",
    {1: "fc6ec3d665bfc94b", 14: "da1a567087a7802f"},
    19,
    11,
)

VALUES: dict[str, Any] = {
    "null": None, "text": "ä€", "number": -7, "real": 1.5, "bytes": b"\0\xff", "map": {"a": [1, {"b": None}]},
    "ä/nested/name": True, "keyed": 1, "after": 1, "direct": {"state": "paid"},
}  # fmt: skip

UNREADABLE = {"damaged", "deep", "not json"}


async def load(rig: RedisRig) -> None:
    rig.namespace = "november"
    for command in NOVEMBER:
        await rig.ask(*(part.encode("latin-1") for part in command))


async def contents(store: RedisStore) -> tuple[dict[str, Any], set[str]]:
    page = await read_page(store, Query(prefixes={ALL: 0}))
    values = {record.topic: decode_value(record.cbor) for record in page.records if record.cbor is not None}
    return values, {record.topic for record in page.records if record.unreadable}


async def check_carried_over(store: RedisStore) -> None:
    assert await contents(store) == (VALUES, UNREADABLE)
    head = await store.head()
    assert (head.epoch, head.revision) == (EPOCH, HEAD + 1)
    assert list(await store.lineage_at([1, 13, 14, HEAD])) == [LINEAGES[1], LINEAGES[1], LINEAGES[14], LINEAGES[14]]
    page = await read_page(store, Query(topics={"gone/a": 10, "gone/b": 10, "text": 3}))
    assert [(record.topic, record.version, record.deleted) for record in page.records] == [
        ("gone/a", FLOOR, True),
        ("gone/b", 12, True),
    ]
    done = await store.publish([Write("keyed", b"\x01", key="k", digest=b"d" * 16)])
    assert list(done.verdicts) == [Applied(13, repeated=True)]
    assert (await store.info()).layout == LAYOUT


async def test_everything_is_carried_over(rig: RedisRig) -> None:
    await load(rig)
    store = await rig.open()
    await check_carried_over(store)
    await put(store, "damaged", b"\x02")
    assert (await contents(store))[1] == UNREADABLE - {"damaged"}
    await store.aclose()


async def test_it_is_carried_over_in_pages(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "PAGE_RECORDS", 2)
    await load(rig)
    store = await rig.open()
    await check_carried_over(store)
    await store.aclose()


@pytest.mark.parametrize("records", [1, 2, 512])
async def test_damaged_versions_and_names_are_carried_over_as_such(
    rig: RedisRig, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr(migration, "PAGE_RECORDS", records)
    await load(rig)
    image = (await rig.ask("HGET", "{november}:meta", "image")).split(b"\r\n")[1].decode()
    at = f"{{november}}:{image}:"
    for version in (2.25, 2.5, 2.75, 17.5, HEAD):
        await rig.ask("ZADD", f"{at}live:/", str(version), f"stray/{version}")
    for version, name in ((2, b"\xff"), (3, b"\xfe"), (2.5, b"a\0k"), (HEAD + 1, b"a\0l")):
        await rig.ask("ZADD", f"{at}live:/", str(version), name)
        await rig.ask("ZADD", f"{at}keylog", str(version), name)
        await rig.ask("HSET", f"{at}key", name, b"d")
    store = await rig.open()
    values, unreadable = await contents(store)
    assert values == VALUES
    assert unreadable >= UNREADABLE | {"stray/2.25", "stray/2.5", "stray/2.75", "stray/17.5"}
    assert (await store.info()).keys == 1
    await store.aclose()


@pytest.mark.parametrize("damage", [("2.5", b"0123456789abcdef"), ("2", b"\xff")], ids=str)
async def test_a_damaged_lineage_row_is_refused(rig: RedisRig, damage: tuple[str, bytes]) -> None:
    await load(rig)
    image = (await rig.ask("HGET", "{november}:meta", "image")).split(b"\r\n")[1].decode()
    await rig.ask("ZADD", f"{{november}}:{image}:lineage", *damage)
    with pytest.raises(StoreRefused, match=r"is damaged.*restore a backup"):
        await rig.open()
    assert b"\r\n1\r\n" in await rig.ask("HGET", "{november}:meta", "layout")


async def test_a_carrying_that_was_cut_off_is_begun_again(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "PAGE_RECORDS", 2)
    await load(rig)
    staged: list[int] = []

    async def cut_off(*arguments: Any) -> None:
        if len(staged) == 3:
            raise Unavailable("cut off")
        staged.append(1)
        await stage(*arguments)

    monkeypatch.setattr(migration, "stage", cut_off)
    with pytest.raises(Unavailable, match="cut off"):
        await rig.open()
    assert b"\r\n1\r\n" in await rig.ask("HGET", "{november}:meta", "layout")
    monkeypatch.setattr(migration, "stage", stage)
    store = await rig.open()
    await check_carried_over(store)
    assert await rig.ask("SCARD", "{november}:debris") == b":0\r\n"
    await store.aclose()


async def test_a_publish_of_a_november_node_meanwhile_is_not_lost(
    rig: RedisRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(rig)

    async def publish_first(*arguments: Any) -> None:
        await rig.ask("HSET", "{november}:meta", "head", HEAD + 1)
        await stage(*arguments)

    monkeypatch.setattr(migration, "stage", publish_first)
    with pytest.raises(Unavailable, match="changed while it was carried over"):
        await rig.open()
    assert b"\r\n1\r\n" in await rig.ask("HGET", "{november}:meta", "layout")


async def test_two_at_a_time(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One carries the store over, before any step of the other; that one is told to try again, and can."""
    monkeypatch.setattr(migration, "PAGE_RECORDS", 8)
    call = RedisEngine.call
    calls: list[str] = []
    overtaken_at = 0

    async def overtaken(engine: RedisEngine, function: str, *arguments: Any, **options: Any) -> Any:
        calls.append(function)
        if len(calls) == overtaken_at:
            await (await rig.open()).aclose()
        return await call(engine, function, *arguments, **options)

    refused: list[str] = []
    while len(refused) == overtaken_at:
        overtaken_at += 1
        calls.clear()
        await rig.ask("FLUSHALL")
        await load(rig)
        with monkeypatch.context() as patch:
            patch.setattr(RedisEngine, "call", overtaken)
            try:
                await (await rig.open()).aclose()
            except Unavailable as error:
                refused.append(str(error))
        store = await rig.open()
        assert await contents(store) == (VALUES, UNREADABLE)
        await store.compact(tombstones=0, keys=0)
        assert await rig.ask("EXISTS", "{november}:debris", "{november}:swept") == b":0\r\n"
        await store.aclose()
    assert calls[-1] == "carry_over"
    assert len(refused) == len(calls)
    assert all("TAKENOVER another program" in why for why in refused)


async def test_the_functions_of_november_nodes_are_gone(rig: RedisRig) -> None:
    """A forgotten node fails: a later library is not replaced, and an earlier one refuses the layout."""
    await load(rig)
    store = await rig.open()
    for function in ("open", "write", "read", "feed", "compact", "adopt", "stage"):
        with pytest.raises(Refused, match="Function not found"):
            await rig.ask("FCALL", f"softstate_{function}", 1, "november")
    assert b"\r\n2\r\n" in await rig.ask("HGET", "{november}:meta", "layout")
    await store.aclose()


async def test_opened_to_read_nothing_is_carried_over_or_changed(rig: RedisRig) -> None:
    await load(rig)
    with pytest.raises(StoreRefused, match="carries it over"):
        await RedisStore.open(rig.url, read_only=True)
    store = await rig.open()
    head = await store.head()
    reading = await RedisStore.open(rig.url, read_only=True)
    assert await reading.head() == head
    for call in (
        lambda: reading.publish([Write("a", b"\x01")]),
        lambda: reading.compact(tombstones=0, keys=0),
        reading.reopen,
        reading.destroy,
    ):
        with pytest.raises(StoreRefused, match="was opened to read only: open it to write"):
            await call()
    assert await store.head() == head
    await reading.aclose()
    await store.aclose()


async def test_without_leave_to_create_nothing_is_made(rig: RedisRig) -> None:
    for read_only in (False, True):
        with pytest.raises(StoreMissing, match="softstate store create"):
            await RedisStore.open(rig.url, create=False, read_only=read_only)
    assert await rig.ask("DBSIZE") == b":0\r\n"
    store = await rig.open()
    await store.aclose()
    again = await RedisStore.open(rig.url, create=False)
    assert (await again.head()).revision == 2
    await rig.ask("FLUSHALL")
    with pytest.raises(StoreMissing):
        await again.reopen()
    assert await rig.ask("DBSIZE") == b":0\r\n"
    await again.aclose()


async def test_a_server_that_takes_no_writes_is_opened_all_the_same(rig: RedisRig) -> None:
    store = await rig.open()
    await put(store, "a")
    head = await store.head()
    await store.aclose()
    await rig.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    store = await rig.open()
    assert await store.head() == head
    assert (await contents(store))[0] == {"a": 1}
    with pytest.raises(Unavailable, match="replicas"):
        await put(store, "b")
    await rig.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    assert await put(store, "b") == head.revision + 2
    assert list(await store.lineage_at([head.revision])) == [head.lineage]
    assert (await store.head()).lineage != head.lineage
    await store.aclose()
