"""A real node with low limits: a client keeps them, is live, and never loses its connection for what it sends."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from softstate.errors import TooLarge
from softstate.testing import memory_node
from tests.kit.push_node import until


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_long_names_beyond_one_message_are_live_and_stay_so(codec: str, autojump_clock: MockClock) -> None:
    names = [f"{number:04}/" + "n" * 207 for number in range(1_000)]
    async with (
        memory_node(message_bytes_max=24_576, value_bytes_max=16_384) as node,
        node.connect(codec=codec) as client,
        client.subscribe("first") as first,
    ):
        await until(client, "live")
        async with client.subscribe(*names) as updates:
            await updates.synced()
            await trio.sleep(120)
            assert (client.mode, updates.age < 30) == ("live", True)
            await client.publish(names[-1], 1)
            assert (await anext(updates)).value == 1
        await trio.sleep(120)
        assert client.mode == "live"
        await client.publish("first", 2)
        assert (await anext(first)).value == 2
        counts = client.statistics()
        assert (counts.connects, counts.repairs_mismatch, counts.misses) == (1, 0, 0)


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_a_large_set_from_the_start_is_live_without_a_repair(codec: str, autojump_clock: MockClock) -> None:
    names = [f"{number:04}/" + "ä" * 100 + "/" for number in range(3_000)]
    async with (
        memory_node(message_bytes_max=10_240, value_bytes_max=8_192) as node,
        node.connect(codec=codec) as client,
        client.subscribe(*names) as updates,
    ):
        await updates.synced()
        await until(client, "live")
        await node.kill()
        await trio.sleep(5)
        await node.start()
        await until(client, "live")
        await trio.sleep(60)
        counts = client.statistics()
        assert (client.mode, counts.repairs_mismatch) == ("live", 0)


async def test_a_value_above_the_limit_is_refused_and_costs_no_connection(autojump_clock: MockClock) -> None:
    async with memory_node(message_bytes_max=20_480, value_bytes_max=10_000) as node, node.connect() as client:
        early = client.publish_soon("early", b"x" * 15_000)
        with pytest.raises(TooLarge, match="value_bytes"):
            await early.wait()
        await until(client, "live")
        with pytest.raises(TooLarge, match=r"the limit \(value_bytes\) is 10000"):
            await client.publish("a", b"x" * 10_000)
        assert await client.publish("a", b"x" * 9_900) > 0
        assert client.statistics().connects == 1


async def test_bulk_that_polls_only_is_cut_to_what_a_node_takes(autojump_clock: MockClock) -> None:
    async with memory_node(body_bytes_max=70_000) as node, node.connect(push=False) as client:
        receipts = [client.publish_soon(f"t{number}", b"x" * 3_000) for number in range(200)]
        for receipt in receipts:
            assert (await receipt.wait()).version > 0
        names = [f"{number:04}/" + "n" * 207 for number in range(1_000)]
        async with client.subscribe(*names) as updates:
            await updates.synced()
