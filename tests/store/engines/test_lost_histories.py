"""An engine that comes back without acknowledged commits: clients that have seen them are reset, and no others.

Wiped, restored from a backup, restored and advanced past every client. An operator did it, on purpose or not.
"""

from __future__ import annotations

import pytest

from softstate.model import Value
from softstate.wire import JSON
from tests.store.engines.cable import cable_to
from tests.store.engines.outage_rig import (
    Follower,
    Line,
    Served,
    following,
    node_on,
    port_of,
    position_of,
    through,
    undisturbed,
    until,
)
from tests.store.engines.rig import Rig

SERVERS = ("redis", "postgres", "etcd")
ALL = (*SERVERS, "sqlite")

NOWHERE = 1
"""A port on which no server listens."""

ADVANCES = 12
"""More changes than any test here loses."""


async def is_at(served: Served, follower: Follower, values: dict[str, Value]) -> None:
    """Wait until an application knows what the store holds, which must be this."""
    await follower.shows(values)
    assert {change.topic: change.value for change in await follower.client.list("/")} == values


@pytest.mark.parametrize("engine", ALL, indirect=True)
async def test_wiped(rig: Rig) -> None:
    async with node_on(rig.url) as served, following(served.url, "t", "p/") as follower:
        for topic in ("t", "p/1", "p/2"):
            await follower.client.publish(topic, "old")
        await follower.shows({"t": "old", "p/1": "old", "p/2": "old"})
        await rig.wipe()
        await is_at(served, follower, {})
        assert (await served.ask("GET", "/v1/topics/t")).status == 404
        await follower.client.publish("p/2", "new")
        await is_at(served, follower, {"p/2": "new"})
        assert follower.resets == 1
        assert served.node.access.follower.rewinds == 1


@pytest.mark.parametrize("engine", ALL, indirect=True)
async def test_restored_resets_only_a_client_that_has_seen_more(rig: Rig) -> None:
    line = Line()
    async with node_on(rig.url) as served, following(served.url, "/") as late:
        async with following(served.url, "/", open_stream=line.open) as early:
            await late.client.publish("kept", "old")
            await early.shows({"kept": "old"})
            line.cut()
            backup = await rig.backup()
            await late.client.publish("kept", "lost")
            await late.client.publish("lost", "lost")
            await late.shows({"kept": "lost", "lost": "lost"})
            lost = position_of(late)
            assert position_of(early).revision < lost.revision
            await rig.restore(backup)
            await is_at(served, late, {"kept": "old"})
            line.mend()
            await is_at(served, early, {"kept": "old"})
            await late.client.publish("kept", "new")
            for follower in (late, early):
                await is_at(served, follower, {"kept": "new"})
            assert (late.resets, early.resets) == (1, 0)
            assert served.node.access.follower.rewinds == 1


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
async def test_restored_under_a_node_that_has_not_seen_more(rig: Rig) -> None:
    """That node was cut off from the engine before the commits that are lost: its clients do not even reconnect."""
    async with (
        cable_to(port_of(rig.url)) as cable,
        node_on(rig.url) as near,
        node_on(through(rig.url, cable.port)) as far,
        following(near.url, "/") as aware,
        following(far.url, "/") as unaware,
    ):
        await aware.client.publish("kept", "old")
        for follower in (aware, unaware):
            await follower.shows({"kept": "old"})
        cable.plug(NOWHERE)
        await until(lambda: far.node.access.follower.down)
        backup = await rig.backup()
        await aware.client.publish("kept", "lost")
        await aware.shows({"kept": "lost"})
        await rig.restore(backup)
        await is_at(near, aware, {"kept": "old"})
        cable.plug(port_of(rig.url))
        await until(lambda: far.node.unready is None)
        await unaware.client.publish("kept", "new")
        await is_at(near, aware, {"kept": "new"})
        await is_at(far, unaware, {"kept": "new"})
        undisturbed(far, unaware)
        assert aware.resets == 1
        assert near.node.access.follower.rewinds == 1


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
async def test_restored_and_advanced_while_the_node_is_cut_off(rig: Rig) -> None:
    """The node finds a head beyond its own, and the same versions as before: only lineage tells that they are others.

    On etcd what is published directly waits in the inbox for a node, so it does not advance but with that one.
    """
    async with (
        cable_to(port_of(rig.url)) as cable,
        node_on(through(rig.url, cable.port)) as served,
        following(served.url, "/") as follower,
    ):
        await follower.client.publish("kept", "old")
        backup = await rig.backup()
        for topic in ("kept", "lost"):
            await follower.client.publish(topic, "lost")
        await follower.shows({"kept": "lost", "lost": "lost"})
        cable.plug(NOWHERE)
        await rig.restore(backup)
        await advance(rig)
        cable.plug(port_of(rig.url))
        await is_at(served, follower, {"kept": "old", "advanced": ADVANCES})
        assert follower.resets == 1
        assert served.node.access.follower.rewinds == 1


@pytest.mark.parametrize("engine", ALL, indirect=True)
async def test_restored_and_advanced_while_the_node_is_dead(rig: Rig) -> None:
    """The node that comes back knows of no other history: the client's position tells it."""
    async with node_on(rig.url) as served, following(served.url, "/") as follower:
        await follower.client.publish("kept", "old")
        backup = await rig.backup()
        for topic in ("kept", "lost"):
            await follower.client.publish(topic, "lost")
        await follower.shows({"kept": "lost", "lost": "lost"})
        await served.kill()
        await rig.restore(backup)
        await advance(rig)
        await served.start()
        await is_at(served, follower, {"kept": "old", "advanced": ADVANCES})
        assert follower.resets == 1
        assert served.node.access.follower.rewinds == 0


async def advance(rig: Rig) -> None:
    for number in range(ADVANCES + 1):
        await rig.publish_directly("advanced", JSON.dumps(number).decode())
