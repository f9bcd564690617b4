"""A node on an engine that goes away, freezes or takes no writes: leases stay, ages grow, and it passes by itself.

For the histories that an engine may lose, see `test_lost_histories`.
"""

from __future__ import annotations

import pytest
import trio

from softstate.client.api.client import Client
from softstate.client.api.receipt import Receipt
from softstate.client.requests.reply import Reply
from softstate.testing.conformance.stage import put
from softstate.wire import JSON
from tests.store.engines.outage_rig import (
    AGE_S_MAX,
    LEASE_S,
    POLL_S,
    SIGNAL_S,
    Follower,
    Served,
    following,
    node_on,
    undisturbed,
    until,
)
from tests.store.engines.rig import Rig

SERVERS = ("redis", "postgres", "etcd")

REFUSALS = 8
"""More than it takes PostgreSQL's driver to prepare a statement, which it once did wrong for those that are refused."""

PUBLISHES_MIN = 50
PUBLISHES_AT_ONCE = 20
"""So few that none waits long behind the others, nor a renewal behind them, however slow the machine."""

POLL = JSON.dumps({"topics": {"of/nobody": 0}, "prefixes": {}})
"""A poll for a topic that the node does not know: of others it may answer from memory, while its level is young."""


def said(reply: Reply) -> tuple[int, str]:
    """Return status and error code of a refusal; without advice when to come back it is none."""
    assert reply.header("retry-after"), reply
    error = JSON.loads(reply.body, dict)
    return reply.status, error["code"]


async def endures(served: Served, follower: Follower, since: float) -> None:
    """Watch a node and its client without a store, which could be read last at `since`, for longer than a lease."""
    unavailable = 503, "unavailable"
    assert said(await served.put("of/unknown/fate", "lost or not")) == unavailable
    await until(lambda: served.node.unready is not None)
    assert said(await served.ask("GET", "/readyz?store")) == unavailable
    assert said(await served.ask("GET", "/v1/topics/t")) == unavailable
    assert said(await served.ask("POST", "/v1/poll", POLL)) == unavailable
    assert (await served.ask("GET", "/healthz")).status == 200
    await follower.honest_until(lambda: follower.updates.age > LEASE_S, since)
    # Every renewal was answered in time and found its lease, yet certified nothing: the store is down, they said.
    assert follower.client.mode == "live"
    undisturbed(served, follower)


async def recovers(served: Served, follower: Follower) -> None:
    """Watch them once the store is back."""
    await until(lambda: served.node.unready is None)
    assert (await served.ask("GET", "/readyz?store")).status == 200
    assert (await served.put("t", "after")).status == 200
    await follower.shows({"t": "after", "kept": "before"})
    await until(lambda: follower.updates.age < AGE_S_MAX)
    undisturbed(served, follower)


@pytest.mark.parametrize("engine", [*SERVERS, "sqlite"], indirect=True)
async def test_killed_and_started_again(rig: Rig) -> None:
    async with node_on(rig.url) as served, following(served.url, "t", "kept") as follower:
        await follower.client.publish("kept", "before")
        await follower.shows({"kept": "before"})
        await rig.kill()
        since = trio.current_time()
        receipt = follower.client.publish_soon("t", "meanwhile", expect=0)
        await endures(served, follower, since)
        assert not receipt.settled
        await rig.start()
        await receipt.wait()
        await follower.shows({"kept": "before", "t": "meanwhile"})
        await recovers(served, follower)


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
async def test_frozen_and_thawed(rig: Rig) -> None:
    """Nothing breaks, and nothing answers: every call has to end by its own time-out.

    What was asked meanwhile may be done once the server goes on, so a publish is sent again that was applied already.
    """
    async with node_on(rig.url) as served, following(served.url, "t", "kept") as follower:
        await follower.client.publish("kept", "before")
        await follower.shows({"kept": "before"})
        rig.freeze()
        try:
            since = trio.current_time() + SIGNAL_S
            receipt = follower.client.publish_soon("t", "meanwhile", expect=0)
            await endures(served, follower, since)
            await follower.honest_until(lambda: served.node.access.follower.down, since)
            assert not receipt.settled
        finally:
            rig.thaw()
        await receipt.wait()
        await follower.shows({"kept": "before", "t": "meanwhile"})
        await recovers(served, follower)


@pytest.mark.parametrize("engine", [*SERVERS, "sqlite"], indirect=True)
async def test_the_age_is_honest_about_commits_of_others_before_the_node_is_back(rig: Rig) -> None:
    async with node_on(rig.url) as served, following(served.url, "t") as follower:
        await follower.client.publish("t", 1)
        await follower.shows({"t": 1})
        await rig.kill()
        await until(lambda: served.node.access.follower.down)
        await rig.start()
        other = await rig.open()
        await put(other, "t", b"\x02")
        await follower.honest_until(lambda: follower.knows("t") == 2, trio.current_time())
        await other.aclose()
        await follower.shows({"t": 2})
        undisturbed(served, follower)


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
async def test_publishes_in_flight_when_it_is_killed_are_applied_once_each(rig: Rig) -> None:
    async with node_on(rig.url) as served, following(served.url, "p/") as follower:
        receipts: dict[str, Receipt] = {}
        killed = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_until, killed, follower.client, receipts)
            await until(lambda: sum(receipt.settled for receipt in receipts.values()) > PUBLISHES_MIN)
            await rig.kill()
            # All that were in flight may have been answered just before.
            await until(lambda: not all(receipt.settled for receipt in receipts.values()))
            killed.set()
        await until(lambda: served.node.access.follower.down)
        await rig.start()
        versions = {topic: (await receipt.wait()).version for topic, receipt in receipts.items()}
        listed = {change.topic: change.version for change in await follower.client.list("p/")}
        assert listed == versions
        await follower.shows(dict.fromkeys(receipts, 1))
        undisturbed(served, follower)


async def publish_until(over: trio.Event, client: Client, receipts: dict[str, Receipt]) -> None:
    """Keep `PUBLISHES_AT_ONCE` in flight. One that was applied, and is not known by its key, conflicts."""
    while not over.is_set():
        for _ in range(PUBLISHES_AT_ONCE - sum(not receipt.settled for receipt in receipts.values())):
            topic = f"p/{len(receipts)}"
            receipts[topic] = client.publish_soon(topic, 1, expect=0)
        await trio.sleep(POLL_S)


@pytest.mark.parametrize(
    ("engine", "advice"),
    [("redis", "maxmemory"), ("postgres", "takes no writes"), ("etcd", "alarm disarm")],
    indirect=["engine"],
)
async def test_no_writes_for_a_while(rig: Rig, advice: str) -> None:
    """Publishes are refused, with what to do about it. Other clients notice nothing."""
    async with node_on(rig.url) as served, following(served.url, "t", "kept") as follower:
        await follower.client.publish("kept", "before")
        await follower.shows({"kept": "before"})
        await rig.refuse_writes(on=True)
        try:
            receipt = follower.client.publish_soon("t", "meanwhile")
            for _ in range(REFUSALS):
                refusal = await served.put("of/unknown/fate", "lost or not")
                assert said(refusal) == (503, "unavailable")
                assert advice in JSON.loads(refusal.body, dict)["message"]
            ends_at = trio.current_time() + LEASE_S
            while trio.current_time() < ends_at:
                await until(lambda: follower.updates.age < AGE_S_MAX)
                await trio.sleep(POLL_S)
            assert (await served.ask("GET", "/v1/topics/kept")).status == 200
            assert (await served.ask("GET", "/readyz?store")).status == 503, "publishers are to go elsewhere"
            assert (await served.ask("POST", "/v1/poll", POLL)).status == 200
            assert not receipt.settled
        finally:
            await rig.refuse_writes(on=False)
        await receipt.wait()
        await follower.shows({"kept": "before", "t": "meanwhile"})
        await recovers(served, follower)
