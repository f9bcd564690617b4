"""Sockets whose HTTP becomes a WebSocket in place."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import handshake
from bench.trials.fuzz.streams import frame
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.server.http.peer import HttpPeer
from softstate.server.websocket.connection import Connection
from softstate.store.base import Committed, Write
from softstate.store.memory.store import MemoryStore
from softstate.wire import JSON
from softstate.wire.messages import Hello, Subscribe
from tests.kit.node_rig import until
from tests.kit.pumps import settled

HANDSHAKE = handshake(JSON)


PUT = b"PUT /v1/topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n1"


def masked(data: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data


async def received_until(far: socket.socket, word: bytes) -> bytes:
    received = b""
    with trio.fail_after(20):
        while word not in received:
            await trio.lowlevel.wait_readable(far)
            received += far.recv(100_000)
    return received


async def new_node(*, strict: bool = True) -> Node:
    store = MemoryStore()
    return Node(ServerConfig(), store, await store.head(), bulkhead=Bulkhead(strict=strict))


def connect(node: Node) -> tuple[int, socket.socket]:
    """Return the number of a socket that the node serves, and its other end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    number = near.detach()
    node.begin(node.pump.adopt(number), "peer", 0.0)
    return number, far


def pair_with(number: int) -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are connected, the first with this number, which is free."""
    others: list[socket.socket] = []
    while True:
        for one, other in (pair := socket.socketpair(), pair[::-1]):
            if one.fileno() == number:
                for each in others:
                    each.close()
                return one, other
        others += pair


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("cut", [1, 20, len(HANDSHAKE) - 1, len(HANDSHAKE), len(HANDSHAKE) + 3])
async def test_a_connection_is_handed_over_with_all_that_came_behind_the_handshake(cut: int) -> None:
    node = await new_node()
    data = HANDSHAKE + masked(JSON.encode(Hello()))
    async with running(node):
        _, far = connect(node)
        far.send(data[:cut])
        await settled(node.pump)
        far.send(data[cut:])
        received = await received_until(far, b"welcome")
        assert received.startswith(b"HTTP/1.1 101 ")
        assert (node.connections, len(node.sockets), len(node.pump)) == (1, 1, 1)
        assert node.http.statistics().connections == 0
        far.close()
        await until(lambda: node.connections == 0)


@pytest.mark.parametrize("size", [10_000, 60_000])
async def test_what_is_sent_while_a_handshake_waits_is_read_to_its_end(size: int) -> None:
    """Of more than a head may have, HTTP reads only a part, and then no more."""
    node = await new_node()
    number, far = connect(node)
    wire = node.pump.wire(number)
    node.admission.begin_turn()
    subscribe = JSON.encode(Subscribe(1, {f"t/{each:05}": 0 for each in range(size // 12)}))
    data = HANDSHAKE + masked(JSON.encode(Hello())) + frame(1, subscribe, masked=True)
    assert far.send(data) == len(data)
    for _ in range(8):
        if wire.reading:
            assert isinstance(wire.peer, HttpPeer)
            wire.peer.readable()
    assert node.admission.waiting == 1
    assert wire.reading is (size < 16_384)
    async with running(node):
        await received_until(far, b'"subscribed"')
        far.close()
        await until(lambda: node.connections == 0)


@pytest.mark.parametrize("early", [b"", masked(JSON.encode(Hello()))], ids=["nothing", "hello"])
async def test_a_connection_whose_handshake_came_behind_a_request_is_read(
    early: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a request is being answered, what comes behind it is not read."""
    node = await new_node()
    publish, committing = node.store.publish, trio.Event()

    async def slow(writes: Sequence[Write]) -> Committed:
        await committing.wait()
        return await publish(writes)

    monkeypatch.setattr(node.store, "publish", slow)
    async with running(node):
        number, far = connect(node)
        far.send(PUT + HANDSHAKE)
        await settled(node.pump)
        far.send(early)
        await settled(node.pump)
        assert node.pump.wire(number).reading is not bool(early)
        committing.set()
        received = await received_until(far, b"HTTP/1.1 101 ")
        far.send(b"" if early else masked(JSON.encode(Hello())))
        if b"welcome" not in received:
            await received_until(far, b"welcome")
        far.close()
        await until(lambda: node.connections == 0)


async def test_no_task_is_started_on_the_way_to_a_session() -> None:
    node = await new_node()
    async with running(node):
        await settled(node.pump)
        before = trio.lowlevel.current_statistics().tasks_living
        ends = [connect(node)[1] for _ in range(10)]
        for far in ends:
            far.send(HANDSHAKE + masked(JSON.encode(Hello())))
        await until(lambda: len(node.leases) == 10)
        assert trio.lowlevel.current_statistics().tasks_living == before
        for far in ends:
            far.close()


async def test_a_handshake_that_meets_a_bug_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    node = await new_node(strict=False)
    monkeypatch.setattr(Connection, "__init__", lambda *_: 1 / 0)
    # To draw the traceback for people takes seconds on a busy machine.
    with structlog.testing.capture_logs():
        await answered_500(node)


async def answered_500(node: Node) -> None:
    async with running(node):
        _, far = connect(node)
        far.send(HANDSHAKE)
        await until(lambda: node.bulkhead.bugs > 0)
        assert far.recv(1_000).startswith(b"HTTP/1.1 500 ")
        far.close()
        await until(lambda: node.connections == 0)
        assert (node.bulkhead.bugs, len(node.sockets)) == (1, 0)


@pytest.mark.parametrize("broken", [("begin",), ("begin", "_ended")], ids=" and ".join)
async def test_a_handshake_that_meets_a_bug_leaves_nothing_that_writes_to_the_next_socket(
    broken: tuple[str, ...], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await new_node(strict=False)
    for method in broken:
        monkeypatch.setattr(Connection, method, lambda *_: 1 / 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.patience.run)
        number, far = connect(node)
        far.send(HANDSHAKE)
        peer = node.pump.wire(number).peer
        assert isinstance(peer, HttpPeer)
        peer.readable()
        assert far.recv(1_000) == b"", "what was written is not known, so it ends without an answer"
        assert (node.bulkhead.bugs, node.connections, len(node.sockets)) == (len(broken), 0, 0)
        far.close()
        near, other = pair_with(number)
        other.setblocking(False)
        await trio.sleep(2 * node.config.hello_s_max)
        with pytest.raises(BlockingIOError):
            other.recv(1_000)
        assert node.bulkhead.bugs == len(broken)
        other.close()
        near.close()
        nursery.cancel_scope.cancel()
