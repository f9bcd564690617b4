"""Reads of what is known, with an age that they may have: `known`, `read`, `Updates.get`, `snapshot`, `fresh`."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import softstate
from softstate import Change, ClientClosed, Invalid, Stale, Unreadable
from softstate.client.api.connect import beat_ms_for
from softstate.client.machine.beat_watch import LATE, PATIENCE_S_MIN
from softstate.testing import memory_node
from softstate.testing.in_memory import MemoryNode
from tests.kit.push_node import until


@pytest.fixture
async def node() -> AsyncIterator[MemoryNode]:
    async with memory_node() as one:
        yield one


async def test_known_tells_a_value_with_its_age_or_why_it_cannot(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        version = await client.publish("p/a", {"n": 1})
        with pytest.raises(Stale, match="nothing proves how old the state of 'p/a' is") as caught:
            client.known("p/a")
        assert caught.value.age == math.inf
        async with client.subscribe("p/") as updates:
            await updates.synced()
            await until(client, "live")
            known = client.known("p/a", max_age=5)
            assert known is not None
            assert (known.topic, known.value, known.version) == ("p/a", {"n": 1}, version)
            assert known.age == pytest.approx(updates.age)
            assert client.known("p/none") is None, "it is proved that there is none"
            await client.delete("p/a")
            await updates.fresh(0.2)
            assert client.known("p/a") is None
            await node.kill()
            await trio.sleep(60)
            with pytest.raises(Stale, match=r"may be 6\d\.\d s old, and max_age is 5 s: use `Client\.read`") as caught:
                client.known("p/a", max_age=5)
            assert caught.value.age > 60
            assert client.known("p/a", max_age=100) is None, "as it was then"
    with pytest.raises(ClientClosed):
        client.known("p/a")


async def test_read_asks_a_node_only_if_what_is_known_is_too_old(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect(beat_ms=None) as client, node.connect() as other:
        await other.publish("p/a", 1)
        read = await client.read("p/a", max_age=5)
        assert read is not None
        assert (read.value, read.age < 1) == (1, True)
        async with client.subscribe("p/") as updates:
            await updates.synced()
            await until(client, "live")
            await trio.sleep(8)
            assert updates.age > 7
            known, read = await client.read("p/a"), await client.read("p/a", max_age=5)
            assert known is not None
            assert read is not None
            assert known.age > 7 > 1 > read.age
            assert await client.read("p/none", max_age=0.5) is None
            with pytest.raises(Stale, match="max_age is 0 s: the answer took as long"):
                await client.read("p/a", max_age=0)


async def test_max_age_of_connect_asks_for_beats_and_holds_for_reads(
    node: MemoryNode, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with node.connect(max_age=5) as client, client.subscribe("p/") as updates:
        await client.publish("p/a", 1)
        await updates.synced()
        await until(client, "live")
        worst = 0.0
        for _ in range(300):
            await trio.sleep(0.1)
            worst = max(worst, updates.age)
        assert worst <= client.bound_s <= 5
        assert client.known("p/a") is not None
        await node.kill()
        await trio.sleep(30)
        with pytest.raises(Stale, match="max_age is 5 s"):
            client.known("p/a")
    assert not caplog.records
    caplog.set_level(logging.WARNING, "softstate.client")
    async with node.connect(max_age=1.5) as client, client.subscribe("p/"):
        await node.start()
        await until(client, "live")
        assert client.bound_s > 1.5
    assert sum("above the max_age of 1.5 s" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("max_age", [0.1, 1, 1.5, 2.2, 5, 60, 86_400])
def test_beats_asked_for_keep_the_bound_below_max_age(max_age: float) -> None:
    beat_ms = beat_ms_for(max_age)
    assert 1 <= beat_ms <= max(1, 500 * max_age)
    assert LATE * beat_ms / 1000 + PATIENCE_S_MIN <= max_age or beat_ms == 1 or max_age < 2


async def test_get_and_snapshot_tell_the_newest_state_also_of_what_was_not_taken(
    node: MemoryNode, autojump_clock: MockClock
) -> None:
    async with node.connect() as client, client.subscribe("p/", "q") as updates:
        assert (updates.get("p/a"), updates.snapshot()) == (None, {})
        await client.publish("p/a", 1)
        version = await client.publish("p/a", 2)
        await client.publish("q", 3)
        await client.publish("p/b", 4)
        gone = await client.delete("p/b")
        await updates.fresh(0.5)
        assert updates.get("p/a") == Change("p/a", version, 2)
        assert updates.get("p/b") == Change("p/b", gone, deleted=True)
        async with client.subscribe("r"):
            await client.publish("r", 5)
            await trio.sleep(1)
            assert updates.get("r") is None, "it is under another handle"
        assert {topic: each.value for topic, each in updates.snapshot().items()} == {"p/a": 2, "q": 3}
        with pytest.raises(Invalid):
            updates.get("p/")


async def test_fresh_asks_now_and_says_when_nothing_answers(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect(beat_ms=None) as client, client.subscribe("p/") as updates:
        await updates.synced()
        await until(client, "live")
        await trio.sleep(10)
        assert updates.age > 9
        before = trio.current_time()
        await updates.fresh(1.0)
        assert updates.age <= 1.0
        assert trio.current_time() - before < 1
        await node.kill()
        await trio.sleep(5)
        with pytest.raises(Stale, match=r"nothing proved it.*`Client.last_error` says why"):
            await updates.fresh(1.0, timeout_s=3)
        polling = node.connect(push=False)
        await node.start()
        async with polling as poller, poller.subscribe("p/") as polled:
            await polled.synced(timeout_s=10)
            await trio.sleep(5)
            before = trio.current_time()
            await polled.fresh(1.0)
            assert trio.current_time() - before < 1


async def test_synced_gives_up_when_its_time_is_over(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client:
        await node.kill()
        async with client.subscribe("p/") as updates:
            with pytest.raises(Stale):
                await updates.synced(timeout_s=2)


async def test_batches_bring_all_that_is_pending_at_once(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client, client.subscribe("p/") as updates:
        for number in range(500):
            await client.publish(f"p/{number % 250}", number)
        await updates.fresh(0.5)
        batches = updates.batches()
        first = await anext(batches)
        assert sorted(each.value for each in first) == list(range(250, 500))
        with trio.move_on_after(1):
            raise AssertionError(await anext(batches))
        await client.publish("p/new", 1)
        assert [each.topic for each in await anext(batches)] == ["p/new"]


@dataclass
class Price:
    amount: float
    currency: str = "EUR"


async def test_values_are_of_the_type_asked_for(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect() as client, client.subscribe("prices/", type=Price) as updates:
        await client.publish("prices/a", {"amount": 1.5})
        assert (await anext(updates)).value == Price(1.5)
        version = await client.publish("prices/a", {"amount": "much"})
        with pytest.raises(Invalid, match=rf"'prices/a' at version {version} is no Price: .*amount"):
            await anext(updates)
        await client.publish("prices/a", {"amount": 2, "currency": "CHF"})
        assert (await anext(updates)).value == Price(2, "CHF")
        price = updates.get("prices/a")
        assert price is not None
        assert price.value == Price(2, "CHF")
        await client.delete("prices/a")
        assert (await anext(updates)).deleted


async def test_a_damaged_topic_has_no_age(node: MemoryNode, autojump_clock: MockClock) -> None:
    async with node.connect() as other:
        await other.publish("p/x", 1)
        await other.publish("p/y", 1)
        node.disk.image.damage("p/x")
        async with node.connect() as client, client.subscribe("p/") as updates:
            await updates.synced()
            assert client.known("p/y") is not None
            with pytest.raises(Unreadable):
                client.known("p/x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_age": 0}, {"max_age": "5"}, {"max_age": math.nan}, {"ordered": 1}, {"connect_timeout_s": 0},
        {"poll_timeout_s": math.inf}, {"headers": ["x"]}, {"headers": {"x y": "1"}}, {"headers": {"X": "a\nb"}},
        {"headers": {"Host": "h"}}, {"headers": {"Authorization": "Basic x"}, "token": "t"},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(softstate.ConfigError, match=next(iter(wrong)) if "headers" not in wrong else "header"):
        softstate.connect("ws://127.0.0.1:1", **wrong)
