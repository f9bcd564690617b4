"""A whole client against both nodes, the scripted one and a real one in memory: reading and publishing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from trio.testing import MockClock

from softstate import TopicsUnreadable, Unreadable
from softstate.errors import Behind, Conflict
from softstate.model import Change
from tests.kit.either_node import EitherNode, either_node
from tests.kit.push_node import drain

VALUES = [None, True, 0, -(2**63), 1.5, "", "é😀\x7f", b"\x00\xff", [1, [b"x"]], {"a": {"b": None}}]


@pytest.fixture(params=["scripted", "real"])
async def node(request: pytest.FixtureRequest) -> AsyncIterator[EitherNode]:
    async with either_node(request.param) as one:
        yield one


@pytest.fixture(params=["push", "poll"])
def push(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "push")


# Reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_every_value_comes_back_as_it_was_published(
    node: EitherNode, autojump_clock: MockClock, codec: str, push: bool
) -> None:
    async with node.connect(codec=codec, push=push) as client:
        for number, value in enumerate(VALUES):
            version = await client.publish(f"v/{number}", value)
            read = await client.get(f"v/{number}", at_least=version)
            assert read == Change(f"v/{number}", version, value)
            assert read is not None
            assert type(read.value) is type(value)
        assert [each.value for each in await client.list("v/")] == VALUES


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_get_tells_a_tombstone_from_a_topic_that_never_was(
    node: EitherNode, autojump_clock: MockClock, codec: str
) -> None:
    async with node.connect(codec=codec) as client:
        await client.publish("a", 1)
        version = await client.delete("a")
        assert await client.get("a") == Change("a", version, deleted=True)
        assert await client.get("never") is None


async def test_names_that_have_to_be_encoded_in_a_path(node: EitherNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        for topic in ("a b/ü ?", "100%", "x#y", "q=1&r", "'\"\\", "ä/😀"):
            version = await client.publish(topic, topic)
            assert await client.get(topic) == Change(topic, version, topic)
        assert {each.topic for each in await client.list("a b/")} == {"a b/ü ?"}


async def test_a_list_is_sorted_and_without_tombstones(node: EitherNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        for topic in ("p/b", "p/a", "q/c", "p/c/d", "p"):
            await client.publish(topic, topic)
        await client.delete("p/b")
        assert [each.topic for each in await client.list("p/")] == ["p/a", "p/c/d"]
        assert [each.topic for each in await client.list("/")] == ["p", "p/a", "p/c/d", "q/c"]
        assert await client.list("none/") == []


async def test_a_version_that_is_not_there_yet_is_behind(node: EitherNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        version = await client.publish("a", 1)
        with pytest.raises(Behind):
            await client.get("a", at_least=version + 1, timeout_s=5)
        assert (await client.get("a", at_least=version)) == Change("a", version, 1)


async def test_status_is_a_map(node: EitherNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        assert isinstance(await client.status(), dict)


# Publishing ----------------------------------------------------------------------------------------------------------


async def test_compare_and_set(node: EitherNode, autojump_clock: MockClock, push: bool) -> None:
    async with node.connect(push=push) as client:
        first = await client.publish("a", 1, expect=0)
        second = await client.publish("a", 2, expect=first)
        assert second > first
        with pytest.raises(Conflict) as caught:
            await client.publish("a", 3, expect=first)
        assert caught.value.current == second
        with pytest.raises(Conflict):
            await client.publish("a", 3, expect=0)
        assert (await client.get("a")) == Change("a", second, 2)


async def test_deleting_what_is_not_there_changes_nothing(
    node: EitherNode, autojump_clock: MockClock, push: bool
) -> None:
    async with node.connect(push=push) as client:
        assert await client.delete("never") == 0
        await client.publish("a", 1)
        version = await client.delete("a")
        assert await client.delete("a") == version


async def test_many_publishes_at_once_are_all_applied_in_order(
    node: EitherNode, autojump_clock: MockClock, push: bool
) -> None:
    async with node.connect(push=push) as client:
        receipts = [client.publish_soon(f"t/{number % 7}", number, each=True) for number in range(300)]
        versions = [(await receipt.wait()).version for receipt in receipts]
        for topic in range(7):
            mine = versions[topic::7]
            assert mine == sorted(set(mine))
        assert sorted(each.value for each in await client.list("t/")) == list(range(293, 300))


# Damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_a_damaged_record_concerns_its_topic_alone(
    node: EitherNode, autojump_clock: MockClock, codec: str
) -> None:
    async with node.connect(codec=codec, push=False) as client:
        await client.publish("p/x", 1)
        await client.publish("p/y", 2)
        node.damage("p/x")
        with pytest.raises(Unreadable):
            await client.get("p/x")
        listed = await client.list("p/")
        assert ([each.topic for each in listed], listed.unreadable) == (["p/y"], ("p/x",))
        async with client.subscribe("p/") as updates:
            await updates.synced()
            assert updates.unreadable == ("p/x",)
            told = await drain(updates)
            assert [each.topic for each in told if isinstance(each, Change)] == ["p/y"]
            assert [each for each in told if isinstance(each, TopicsUnreadable)] == [TopicsUnreadable(["p/x"])]
            await client.publish("p/x", 3)
            assert (await anext(updates)).value == 3
            assert not updates.unreadable
