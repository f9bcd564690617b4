"""Several nodes, and programs that know nothing of nodes, on one engine: what one publishes reaches all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import TypeAlias

import psycopg
import pytest
import trio

from softstate.model import Value
from softstate.wire.messages import Polled
from tests.store.engines.etcd_rig import EtcdRig
from tests.store.engines.outage_rig import POLL_S, Follower, Served, following, node_on, undisturbed, until
from tests.store.engines.postgres_rig import PostgresRig
from tests.store.engines.redis_rig import RedisRig, Refused
from tests.store.engines.rig import Rig

SERVERS = ("redis", "postgres", "etcd")

Server: TypeAlias = RedisRig | PostgresRig | EtcdRig


@pytest.mark.parametrize("engine", [*SERVERS, "sqlite"], indirect=True)
async def test_two_nodes_and_a_restart_of_the_engine(rig: Rig) -> None:
    async with (
        node_on(rig.url) as left,
        node_on(rig.url) as right,
        following(left.url, "/") as on_left,
        following(right.url, "/") as on_right,
    ):
        both = (on_left, on_right)
        await on_left.client.publish("t", "from the left")
        await all_show(both, {"t": "from the left"})
        await on_right.client.publish("t", "from the right")
        await all_show(both, {"t": "from the right"})
        await rig.publish_directly("direct", "1")
        await all_show(both, {"t": "from the right", "direct": 1})
        await rig.kill()
        for served in (left, right):
            await until(lambda served=served: served.node.access.follower.down)  # type: ignore[misc]
        await rig.start()
        version = await on_left.client.publish("t", "after")
        await rig.publish_directly("direct", "2")
        await all_show(both, {"t": "after", "direct": 2})
        change = await on_right.client.get("t", at_least=version)
        assert change is not None
        assert change.value == "after"
        undisturbed(left, on_left)
        undisturbed(right, on_right)


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
async def test_direct_publishes_reach_every_kind_of_subscriber(rig: Rig) -> None:
    async with AsyncExitStack() as stack:
        served, other = [await stack.enter_async_context(node_on(rig.url)) for _ in range(2)]
        followers = [
            await stack.enter_async_context(following(served.url, "d/1", "d/2")),
            await stack.enter_async_context(following(served.url, "d/", codec="json")),
            await stack.enter_async_context(following(other.url, "/")),
            await stack.enter_async_context(following(other.url, "d/", push=False)),
        ]
        await rig.publish_directly("d/1", '{"state": "paid", "sum": 12.5}')
        await rig.publish_directly("d/2", "null")
        values: dict[str, Value] = {"d/1": {"state": "paid", "sum": 12.5}, "d/2": None}
        await all_show(followers, values)
        for node in (served, other):
            await holds(node, values)
        await rig.publish_directly("d/1", None)
        await all_show(followers, {"d/2": None})
        for node in (served, other):
            await holds(node, {"d/2": None})
            assert (await node.ask("GET", "/v1/topics/d/1")).status == 404
        await rig.publish_directly("d/1", '"again"')
        await all_show(followers, {"d/1": "again", "d/2": None})


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
async def test_invalid_direct_publishes_do_no_harm(rig: Server) -> None:
    """Redis and PostgreSQL refuse them to their face; from etcd's inbox they are put aside."""
    async with node_on(rig.url) as served, following(served.url, "/") as follower:
        await follower.client.publish("bad", "good")
        for topic, json in (("bad", "{"), ("bad", '"\\ud800"'), ("bad", "1e999"), ("bad/", "1")):
            await refused(rig, topic, json)
        await rig.publish_directly("next", "1")
        await all_show([follower], {"bad": "good", "next": 1})
        undisturbed(served, follower)


async def refused(rig: Server, topic: str, json: str) -> None:
    """Publish directly what cannot be, and make sure that it was refused."""
    if not isinstance(rig, EtcdRig):
        with pytest.raises((Refused, psycopg.Error)):
            await rig.publish_directly(topic, json)
        return
    await rig.publish_directly(topic, json)
    aside = f"softstate/refused/{topic}"
    while not (await rig.keys(aside)).get(aside, b"").endswith(json.encode()):
        await trio.sleep(POLL_S)


async def all_show(followers: Iterable[Follower], values: dict[str, Value]) -> None:
    """Wait until all applications know just this."""
    for follower in followers:
        await follower.shows(values)


async def holds(served: Served, values: dict[str, Value]) -> None:
    """Read the same from a node: each topic, and the list of all."""
    for topic, value in values.items():
        reply = await served.ask("GET", f"/v1/topics/{topic}")
        assert (reply.status, reply.decode(object)) == (200, value)
    page = (await served.ask("GET", "/v1/topics")).decode(Polled)
    assert {change.topic: change.value for change in page.changes if not change.deleted} == values
