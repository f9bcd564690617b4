"""HTTP over real sockets and the pump: partial writes, lost peers, pipelining, half-closed connections."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from softstate.server.config import ServerConfig
from softstate.server.edge.pump import SocketWire
from softstate.server.http1 import Conversation, Reply
from tests.kit.fake_node import FakeNode, parse, read_all
from tests.kit.node_rig import until
from tests.kit.pumps import pump_of, settled

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG_GET = GET.replace(b"/healthz", b"/metrics")
LAST = GET.replace(b"Host", b"Connection: close\r\nHost")
BIG = bytes(range(256)) * 64 * 1024


async def _big() -> bytes:
    return BIG


class Rig:
    """A node whose connections are those of a pump."""

    def __init__(self, listener: trio.SocketListener, **limits: Any) -> None:
        self.node = FakeNode(**limits)
        self.node.scrape = _big  # type: ignore[method-assign]
        self.listener = listener
        self.pump = pump_of(self.node.bulkhead, accepted=self._begin)
        self.pump.listen(listener.socket)

    def _begin(self, wire: SocketWire, name: str, _waited_s: float) -> None:
        assert name.startswith("127.0.0.1:")
        self.node.http.open(wire, name).readable()

    @property
    def connections(self) -> int:
        return self.node.http.statistics().connections

    async def connect(self) -> trio.SocketStream:
        return await trio.testing.open_stream_to_socket_listener(self.listener)

    async def until(self, connections: int) -> None:
        await until(lambda: self.connections == connections >= self.node.http.statistics().holds)


@asynccontextmanager
async def running(**limits: Any) -> AsyncIterator[Rig]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        rig = Rig(listener, **limits)
        nursery.start_soon(rig.pump.run)
        yield rig
        nursery.cancel_scope.cancel()
    assert rig.connections == len(rig.pump) == 0


async def test_a_reply_that_no_socket_takes_at_once_arrives_whole(mock_clock: MockClock) -> None:
    async with running() as rig, await rig.connect() as client:
        await client.send_all(BIG_GET + LAST)
        await settled(rig.pump)
        big, last = parse(await read_all(client))
        assert (big.body, last.status) == (BIG, 200)


async def test_a_peer_that_does_not_read_a_reply_is_given_up() -> None:
    async with running(send_s_max=0.05) as rig, await rig.connect() as client:
        await client.send_all(BIG_GET)
        await rig.until(1)
        await rig.until(0)


@pytest.mark.parametrize("request_", [b"", GET[:9], GET, BIG_GET, b"GET /v1/topics/none?wait_ms=20000" + GET[12:]])
async def test_a_peer_that_reset_the_connection_is_gone(request_: bytes) -> None:
    async with running() as rig:
        client = await rig.connect()
        if request_:
            await client.send_all(request_)
        await rig.until(1)
        await settled(rig.pump)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        await rig.until(0)


async def test_pipelined_requests_are_answered_in_turn_and_the_last_one_may_end_it() -> None:
    async with running() as rig, await rig.connect() as client:
        await client.send_all(GET + GET.replace(b"GET", b"HEAD") + LAST + GET)
        one, two, three = parse(await read_all(client), heads=[1])
        assert [one.status, two.status, three.status] == [200, 200, 200]
        assert (one.body, two.body, three["connection"]) == (three.body, b"", "close")


async def test_ten_thousand_pipelined_requests_hold_up_no_other() -> None:
    async with running() as rig, await rig.connect() as many, await rig.connect() as other:
        answers = 0

        async def read() -> None:
            nonlocal answers
            while data := await many.receive_some():
                answers += data.count(b"HTTP/1.1 200")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(many.send_all, GET * 9_999 + LAST)
            await until(lambda: answers > 0)
            await other.send_all(LAST)
            assert len(parse(await read_all(other))) == 1
            assert answers < 9_999
        assert answers == 10_000


async def test_a_half_closed_peer_gets_its_answers() -> None:
    async with running() as rig, await rig.connect() as client:
        await client.send_all(GET + b"GET /v1/topics/none" + GET[12:])
        await client.send_eof()
        assert [answer.status for answer in parse(await read_all(client))] == [200, 404]
        await rig.until(0)


async def test_requests_that_come_while_one_is_answered_wait_in_the_socket() -> None:
    async with running() as rig, await rig.connect() as client:
        passed = trio.Event()

        async def status() -> dict[str, object]:
            await passed.wait()
            return {}

        rig.node.status = status  # type: ignore[method-assign]
        await client.send_all(b"GET /v1/status" + GET[12:])
        await settled(rig.pump)
        turns = rig.pump.turns
        await client.send_all(LAST)
        await settled(rig.pump)
        assert rig.pump.turns - turns <= 2, "it turns round and round"
        passed.set()
        assert [answer.status for answer in parse(await read_all(client))] == [200, 200]


async def test_a_peer_that_goes_while_it_is_answered_ends_the_task() -> None:
    async with running() as rig:
        client = await rig.connect()
        ended = trio.Event()

        async def status() -> dict[str, object]:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError

        rig.node.status = status  # type: ignore[method-assign]
        await client.send_all(b"GET /v1/status" + GET[12:] + GET)
        await rig.until(1)
        await settled(rig.pump)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        with trio.fail_after(20):
            await ended.wait()


@pytest.mark.parametrize("value", ["a\r\nEvil: b", "a\nb", "a\rb"])
def test_no_header_may_hold_a_line_end(value: str) -> None:
    conversation = Conversation(ServerConfig())
    assert conversation.feed(GET) is not None
    with pytest.raises(AssertionError, match="line end"):
        conversation.reply(Reply(200, b"", headers=(("ETag", value),)), "")
