"""A node explains to people what it knows of a client's sessions, and of a topic."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from softstate import connect
from softstate.lease.table import LeaseTable
from softstate.server.fanout.outbox import Outbox, OutboxBounds
from softstate.server.http.explanations import SHOWN_MAX, ClientExplained
from softstate.server.websocket.remembering import remember_slow
from tests.kit.fake_node import FakeNode
from tests.kit.node_rig import LocalNode, mode_is, node, until


async def of(running: LocalNode, name: str) -> ClientExplained:
    return await running.node.explainer.client(name)


def kinds(explained: ClientExplained) -> list[tuple[str, str | int]]:
    (session,) = explained.sessions
    return [(event.what, event.detail) for event in session.events]


async def test_a_live_session_is_told_with_its_names_and_events() -> None:
    async with node() as running, connect(running.url, name="shop-7") as client:
        await client.publish("orders/7", 1)
        async with client.subscribe("orders/", "a") as updates:
            await updates.synced()
            await mode_is(client, "live")
            explained = await of(running, "shop-7")
            (session,) = explained.sessions
            assert (session.client, session.protocol, session.lease) == ("shop-7", "websocket", "live")
            assert (session.names, sorted(session.holds)) == (2, ["a", "orders/"])
            assert 0 < session.left_ms <= session.ttl_ms * 1.1 + 1
            assert (session.waiting, session.waits_for, session.congested_ms) == (0, [], 0)
            assert session.position is not None
            assert session.position.revision <= explained.position.revision
            assert kinds(explained) == [("opened", ""), ("subscribed", 2)]
            (lease,) = running.node.leases.all()
            assert lease.token not in json.dumps(session.session)
            assert not (await of(running, "shop")).sessions


async def test_a_lease_that_is_over_is_told_with_the_reason() -> None:
    async with node() as running, connect(running.url, name="shop-7") as client, client.subscribe("a") as updates:
        await updates.synced()
        await mode_is(client, "live")
        (socket,) = running.node.sockets
        socket.revoked("overloaded", 60_000)
        explained = await of(running, "shop-7")
        assert explained.sessions[0].lease == "over"
        assert explained.sessions[0].left_ms == 0
        assert kinds(explained)[-1] == ("lease revoked", "overloaded")


async def test_a_session_without_a_connection_is_told() -> None:
    async with node() as running:
        async with connect(running.url, name="shop-7") as client, client.subscribe("a") as updates:
            await updates.synced()
            await mode_is(client, "live")
            (socket,) = running.node.sockets
            socket.end()
            (session,) = (await of(running, "shop-7")).sessions
            assert (session.protocol, session.lease) == ("none", "detached")
            assert session.events[-1].what == "connection ended"
            await until(lambda: bool(running.node.sockets))  # it resumes its session
            await mode_is(client, "live")
            assert "resumed" in [what for what, _ in kinds(await of(running, "shop-7"))]


async def test_so_many_sessions_of_a_name_are_told_and_that_there_are_more() -> None:
    async with node() as running:
        for number in range(SHOWN_MAX):
            running.node.leases.grant(f"token {number}", running.node.now(), 60, "shop")
        explained = await of(running, "shop")
        assert (len(explained.sessions), explained.more) == (SHOWN_MAX, False)
        running.node.leases.grant("one more", running.node.now(), 60, "shop")
        explained = await of(running, "shop")
        assert (len(explained.sessions), explained.more) == (SHOWN_MAX, True)


async def test_a_topic_is_told_with_who_follows_it() -> None:
    async with node() as running, connect(running.url, name="shop-7") as client:
        explain = running.node.explainer.topic
        assert (await explain("orders/7")).version is None
        version = await client.publish("orders/7", "abc")
        async with client.subscribe("orders/", "orders/7") as updates:
            await updates.synced()
            await mode_is(client, "live")
            told = await explain("orders/7")
            assert (told.version, told.deleted, told.value_bytes) == (version, False, 4)
            assert told.followers == {"orders/7": 1, "orders/": 1}
            assert (told.clients, told.waiting) == (["shop-7"], 0)
        deleted = await client.delete("orders/7")
        told = await explain("orders/7")
        assert (told.version, told.deleted, told.value_bytes) == (deleted, True, 0)


def test_a_client_that_does_not_read_is_remembered_with_what_waits() -> None:
    clock: Iterator[float] = iter([100.0, 104.5, 104.5])
    outbox = Outbox(
        lambda _data: 0, lambda _wanted: None, lambda: None, OutboxBounds(9, 9_999, 10.0, lambda: next(clock))
    )
    outbox.notify("a", b"x")
    outbox.notify("b", b"x")
    outbox.flush()
    assert list(outbox.topics()) == ["a", "b"]
    assert "a" in outbox
    assert "c" not in outbox
    lease = LeaseTable(0.0).grant("token", 0.0, 60)
    remember_slow(lease, 7.0, outbox)
    assert lease.history == (7.0, "does not read", "for 4.5 s, 2 entries wait")
    remember_slow(None, 7.0, outbox)


@pytest.mark.parametrize("query", ["", "?client=a&topic=b"])
async def test_one_thing_is_explained(query: str) -> None:
    answer = await FakeNode().ask("GET", f"/v1/explain{query}")
    assert (answer.status, answer.code) == (400, "invalid")
    assert "?client=NAME" in answer.json["message"]


async def test_an_explanation_says_of_what_it_is() -> None:
    for query, explains in (("client=a", "client"), ("topic=a%2Fb", "topic")):
        answer = await FakeNode().ask("GET", f"/v1/explain?{query}")
        assert (answer.status, answer.json["explains"], answer.json["node"]) == (200, explains, "fake")
