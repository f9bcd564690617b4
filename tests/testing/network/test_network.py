"""The simulated network alone: the guarantees of TCP, and each fault."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from trio.testing import MockClock

from softstate.server.edge.stream_wire import RawSocket
from softstate.testing.network.network import SimNetwork
from softstate.testing.network.route import WINDOW_BYTES, uniform
from softstate.testing.network.stream import BACKLOG_MAX, SimListener, SimStream


@asynccontextmanager
async def network() -> AsyncIterator[tuple[SimNetwork, SimListener]]:
    """Run a network with a listener at n:1, under a limit in virtual time."""
    net = SimNetwork(Random(1))
    with trio.fail_after(1_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.run)
            yield net, net.listen("n", 1)
            nursery.cancel_scope.cancel()


async def pair(net: SimNetwork, listener: SimListener, host: str = "c") -> tuple[SimStream, SimStream]:
    return await net.open_stream(host, "n", 1), await listener.accept()


async def read(stream: SimStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive_some()
    return data


async def received(stream: SimStream, within_s: float) -> bytes | None:
    """Return the bytes that arrive within some seconds, None if none do."""
    with trio.move_on_after(within_s):
        return await stream.receive_some()
    return None


async def test_bytes_arrive_in_order_after_a_delay_and_then_the_end(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        began = trio.current_time()
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert await read(node, 18) == b"GET / HTTP/1.1\r\n\r\n"
        assert trio.current_time() > began
        await client.send_all(b"more")
        await client.aclose()
        assert await read(node, 4) == b"more"
        assert await node.receive_some() == b""
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()
        await node.aclose()
        assert net.connections == {}


async def test_a_stream_is_an_edge_of_the_outbox(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        _, node = await pair(net, listener)
        edge: RawSocket = node
        assert str(edge) == "c:1"


async def test_connecting_fails_if_nothing_listens_and_waits_for_a_host_without_power(
    autojump_clock: MockClock,
) -> None:
    async with network() as (net, _):
        with pytest.raises(OSError, match="nothing listens at n:2"):
            await net.open_stream("c", "n", 2)
        with pytest.raises(OSError, match="in use"):
            net.listen("n", 1)
        net.end_process("n", silently=False)
        with pytest.raises(OSError, match="nothing listens at n:1"):
            await net.open_stream("c", "n", 1)
        net.end_process("n", silently=True)
        with trio.move_on_after(300) as limit:
            await net.open_stream("c", "n", 1)
        assert limit.cancelled_caught
        net.listen("n", 1)
        await net.open_stream("c", "n", 1)


async def test_bytes_under_way_are_bounded_and_writes_are_taken_in_part(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        await client.send_all(b"PUT / HTTP/1.1\r\n\r\n")
        assert await read(node, 18)
        assert client.try_send(b"x" * (WINDOW_BYTES + 1)) == WINDOW_BYTES
        assert client.try_send(b"x") == 0
        with trio.move_on_after(60) as limit:
            await client.wait_writable()
        assert limit.cancelled_caught
        assert len(await node.receive_some(1_000)) == 1_000
        await client.wait_writable()
        assert client.try_send(b"y" * 2_000) == 1_000


@pytest.mark.parametrize("chunk_bytes", [1, 7])
async def test_split_bytes_arrive_in_pieces_and_whole(autojump_clock: MockClock, chunk_bytes: int) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        net.split("c", "n", chunk_bytes)
        data = b"PUT / HTTP/1.1\r\n\r\n" + bytes(range(200))
        await client.send_all(data)
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < len(data):
            pieces.append(await node.receive_some())
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= chunk_bytes


async def test_a_stalled_direction_holds_bytes_and_connects_and_the_other_goes_on(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        net.stall("c", "n")
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await node.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        assert await read(client, 19)
        assert await received(node, 500) is None
        with trio.move_on_after(100) as limit:
            await net.open_stream("c", "n", 1)
        assert limit.cancelled_caught
        net.heal("c", "n")
        assert await received(node, 1) == b"GET / HTTP/1.1\r\n\r\n"


async def test_a_half_open_connection_receives_nothing_more(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        net.half_open("c", "n")
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await client.aclose()
        net.heal("c", "n")
        assert await received(node, 900) is None
        await pair(net, listener)


async def test_a_reset_breaks_both_ends(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        net.reset("n", "c")
        for stream in (client, node):
            with pytest.raises(trio.BrokenResourceError):
                stream.try_send(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()


async def test_a_process_that_ends_resets_its_peer_and_says_nothing_more(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        net.end_process("n", silently=False)
        assert node.try_send(b"last words") == 10
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


async def test_writing_to_an_end_that_was_closed_is_answered_with_a_reset(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        await client.aclose()
        assert await node.receive_some() == b""
        await node.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        await trio.sleep(1)
        with pytest.raises(trio.BrokenResourceError):
            node.try_send(b"x")


WEBSOCKET = b"GET /v1/ws HTTP/1.1\r\n\r\n"
PLAIN = b"GET /healthz HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize(("kind", "blocked", "passes"), [("websocket", WEBSOCKET, PLAIN), ("http", PLAIN, WEBSOCKET)])
@pytest.mark.parametrize("how", ["swallow", "reset"])
async def test_one_kind_of_connection_can_be_blocked(
    autojump_clock: MockClock, kind: str, blocked: bytes, passes: bytes, how: str
) -> None:
    async with network() as (net, listener):
        net.block("c", "n", kind, how)  # type: ignore[arg-type]
        client, node = await pair(net, listener)
        await client.send_all(passes)
        assert await read(node, len(passes)) == passes
        client, node = await pair(net, listener)
        await client.send_all(blocked)
        if how == "reset":
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        else:
            assert await received(node, 60) is None


async def test_a_host_that_does_not_read_and_one_that_reads_slowly(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        await node.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        net.not_reading["c"] = None
        assert await received(client, 60) is None
        net.resume_reading("c")
        assert await received(client, 1) is not None
        net.reading_pause_s["c"] = 3.0
        await node.send_all(b"x")
        assert await received(client, 2.9) is None
        assert await received(client, 3.1) == b"x"


async def test_delays_come_from_the_distribution_that_was_set(autojump_clock: MockClock) -> None:
    async with network() as (net, listener):
        client, node = await pair(net, listener)
        net.set_delay("c", "n", uniform(5, 6))
        began = trio.current_time()
        await client.send_all(PLAIN)
        await read(node, len(PLAIN))
        assert 5 <= trio.current_time() - began <= 6


async def test_the_backlog_has_a_limit(autojump_clock: MockClock) -> None:
    net = SimNetwork(Random(1))
    listener = net.listen("n", 1)
    streams = [object() for _ in range(BACKLOG_MAX)]
    assert all(listener.offer(stream) for stream in streams)  # type: ignore[arg-type]
    assert not listener.offer(object())  # type: ignore[arg-type]
