"""Renewals that come alone: most are answered without the store, and say how old what they certify is (P-REN-12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio.testing import MockClock
from trio_websocket import WebSocketConnection, open_websocket_url

from softstate.server.storage.level import LEVEL_S_MAX
from softstate.wire import CBOR, digest_of, digest_text, messages
from tests.kit.node_rig import LocalNode, node

LEASE_MS = 60_000
TOO_LATE_S = LEVEL_S_MAX + 0.001


@asynccontextmanager
async def session(running: LocalNode) -> AsyncIterator[WebSocketConnection]:
    """Open a session that holds the topic ``t``."""
    async with open_websocket_url(f"{running.url}/v1/ws", subprotocols=[CBOR.protocol]) as socket:
        await socket.send_message(CBOR.encode(messages.Hello()))
        await socket.get_message()
        await socket.send_message(CBOR.encode(messages.Subscribe("s", topics={"t": 0})))
        await socket.get_message()
        yield socket


async def renewed(socket: WebSocketConnection) -> messages.Renewed:
    renew = messages.Renew("r", digest_text(digest_of(["t"])), 1)
    await socket.send_message(CBOR.encode(renew))
    answer = CBOR.loads(await socket.get_message(), messages.Renewed)
    assert answer.match
    assert answer.store == "ok"
    return answer


async def test_a_renewal_soon_after_another_reads_nothing_and_says_how_old_its_answer_is(mock_clock: MockClock) -> None:
    async with node(ttl_ms=LEASE_MS) as running, session(running) as socket:
        mock_clock.jump(TOO_LATE_S)
        first = await renewed(socket)
        assert first.lag_ms == 0
        mock_clock.jump(0.1)
        second = await renewed(socket)
        assert running.node.access.heads.batcher.calls == 1
        assert second.lag_ms == 100
        assert second.position == first.position


async def test_a_renewal_soon_after_a_subscribe_is_answered_from_its_read(mock_clock: MockClock) -> None:
    async with node(ttl_ms=LEASE_MS) as running, session(running) as socket:
        mock_clock.jump(0.1)
        assert (await renewed(socket)).lag_ms == 100
        assert running.node.access.heads.batcher.calls == 0


async def test_a_renewal_long_after_any_read_reads_the_head(mock_clock: MockClock) -> None:
    async with node(ttl_ms=LEASE_MS) as running, session(running) as socket:
        for calls in (1, 2):
            mock_clock.jump(TOO_LATE_S)
            assert (await renewed(socket)).lag_ms == 0
            assert running.node.access.heads.batcher.calls == calls


async def test_a_renewal_reads_the_head_while_the_hub_is_behind_what_was_told(mock_clock: MockClock) -> None:
    """Else `renewed` would name a position below that of an answer before it."""
    async with node(ttl_ms=LEASE_MS) as running, session(running) as socket:
        mock_clock.jump(0.1)
        follower = running.node.access.follower
        follower.note_told_position(follower.told.at(follower.told.revision + 1))
        assert (await renewed(socket)).lag_ms == 0
        assert running.node.access.heads.batcher.calls == 1
