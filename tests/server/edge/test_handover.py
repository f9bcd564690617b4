"""Sockets that are handed from the task of their handshake to the pump."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import MockClock

from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.server.http.upgrade import Handshake
from softstate.server.websocket.connection import Connection
from softstate.store.memory.store import MemoryStore
from softstate.wire import JSON

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def pair() -> tuple[trio.SocketStream, socket.socket]:
    near, far = socket.socketpair()
    far.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(near)), far


@pytest.mark.parametrize("broken", [("begin",), ("begin", "_ended")], ids=" and ".join)
async def test_a_handshake_that_meets_a_bug_leaves_nothing_that_writes_to_the_next_socket(
    broken: tuple[str, ...], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    node = Node(ServerConfig(), store, await store.head(), bulkhead=Bulkhead(strict=False))
    stream, far = pair()
    number = stream.socket.fileno()
    for method in broken:
        monkeypatch.setattr(Connection, method, lambda *_: 1 / 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.patience.run)
        nursery.start_soon(node._upgrade, stream, Handshake(JSON, ANSWER), "peer")
        await trio.sleep(node.config.hello_s_max / 2)
        assert far.recv(1_000).startswith(b"HTTP/1.1 500 ")
        assert (node.bulkhead.bugs, node.connections, len(node.sockets)) == (1, 0, 0)
        far.close()
        await stream.aclose()
        near, other = pair()
        assert near.socket.fileno() == number, "the number is used again"
        await trio.sleep(2 * node.config.hello_s_max)
        with pytest.raises(BlockingIOError):
            other.recv(1_000)
        assert node.bulkhead.bugs == 1
        other.close()
        await near.aclose()
        nursery.cancel_scope.cancel()
