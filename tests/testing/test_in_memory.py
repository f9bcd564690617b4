"""The node in memory, and the example of its docstring."""

import pytest
import trio
from trio.testing import MockClock

from softstate import Change, ConfigError
from softstate.testing import memory_node


async def test_the_example_of_the_docstring(autojump_clock: MockClock) -> None:
    async with memory_node() as node, node.connect() as client:
        async with client.subscribe("prices/") as updates:
            await client.publish("prices/eur", 1.5)
            assert (await anext(updates)).value == 1.5
            await node.kill()
            await trio.sleep(600)
            assert updates.age > 600
            await node.start()
            await client.publish("prices/eur", 1.6)
            assert (await anext(updates)).value == 1.6
    assert autojump_clock.current_time() > 600


async def test_published_values_survive_a_crash_and_leases_do_not(autojump_clock: MockClock) -> None:
    async with memory_node(ttl_ms=5_000) as node:
        async with node.connect() as client:
            version = await client.publish("a", [1, b"\x00"])
            await node.kill()
            await node.start()
            assert await client.get("a") == Change("a", version, [1, b"\x00"])


async def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="ttl"):
        await memory_node(ttl_ms=1).__aenter__()


async def test_two_clients_and_a_poller(autojump_clock: MockClock) -> None:
    async with memory_node() as node, node.connect() as one, node.connect(push=False) as two:
        async with two.subscribe("t") as updates:
            version = await one.publish("t", None)
            assert await anext(updates) == Change("t", version, None)
            assert two.mode == "polling"
