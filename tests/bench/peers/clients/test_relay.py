"""A relay that loses all packets for a time, with real sockets and Trio's clock for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from bench.peers.clients.relay import Relay, retransmitted_at


@pytest.mark.parametrize(
    ("healed_at", "at"), [(0.0, 0.0), (0.1, 0.2), (0.2, 0.2), (0.5, 0.6), (5.0, 6.2), (30.0, 51.0), (300.0, 324.6)]
)
def test_a_segment_is_sent_again_after_twice_as_long_each_time(healed_at: float, at: float) -> None:
    assert retransmitted_at(0.0, healed_at) == pytest.approx(at)


async def _echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def _relayed(test: Callable[[Relay, trio.SocketStream], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, _echo, [listener])
        relay = Relay(listener.socket.getsockname()[1])
        await nursery.start(relay.serve)
        async with await trio.open_tcp_stream("127.0.0.1", relay.port) as client:
            await client.send_all(b"before")
            assert await client.receive_some() == b"before"
            await test(relay, client)
        nursery.cancel_scope.cancel()


async def test_what_is_lost_arrives_when_tcp_sends_it_again(autojump_clock: MockClock) -> None:
    async def test(relay: Relay, client: trio.SocketStream) -> None:
        relay.lose()
        began_at = trio.current_time()
        await client.send_all(b"lost")
        while not relay.holding:
            await trio.lowlevel.checkpoint()
        autojump_clock.jump(5.0)
        relay.heal()
        assert await client.receive_some() == b"lost"
        assert trio.current_time() - began_at == pytest.approx(6.2)

    await _relayed(test)


async def test_nobody_connects_while_packets_are_lost_and_then_all_can(autojump_clock: MockClock) -> None:
    async def test(relay: Relay, client: trio.SocketStream) -> None:
        relay.lose()
        with trio.move_on_after(60.0) as patience:
            await trio.open_tcp_stream("127.0.0.1", relay.port)
        assert patience.cancelled_caught
        relay.heal()
        async with await trio.open_tcp_stream("127.0.0.1", relay.port) as another:
            await another.send_all(b"after")
            assert await another.receive_some() == b"after"
        await client.send_all(b"still there")
        assert await client.receive_some() == b"still there"

    await _relayed(test)


async def test_an_end_that_is_lost_is_learned_of_after_the_heal(autojump_clock: MockClock) -> None:
    async def test(relay: Relay, client: trio.SocketStream) -> None:
        relay.lose()
        await client.send_eof()
        while not relay.holding:
            await trio.lowlevel.checkpoint()
        relay.heal()
        assert await client.receive_some() == b""

    await _relayed(test)
