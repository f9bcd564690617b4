"""Clients say how old what they know is, and a node shows it (P-REN-13)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import WebSocketConnection, open_websocket_url

from softstate.server.numbers import SAMPLE_S
from softstate.wire import CBOR, digest_of, digest_text, messages
from softstate.wire.messages import AGE_MS_NEVER
from tests.kit.node_rig import LocalNode, node, until

LEASE_MS = 60_000


async def say(socket: WebSocketConnection, message: messages.Message) -> Any:
    await socket.send_message(CBOR.encode(message))
    return CBOR.server_message(await socket.get_message())


async def renew(socket: WebSocketConnection, **said: Any) -> Any:
    return await say(socket, messages.Renew("r", digest_text(digest_of(["t"])), 1, **said))


async def clients(running: LocalNode) -> dict[str, Any]:
    told: dict[str, Any] = (await running.node.status())["clients"]
    return told


def connected(running: LocalNode) -> Any:
    return open_websocket_url(f"{running.url}/v1/ws", subprotocols=[CBOR.protocol])


async def polled(running: LocalNode, body: bytes) -> int:
    head = f"POST /v1/poll HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    stream = await trio.open_tcp_stream("127.0.0.1", running.port)
    async with stream:
        await stream.send_all(head.encode() + body)
        return int((await stream.receive_some(4_096)).split()[1])


async def test_a_session_counts_by_its_last_renewal_until_it_ends() -> None:
    async with node(ttl_ms=LEASE_MS) as running:
        async with connected(running) as socket:
            await say(socket, messages.Hello())
            await say(socket, messages.Subscribe("s", topics={"t": 0}))
            assert (await clients(running))["ages"] == 0
            for age_ms, mode in ((AGE_MS_NEVER, "connecting"), (3_600, "suspect"), (600, "live")):
                assert (await renew(socket, age_ms=age_ms, mode=mode)).match
            told = await clients(running)
            assert (told["ages"], told["never"]) == (1, 0)
            assert told["age_max_s"] == pytest.approx(0.6, rel=0.2)
            assert {mode: number for mode, number in told["modes"].items() if number} == {"live": 1}
            assert b'softstate_client_mode{mode="live"} 1.0\n' in running.node.metrics()
        await until(lambda: running.node.connections == 0)
        assert (await clients(running))["ages"] == 0


async def test_who_has_no_lease_is_not_counted() -> None:
    async with node(ttl_ms=LEASE_MS) as running, connected(running) as socket:
        await say(socket, messages.Hello())
        running.node.leases.clear()
        assert isinstance(await renew(socket, age_ms=600, mode="live"), messages.Error)
        assert (await clients(running))["ages"] == 0


async def test_a_renewal_counts_while_the_store_is_down() -> None:
    async with node(ttl_ms=LEASE_MS, timeout_ms=100) as running, connected(running) as socket:
        await say(socket, messages.Hello())
        await say(socket, messages.Subscribe("s", topics={"t": 0}))
        running.store.outage = True
        await until(lambda: running.node.access.follower.down)
        while (await renew(socket, age_ms=9_000, mode="live")).store == "ok":
            await trio.sleep(0.05)
        assert (await clients(running))["age_max_s"] == pytest.approx(9.0, rel=0.2)


async def test_a_poll_counts_until_the_next_is_due(mock_clock: MockClock) -> None:
    async with node(poll_every_ms=10_000, wait_s=1_000) as running:
        body = json.dumps({"topics": {"t": 0}, "age_ms": 2_000, "mode": "polling"}).encode()
        for _ in range(2):
            assert await polled(running, body) == 200
        told = await clients(running)
        # Each request had a connection to itself, so that they are two clients to the node.
        assert (told["ages"], told["modes"]["polling"]) == (2, 2)
        mock_clock.jump(10.0)
        assert (await clients(running))["ages"] == 2
        mock_clock.jump(10.0)
        assert (await clients(running))["ages"] == 0


async def test_ages_are_sampled(autojump_clock: MockClock) -> None:
    async with node(wait_s=1_000) as running:
        running.node.terms.reports.say(running.node.now() + 1_000, 600, "live")
        await trio.sleep(2.5 * SAMPLE_S)
        assert b"softstate_client_age_seconds_count 2.0\n" in running.node.metrics()
