"""A held request ends with the peer that waits for it, and its place is free at once (P-HTTP-16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import pytest
import trio
import trio.testing

from tests.kit.fake_node import Answer, FakeNode, parse, read_all
from tests.kit.pumps import pump_of

Peer: TypeAlias = "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]"

HOLD = b"GET /v1/topics/none?wait_ms=20000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BEHIND = b"GET /v1/topics/none?at_least=99 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MIN = b"POST /v1/poll HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 19\r\n\r\n" + b'{"min_revision":99}'
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def held(node: FakeNode, nursery: trio.Nursery, request: bytes = HOLD) -> Peer:
    """Return the peer's end of a connection whose request is held."""
    peer, server = trio.testing.memory_stream_pair()
    nursery.start_soon(node.serve, server)
    before = node.http.statistics().holds
    await peer.send_all(request)
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().holds == before + 1
    return peer


async def rest(peer: Peer) -> list[Answer]:
    return parse(await read_all(peer))


def statuses(answers: Sequence[Answer]) -> list[int]:
    return [answer.status for answer in answers]


@pytest.mark.parametrize("request_", [HOLD, BEHIND, MIN], ids=["wait_ms", "at_least", "min_revision"])
async def test_a_hundred_that_hung_up_leave_room_for_one_that_waits(
    request_: bytes, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    node = FakeNode(holds_max=100)
    peers = [await held(node, nursery, request_) for _ in range(100)]
    assert (await node.ask("GET", "/v1/topics/none?wait_ms=1000")).status == 429
    for peer in peers:
        await peer.aclose()
    await trio.testing.wait_all_tasks_blocked()
    statistics = node.http.statistics()
    assert (statistics.holds, statistics.connections) == (0, 0)
    await held(node, nursery, request_)


async def test_a_peer_that_ends_its_side_alone_is_answered_at_once(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeNode()
    async with trio.open_nursery() as nursery:
        peer = await held(node, nursery)
        await peer.send_eof()
        [answer] = await rest(peer)
    assert (answer.status, answer["softstate-held-ms"], trio.current_time()) == (404, "0", 0)


async def test_a_peer_that_was_lost_is_noticed(nursery: trio.Nursery) -> None:
    node = FakeNode()
    peer, server = trio.testing.memory_stream_pair()
    nursery.start_soon(node.serve, server)
    await peer.send_all(HOLD)
    await trio.testing.wait_all_tasks_blocked()
    server.receive_stream.close()
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().holds == 0


@pytest.mark.parametrize("cut", [1, 7, len(GET)])
async def test_requests_sent_behind_a_held_one_are_answered_after_it(cut: int, nursery: trio.Nursery) -> None:
    node = FakeNode()
    peer = await held(node, nursery)
    await peer.send_all(GET + GET[:cut])
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().holds == 1
    await node.set("none", 1)
    await peer.send_all(GET[cut:])
    await trio.testing.wait_all_tasks_blocked()
    await peer.send_eof()
    assert statuses(await rest(peer)) == [200, 200, 200]


async def test_a_peer_that_sends_on_and_on_is_not_held(nursery: trio.Nursery) -> None:
    """Else it could hide behind its bytes that it has hung up, or have the node keep them."""
    node = FakeNode(head_bytes_max=1_000)
    peer = await held(node, nursery)
    await peer.send_all(b"\r\n" * 500)
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().holds == 1
    await peer.send_all(b"\r\n")
    assert statuses(await rest(peer)) == [404, 431]
    assert node.http.statistics().holds == 0


async def test_a_change_is_told_on_a_connection_that_lives(nursery: trio.Nursery) -> None:
    node = FakeNode()
    gone, alive = await held(node, nursery), await held(node, nursery)
    await gone.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.statistics().holds == 1
    await node.set("none", 1)
    await alive.send_eof()
    [answer] = await rest(alive)
    assert (answer.status, answer.json) == (200, 1)


async def test_sockets_that_hang_up_are_noticed() -> None:
    node = FakeNode(holds_max=20)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    pump = pump_of(node.bulkhead, accepted=lambda wire, name, _: node.http.open(wire, name).readable())
    pump.listen(listener.socket)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        peers = [await trio.testing.open_stream_to_socket_listener(listener) for _ in range(20)]
        for peer in peers:
            await peer.send_all(HOLD)
        while node.http.statistics().holds < 20:
            await trio.lowlevel.checkpoint()
        for peer in peers:
            await peer.aclose()
        while node.http.statistics().holds:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
