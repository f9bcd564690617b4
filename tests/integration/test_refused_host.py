"""The real client, and real nodes that refuse the name by which it calls them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import softstate
from softstate import Denied, ModeChanged, NodeRefused
from softstate.client.machine.state import bars
from softstate.http_client.streams import Stream, open_tcp
from tests.kit.node_rig import LocalNode, mode_is, node

SENTENCE = "this node does not answer to 'evil.example': start it with --allow-host evil.example"


async def to_loopback(_host: str, port: int, tls: bool) -> Stream:
    return await open_tcp("127.0.0.1", port, tls)


@asynccontextmanager
async def connected(*urls: str, **options: Any) -> AsyncIterator[softstate.Client]:
    async with softstate.connect(urls, ordered=True, open_stream=to_loopback, **options) as client:
        yield client


def evil(rig: LocalNode) -> str:
    return f"ws://evil.example:{rig.port}"


@pytest.mark.parametrize("push", [True, False])
@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_the_only_node_refuses_and_the_client_goes_on(push: bool, codec: str) -> None:
    async with node() as rig, connected(evil(rig), push=push, codec=codec) as client:
        async with client.subscribe("a/") as updates:
            found: list[Any] = []
            async for event in updates.events():
                found.append(event)
                if isinstance(event, NodeRefused):
                    break
            assert (found[-1].url, found[-1].error.message) == (evil(rig), SENTENCE)
            assert {event.mode for event in found if isinstance(event, ModeChanged)} <= {"connecting", "polling"}
        with pytest.raises(Denied, match="allow-host"):
            await client.get("a/b")
        with pytest.raises(Denied, match="allow-host"):
            await client.publish("a/b", 1)
        for receipt in [client.publish_soon(f"a/{number}", number) for number in range(5)]:
            with pytest.raises(Denied, match="allow-host"):
                await receipt.wait()
        assert client.mode not in ("stopped", "closed")
        assert await rig.store.head() == rig.node.hub.position


@pytest.mark.parametrize("push", [True, False])
async def test_a_node_that_refuses_its_name_is_left_alone(push: bool) -> None:
    async with node() as rig, connected(evil(rig), rig.url, push=push) as client:
        version = await client.publish("a/b", 1)
        async with client.subscribe("a/") as updates:
            change = await anext(updates)
            assert (change.value, change.version) == (1, version)
            if push:
                await mode_is(client, "live")
        read = await client.get("a/b")
        assert read is not None
        assert read.value == 1
        assert [each.topic for each in await client.list("/")] == ["a/b"]
        replies = {status for (_, status), _ in rig.node.http.statistics().replies.items()}
        assert 403 in replies


async def test_a_refusal_is_told_once() -> None:
    async with node() as rig, connected(evil(rig), rig.url) as client, client.subscribe("a/") as updates:
        told = 0
        with trio.move_on_after(1):
            async for event in updates.events():
                told += isinstance(event, NodeRefused)
        assert told <= 1
        assert client.mode == "live"


async def test_an_allowed_name_is_answered() -> None:
    async with node(allow_host=("evil.example",)) as rig, connected(evil(rig)) as client:
        assert await client.publish("a/b", 1) > 0


async def test_credentials_still_stop_the_client() -> None:
    """`denied` without `why` is about credentials."""
    assert not bars(Denied("no", why="expired"))
    assert not bars(Denied("no"))
    assert not bars(None)
    assert bars(Denied("no", why="origin"))
