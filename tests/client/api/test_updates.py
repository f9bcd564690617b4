"""The whole client against a scripted node: following topics, and what is pending."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
import trio
from trio.testing import MockClock

from softstate.client.api.updates import Updates
from softstate.client.machine.events import Reset
from softstate.errors import ClientClosed, Denied, Invalid
from softstate.model import Change
from softstate.position import Position
from softstate.wire.messages import ClientBye
from tests.kit.push_node import PushNode, client_of, drain, until
from tests.kit.scripted_node import WELCOME


async def test_a_handle_from_its_first_value_to_its_end(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("orders/42", {"state": "new"})
    async with client_of(push.node.open_stream) as client, client.subscribe("orders/42", "prices/") as updates:
        assert updates.age == math.inf
        await updates.synced()
        assert updates.age < 1
        assert updates.names == ("orders/42", "prices/")
        assert (await anext(updates)).value == {"state": "new"}
        await until(client, "live")
        await push.push("prices/tea", 3)
        change = await anext(updates)
        assert (change.topic, change.value) == ("prices/tea", 3)
        before = updates.age
        await trio.sleep(2)
        assert updates.age == pytest.approx(before + 2 / 0.99)
        assert client.age == updates.age
        assert client.position == push.position
        assert client.statistics().resets == 0
    assert isinstance(push.node.messages[-1], ClientBye)
    assert push.node.all_closed()


async def test_newest_values_only(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client, client.subscribe("a", "b") as updates:
        await updates.synced()
        for value in range(100):
            await push.push("a", value)
        await push.push("b", "last")
        await trio.sleep(0.1)
        assert [(await anext(updates)).value for _ in range(2)] == [99, "last"]


async def test_renewals_bound_the_age(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client, client.subscribe("a") as updates:
        await updates.synced()
        for _ in range(100):
            await trio.sleep(10)
            assert client.mode == "live"
            assert updates.age <= 24.1


async def test_handles_share_names(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("p/a", 1)
    async with client_of(push.node.open_stream) as client:
        async with client.subscribe("p/") as first:
            assert (await anext(first)).value == 1
            async with client.subscribe("p/", "p/a", "q") as second:
                assert (await anext(second)).value == 1
                await second.synced()
                await push.push("p/a", 2)
                assert (await anext(first)).value == 2
                assert (await anext(second)).value == 2
            await trio.sleep(1)
            assert list(push.names) == ["p/"]
            with pytest.raises(StopAsyncIteration):
                await anext(second)
            assert second.age == math.inf
            assert client.age < 100
        await trio.sleep(1)
        assert list(push.names) == []


async def test_a_handle_that_another_task_closes(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("p/a", 1)
    async with client_of(push.node.open_stream) as client, client.subscribe("p/") as other:
        assert (await anext(other)).value == 1
        async with client.subscribe("p/", "q") as updates, trio.open_nursery() as nursery:
            seen: list[str] = []

            async def follow(iterator: AsyncIterator[object], name: str) -> None:
                async for _ in iterator:
                    pass
                seen.append(name)

            for iterator, name in ((updates, "changes"), (updates.events(), "events"), (updates.batches(), "batches")):
                nursery.start_soon(follow, iterator, name)
            await trio.sleep(1)
            updates.close()
            await trio.sleep(1)
            assert sorted(seen) == ["batches", "changes", "events"]
            assert list(push.names) == ["p/"], "the other handle is still on it"
            updates.close()
            await push.push("p/a", 2)
            assert (await anext(other)).value == 2
            assert [change async for change in updates] == []
            assert updates.age == math.inf
    updates.close()


@pytest.mark.parametrize("wait", [Updates.synced, lambda updates: updates.fresh(1.0)], ids=["synced", "fresh"])
async def test_who_waits_for_a_handle_that_is_closed_learns_it(
    push: PushNode, autojump_clock: MockClock, wait: Callable[[Updates], Awaitable[None]]
) -> None:
    push.node.fail = ConnectionRefusedError()
    async with (
        client_of(push.node.open_stream) as client,
        client.subscribe("p/") as updates,
        trio.open_nursery() as nursery,
    ):

        async def close() -> None:
            await trio.sleep(1)
            updates.close()

        nursery.start_soon(close)
        with pytest.raises(ClientClosed, match="this subscription was closed"):
            await wait(updates)


async def test_what_is_pending_of_a_closed_handle_is_dropped(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("p/a", 1)
    async with client_of(push.node.open_stream) as client, client.subscribe("p/") as updates:
        await updates.synced()
        updates.close()
        assert [change async for change in updates] == []
        await trio.sleep(1)
        assert list(push.names) == []


async def test_a_client_that_follows_nothing_has_no_age(push: PushNode, autojump_clock: MockClock) -> None:
    push.denied = ["secret"]
    async with client_of(push.node.open_stream) as client:
        await until(client, "live")
        assert client.age == math.inf
        async with client.subscribe("a") as updates:
            await updates.synced()
            assert client.age < 1
        assert client.age == math.inf
        async with client.subscribe("secret") as refused:
            with pytest.raises(Denied):
                await refused.synced()
            assert client.age == math.inf


async def test_subscribing_again_gives_the_value_again(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("a", 1)
    async with client_of(push.node.open_stream) as client:
        for _ in range(2):
            async with client.subscribe("a") as updates:
                assert (await anext(updates)).value == 1


@pytest.mark.parametrize("names", [(), ("",), ("a//b",), ("a", "/a"), ("../",), ("x" * 256,), (1,)])
async def test_names_are_checked(push: PushNode, names: tuple[str, ...]) -> None:
    async with client_of(push.node.open_stream) as client:
        with pytest.raises(Invalid):
            async with client.subscribe(*names):
                pass


async def test_denied_names_are_complained_about_once(push: PushNode, autojump_clock: MockClock) -> None:
    push.denied = ["secret"]
    push.put("a", 1)
    async with client_of(push.node.open_stream) as client, client.subscribe("a", "secret") as updates:
        await trio.sleep(1)
        with pytest.raises(Denied, match="'secret'"):
            await anext(updates)
        assert (await anext(updates)).value == 1
        assert (updates.names, updates.denied) == (("a",), ("secret",))
        assert updates.age < 10


async def test_with_no_name_left_it_is_denied_for_good(push: PushNode, autojump_clock: MockClock) -> None:
    push.denied = ["secret"]
    async with client_of(push.node.open_stream) as client, client.subscribe("secret") as updates:
        for _ in range(2):
            with pytest.raises(Denied):
                await anext(updates)
        with pytest.raises(Denied):
            await updates.synced()
        assert updates.age == math.inf


async def test_a_changed_history_is_seen_before_its_values(push: PushNode, autojump_clock: MockClock) -> None:
    push.put("kept", 1)
    push.put("lost", 1)
    async with client_of(push.node.open_stream) as client, client.subscribe("/") as updates:
        await updates.synced()
        await drain(updates)
        push.topics = {"kept": Change("kept", 2, "old")}
        push.revision = 3
        push.welcome = msgspec.structs.replace(WELCOME, position=Position("e", "m", 3), reset=True)
        await trio.aclose_forcefully(push.node.streams[0].inner)
        events = updates.events()
        while not isinstance(event := await anext(events), Reset):
            assert not isinstance(event, Change)
        assert updates.reset_count == 1
        async with client.subscribe("kept") as late:
            assert [change.value for change in await changes(late, 1)] == ["old"]
        assert {(change.topic, change.deleted) for change in await changes(updates, 2)} == {
            ("kept", False),
            ("lost", True),
        }


async def changes(updates: Updates, count: int) -> list[Change]:
    return [await anext(updates) for _ in range(count)]


async def test_an_iteration_can_be_cancelled_and_begun_again(push: PushNode, autojump_clock: MockClock) -> None:
    async with client_of(push.node.open_stream) as client, client.subscribe("a") as updates:
        await updates.synced()
        with trio.move_on_after(1) as scope:
            await anext(updates)
        assert scope.cancelled_caught
        await push.push("a", 1)
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(updates)
        assert (await anext(updates)).value == 1
