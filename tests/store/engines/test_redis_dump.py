"""Adopting another store's data in Redis: nothing is left behind, and two at a time do not mix."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from softstate.errors import Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.store.base import Dump, Store, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.rules.dump import pages
from tests.store.engines.redis_rig import RedisRig, redis_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[RedisRig]:
    async with redis_rig(tmp_path, appendfsync="no") as rig:
        yield rig


async def source(*topics: str) -> MemoryStore:
    store = MemoryStore()
    await store.publish([Write(topic, b"\x01", key="k", digest=b"d") for topic in topics])
    return store


async def topics(store: Store) -> list[str]:
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    assert isinstance(page, Page)
    return [record.topic for record in page.records]


async def images(rig: RedisRig) -> set[bytes]:
    """Return the images that have any key."""
    keys = (await rig.ask("KEYS", "{softstate}:*:*")).splitlines()
    return {key.split(b":")[1] for key in keys if key.startswith(b"{")}


async def test_a_replaced_store_leaves_no_keys_behind(rig: RedisRig) -> None:
    store = await rig.open()
    await store.publish([Write(f"old/{number}/x", b"\x01") for number in range(2000)])
    await store.adopt(pages(await source("a/b", "c")), replace=True)
    assert await topics(store) == ["a/b", "c"]
    assert len(await images(rig)) == 1
    assert await rig.ask("EXISTS", "{softstate}:debris") == b":0\r\n"
    await store.aclose()


async def test_an_unfinished_copy_is_swept_by_the_next(rig: RedisRig) -> None:
    store = await rig.open()
    await store.publish([Write("mine", b"\x01")])

    class Broken(Exception):
        pass

    async def broken() -> AsyncIterator[Dump]:
        async with aclosing(pages(await source("a", "b", "c"), limit=1)) as whole:
            async for page in whole:
                yield page
                if page.records:
                    raise Broken

    with pytest.raises(Broken):
        await store.adopt(broken(), replace=True)
    assert len(await images(rig)) == 2
    assert await topics(store) == ["mine"]
    await store.adopt(pages(await source("a")), replace=True)
    assert len(await images(rig)) == 1
    assert await topics(store) == ["a"]
    await store.aclose()


async def test_two_at_a_time(rig: RedisRig) -> None:
    """The one that began first is told, and what the other adopts is whole."""
    one, other = await rig.open(), await rig.open()
    half, done = trio.Event(), trio.Event()

    async def slow() -> AsyncGenerator[Dump, None]:
        async with aclosing(pages(await source("slow/1", "slow/2"), limit=1)) as whole:
            async for page in whole:
                yield page
                half.set()
                await done.wait()

    async def first() -> None:
        async with aclosing(slow()) as given:
            with pytest.raises(Unavailable, match="only one program can adopt"):
                await one.adopt(given, replace=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await half.wait()
        await other.adopt(pages(await source("fast/1", "fast/2")), replace=True)
        done.set()
    assert await topics(other) == ["fast/1", "fast/2"]
    assert len(await images(rig)) == 1
    await one.reopen()
    assert await topics(one) == ["fast/1", "fast/2"]
    await one.aclose()
    await other.aclose()


async def test_one_node_of_a_cluster(tmp_path: Path) -> None:
    """All keys are in one slot; another node's slot is an error that says so."""
    async with redis_rig(tmp_path, "cluster", None, **{"cluster-enabled": "yes"}) as rig:
        await rig.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        with trio.fail_after(10):
            while b"cluster_state:ok" not in await rig.ask("CLUSTER", "INFO"):
                await trio.sleep(0.01)
        store = await rig.open()
        await store.publish([Write("a/{b}/c", b"\x01", key="k", digest=b"d"), Write("{x}/y", None)])
        await store.adopt(pages(await source("a/{b}/c")), replace=True)
        assert await topics(store) == ["a/{b}/c"]
        await rig.publish_directly("d", "1")
        await store.compact(tombstones=9, keys=9)
        await rig.ask("CLUSTER", "DELSLOTSRANGE", 0, 16383)
        with pytest.raises(Unavailable, match=r"(?i)cluster"):
            await store.head()
        await store.aclose()
