"""Publishing by what is there: `update`, `create`, latest wins, and times that are over."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from softstate import Client, ClientClosed, Conflict, OutcomeUnknown, Unavailable, connect
from softstate.testing import memory_node
from softstate.testing.in_memory import MemoryNode
from tests.kit.push_node import PushNode, client_of, until
from tests.kit.scripted_node import Answer, HttpRequest, ScriptedNode


@pytest.fixture
async def node() -> AsyncIterator[MemoryNode]:
    async with memory_node() as one:
        yield one


async def value_of(client: Client, topic: str) -> object:
    read = await client.read(topic, max_age=1)
    return None if read is None else read.value


async def test_updates_of_many_clients_at_once_are_all_applied(node: MemoryNode, autojump_clock: MockClock) -> None:
    async def count(follows: bool) -> None:
        async with node.connect() as client, client.subscribe("n" if follows else "other"):
            for _ in range(10):
                await client.update("n", lambda value: (value or 0) + 1)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(count, number % 2 == 0)
    async with node.connect() as client:
        assert await value_of(client, "n") == 60


async def test_update_gives_a_copy_and_may_be_async(node: MemoryNode, autojump_clock: MockClock) -> None:
    async def append(value: list[int]) -> list[int]:
        await trio.sleep(1)
        value.append(3)
        return value

    async with node.connect() as client, client.subscribe("list") as updates:
        await client.publish("list", [1, 2])
        await updates.fresh(0.5)
        version = await client.update("list", append)
        known = client.known("list")
        assert known is not None
        assert await client.get("list", at_least=version) == (await anext(updates))
        assert await value_of(client, "list") == [1, 2, 3]
        await client.delete("list")
        await client.update("list", lambda value: [value])
        assert await value_of(client, "list") == [None]


async def test_create_only_what_is_not_there(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        version = await client.create("a", 1)
        with pytest.raises(Conflict) as caught:
            await client.create("a", 2)
        assert caught.value.current == version
        await client.delete("a")
        await client.create("a", 3)
        assert await value_of(client, "a") == 3


async def test_the_latest_of_many_publishes_wins(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")
        receipts = [client.publish_soon("a", number) for number in range(12_000)]
        versions = [(await receipt.wait()).version for receipt in receipts]
        assert [each.value for each in push.published] == [0, 11_999]
        assert versions[1:] == [versions[-1]] * 11_999
        assert versions == sorted(versions)


async def test_what_waits_goes_ahead_of_publishes_that_are_asked_for_later(
    push: PushNode, autojump_clock: MockClock
) -> None:
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")
        for number in range(3):
            client.publish_soon("a", number)
        client.publish_soon("a", 3, each=True)
        client.publish_soon("a", 4)
        client.publish_soon("b", 0)
        await client.delete("a")
        await client.publish("b", 1)
        assert [each.value for each in push.published if each.topic == "a" and not each.deleted] == [0, 2, 3, 4]
        assert [each.value for each in push.published if each.topic == "b"] == [0, 1]


async def test_dropping_is_for_all_who_wait(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")
        first, second, third = (client.publish_soon("a", number) for number in range(3))
        third.drop()
        third.drop()
        await second.wait()
        other, gone = client.publish_soon("b", 0), client.publish_soon("b", 1)
        gone.drop()
        with pytest.raises(ClientClosed, match="dropped"):
            await gone.wait()
        await other.wait()
        await first.wait()
        await client.publish("c", 0)
        assert [each.value for each in push.published] == [0, 2, 0, 0]


async def test_errors_that_nobody_waits_for_are_logged(
    push: PushNode, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")
        version = await client.publish("a", 1)
        client.publish_soon("a", 2, expect=version + 5)
        with pytest.raises(Conflict):
            await client.publish_soon("a", 2, expect=version + 6).wait()
        await client.publish("b", 2)
    lines = [record.getMessage() for record in caplog.records if record.name == "softstate.client"]
    assert [line for line in lines if line.startswith("nobody waited for the publish of 'a', which failed: ")] == lines
    assert len(lines) == 1


async def test_a_publish_whose_time_is_over_says_what_is_certain(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def silent(_: HttpRequest) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    node = ScriptedNode(nursery, http=silent)
    async with client_of(node.open_stream, push=False) as client:
        before = trio.current_time()
        with pytest.raises(OutcomeUnknown, match="within 7 s"):
            await client.publish("a", 1, timeout_s=7)
        with pytest.raises(OutcomeUnknown):
            await client.delete("a", timeout_s=1)
        assert trio.current_time() - before == pytest.approx(8)


async def test_headers_go_with_each_request_and_handshake(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def status(_: HttpRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(404, b"")

    node = ScriptedNode(nursery, http=status)
    async with connect("ws://node", open_stream=node.open_stream, headers={"X-Tenant": "7"}) as client:
        with pytest.raises(Unavailable):
            await client.get("a")
    paths = {asked.target for asked in node.asked if asked.headers.get("x-tenant") == "7"}
    assert {"/v1/ws", "/v1/topics/a"} <= paths
    assert all(asked.headers.get("x-tenant") == "7" for asked in node.asked)


async def test_urls_are_shuffled_unless_ordered(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    urls = [f"ws://n{number}" for number in range(5)]

    async def first_of(seed: int, *, ordered: bool) -> str:
        node = ScriptedNode(nursery, fail=OSError("no"))
        async with connect(urls, open_stream=node.open_stream, random=random.Random(seed), ordered=ordered):
            await trio.sleep(0.1)
        return node.opened[0][0]

    assert {await first_of(seed, ordered=True) for seed in range(10)} == {"n0"}
    assert len({await first_of(seed, ordered=False) for seed in range(30)}) == 5
