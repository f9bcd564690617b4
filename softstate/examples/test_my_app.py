"""Test an application against a whole node in memory: with Trio's virtual clock, hours pass in milliseconds.

Needs pytest-trio, with ``trio_mode = true`` in the configuration of pytest.
"""

import trio

from softstate.testing import memory_node


async def test_a_crash_makes_ages_grow_and_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:  # noqa: ARG001 - a fixture, used by being there
    """Watch the age grow while the node is dead, and the next value arrive once it is back."""
    async with memory_node() as node, node.connect() as client, client.subscribe("prices/") as updates:
        await client.publish("prices/eur", 1.5)
        assert (await anext(updates)).value == 1.5
        await node.kill()
        await trio.sleep(600)
        assert updates.age > 600
        await node.start()
        await client.publish("prices/eur", 1.6)
        assert (await anext(updates)).value == 1.6
