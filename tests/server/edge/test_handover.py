"""Sockets whose HTTP becomes a WebSocket in place."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import handshake
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.server.http.peer import HttpPeer
from softstate.server.websocket.connection import Connection
from softstate.store.memory.store import MemoryStore
from softstate.wire import JSON
from softstate.wire.messages import Hello
from tests.kit.node_rig import until
from tests.kit.pumps import settled

HANDSHAKE = handshake(JSON)


def masked(data: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data


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
        received = b""
        with trio.fail_after(20):
            while b"welcome" not in received:
                await trio.sleep(0.002)
                try:
                    received += far.recv(10_000)
                except BlockingIOError:
                    continue
        assert received.startswith(b"HTTP/1.1 101 ")
        assert (node.connections, len(node.sockets), len(node.pump)) == (1, 1, 1)
        assert node.http.statistics().connections == 0
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
