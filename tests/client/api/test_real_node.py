"""A whole client that follows topics of a real node in memory, by push and by polls."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from softstate import TopicsUnreadable
from softstate.client.api.client import Client
from softstate.model import Change
from softstate.testing import memory_node
from softstate.testing.in_memory import MemoryNode
from tests.kit.push_node import drain, until


@pytest.fixture
async def node() -> AsyncIterator[MemoryNode]:
    async with memory_node() as one:
        yield one


@pytest.fixture(params=["push", "poll"])
def push(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "push")


async def _settled(client: Client) -> None:
    await until(client, "live" if client.mode != "polling" else "polling")


async def test_following_from_the_snapshot_to_a_deletion(
    node: MemoryNode, autojump_clock: MockClock, push: bool
) -> None:
    async with node.connect() as other, node.connect(push=push) as client:
        await other.publish("p/a", 1)
        async with client.subscribe("p/", "b") as updates:
            assert updates.age == math.inf
            await updates.synced()
            assert updates.age < 5
            assert (await anext(updates)).value == 1
            await _settled(client)
            await other.publish("b", 2)
            change = await anext(updates)
            assert (change.topic, change.value) == ("b", 2)
            version = await other.delete("p/a")
            gone = await anext(updates)
            assert (gone.topic, gone.version, gone.deleted) == ("p/a", version, True)
            await trio.sleep(120)
            assert updates.age < 30
            assert client.statistics().repairs_mismatch == 0


async def test_several_hundred_changes_are_drained_and_only_the_newest_is_seen(
    node: MemoryNode, autojump_clock: MockClock, push: bool
) -> None:
    async with node.connect() as other, node.connect(push=push) as client, client.subscribe("p/") as updates:
        await updates.synced()
        await _settled(client)
        receipts = [other.publish_soon(f"p/{number % 500}", number) for number in range(1_500)]
        for receipt in receipts:
            await receipt.wait()
        await trio.sleep(30)
        seen = {each.topic: each.value for each in await drain(updates) if isinstance(each, Change)}
        assert seen == {f"p/{number % 500}": number for number in range(1_000, 1_500)}


async def test_a_handle_opened_later_starts_with_what_is_known(
    node: MemoryNode, autojump_clock: MockClock, push: bool
) -> None:
    async with node.connect(push=push) as client, client.subscribe("p/") as first:
        await client.publish("p/q/a", 1)
        await client.publish("p/b", 2)
        await first.synced()
        await trio.sleep(30)
        async with client.subscribe("p/q/", "p/b") as second:
            known = {each.topic: each.value for each in await drain(second) if isinstance(each, Change)}
            assert known == {"p/q/a": 1, "p/b": 2}
            await second.synced()


async def test_a_broken_connection_loses_nothing(node: MemoryNode, autojump_clock: MockClock, push: bool) -> None:
    async with node.connect() as other, node.connect(push=push) as client, client.subscribe("p/") as updates:
        await updates.synced()
        await _settled(client)
        version = await other.publish("p/a", 1)
        await node.kill()
        await node.start()
        assert await other.publish("p/b", 2) > version
        await trio.sleep(60)
        seen = {each.topic: each.value for each in await drain(updates) if isinstance(each, Change)}
        assert seen == {"p/a": 1, "p/b": 2}
        assert updates.age < 30


async def test_a_large_set_of_names_goes_through(node: MemoryNode, autojump_clock: MockClock, push: bool) -> None:
    names = [f"n/{number:05}" for number in range(9_000)]
    async with node.connect(push=push) as client, client.subscribe(*names) as updates:
        await updates.synced()
        await client.publish(names[-1], 1)
        assert (await anext(updates)).topic == names[-1]
        await trio.sleep(60)
        assert (updates.age < 30, client.statistics().repairs_mismatch) == (True, 0)


async def test_a_record_that_was_damaged_before_a_client_came(
    node: MemoryNode, autojump_clock: MockClock, push: bool
) -> None:
    async with node.connect() as other:
        await other.publish("p/x", 1)
        await other.publish("p/y", 2)
        node.disk.image.damage("p/x")
        async with node.connect(push=push) as client, client.subscribe("p/") as updates, client.subscribe("p/x") as one:
            await updates.synced()
            await _settled(client)
            await trio.sleep(60)
            assert updates.age < 30
            assert one.age == math.inf
            assert updates.unreadable == one.unreadable == ("p/x",)
            for handle in (updates, one):
                told = [each for each in await drain(handle) if isinstance(each, TopicsUnreadable)]
                assert told == [TopicsUnreadable(["p/x"])]
            await other.publish("p/x", 3)
            await trio.sleep(60)
            assert [*updates.unreadable, *one.unreadable] == []
            assert max(one.age, updates.age) < 30
            assert [each.value for each in await drain(updates) if isinstance(each, Change)] == [3]
            assert client.statistics().repairs_mismatch == 0
