"""Adopting another store's data in Redis: nothing is left behind, and two at a time do not mix."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio

from softstate.errors import Unavailable
from softstate.model import Page, Query
from softstate.names import ALL
from softstate.store.base import Dump, Store, Write
from softstate.store.memory.store import MemoryStore
from softstate.store.redis.dump import sweep
from softstate.store.redis.store import RedisStore
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


async def after_command(store: RedisStore, number: int, step: Callable[[], Awaitable[None]]) -> None:
    """Have `step` done once, when the server has carried out this many more commands of a store."""
    send = store._engine.connections.send

    async def counted(command: bytes, *arguments: bytes | str | int) -> Any:
        nonlocal number
        answer = await send(command, *arguments)
        number -= 1
        if number == 0:
            await step()
        return answer

    store._engine.connections.send = counted  # type: ignore[method-assign]


async def test_a_sweep_beside_an_adoption_costs_no_store(rig: RedisRig) -> None:
    """The last step of an adoption falls behind each command of a sweep: the store is the new one whole, or the old."""
    outcomes: list[str] = []
    number, over = 0, False
    while not over:
        number += 1
        one, other = await rig.open(), await rig.open()
        await one.adopt(pages(await source("old")), replace=True)
        building = Building(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(building.run)
            await building.staged.wait()
            await other.reopen()
            await after_command(other, number, building.end)
            await sweep(other._engine)
            over = not building.may_end.is_set()
            await building.end()
        outcomes.append(building.outcome)
        await one.reopen()
        assert await topics(one) == (["new/1", "new/2"] if building.outcome == "adopted" else ["old"]), number
        assert not any(record.unreadable for record in (await one.dump(0)).records)
        await sweep(one._engine)
        await nothing_left_over(rig)
        await one.aclose()
        await other.aclose()
    assert outcomes[0] == "adopted", "nothing but looked at so far"
    assert all("only one program can adopt" in outcome for outcome in outcomes[1:])
    assert len(outcomes) > 5


class Building:
    """An adoption that has staged all of its image, and puts it in place when `end` is called."""

    def __init__(self, store: RedisStore) -> None:
        self.staged = trio.Event()
        self.may_end = trio.Event()
        self.outcome = ""
        self._ended = trio.Event()
        self._store = store

    async def run(self) -> None:
        async with aclosing(self._pages()) as whole:
            try:
                await self._store.adopt(whole, replace=True)
                self.outcome = "adopted"
            except Unavailable as error:
                self.outcome = str(error)
        self._ended.set()

    async def _pages(self) -> AsyncGenerator[Dump, None]:
        async with aclosing(pages(await source("new/1", "new/2"))) as whole:
            async for page in whole:
                yield page
        self.staged.set()
        await self.may_end.wait()

    async def end(self) -> None:
        self.may_end.set()
        await self._ended.wait()


class CutOff(Exception):
    """A program ends in the middle of what it does."""


@pytest.mark.parametrize("destroys", [False, True], ids=["adopt", "destroy"])
async def test_a_sweep_that_was_cut_off_is_gone_on_with(rig: RedisRig, destroys: bool) -> None:
    """After each of its commands: the next compaction deletes what is left behind."""

    async def cut() -> None:
        raise CutOff

    number, over = 0, False
    while not over:
        number += 1
        store = await rig.open()
        await store.publish([Write("old/1", b"\x01", key="k", digest=b"d")])
        # The first four look for debris, find none, begin an image and stage it.
        await after_command(store, number if destroys else number + 4, cut)
        try:
            await (store.destroy() if destroys else store.adopt(pages(await source("new")), replace=True))
            over = True
        except CutOff:
            pass
        await store.aclose()
        store = await rig.open()
        assert await topics(store) == ([] if destroys else ["new"])
        await store.compact(tombstones=0, keys=0)
        await nothing_left_over(rig)
        await store.aclose()
    assert number > 5


async def test_what_another_program_names_to_be_swept_deletes_no_keys_of_the_store(rig: RedisRig) -> None:
    store = await rig.open()
    await store.publish([Write("kept", b"\x01")])
    await rig.ask("SADD", "{softstate}:swept", "*", b"\xff", "")
    await store.compact(tombstones=0, keys=0)
    assert await topics(store) == ["kept"]
    await nothing_left_over(rig)
    await store.aclose()


async def nothing_left_over(rig: RedisRig) -> None:
    assert len(await images(rig)) == 1
    assert await rig.ask("EXISTS", "{softstate}:debris", "{softstate}:swept") == b":0\r\n"


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
