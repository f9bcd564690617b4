"""One connection over streams in memory and over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import memory_stream_pair

from softstate.http_client.connection import HttpConnection
from softstate.http_client.exchange import ConnectionBroken, Request, ResponseTooLong
from softstate.http_client.streams import open_tcp

GET = Request("GET", "node", "/")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"


class Said(trio.abc.Stream):
    """A stream that has something to read, and may refuse to send."""

    def __init__(self, *said: bytes, broken: bool = False) -> None:
        self.said = list(said)
        self.broken = broken
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.broken:
            raise trio.BrokenResourceError from OSError("sending failed")

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.said.pop(0) if self.said else b""

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_one_request_after_the_other() -> None:
    connection = HttpConnection(Said(OK, OK[:9], OK[9:]), "node")
    assert (connection.usable, connection.kept) == (True, False)
    for _ in range(2):
        response = await connection.request(GET)
        assert (response.status, response.body) == (200, b"ab")
        assert (connection.usable, connection.kept) == (True, True)


@pytest.mark.parametrize(("bytes_max", "good"), [(2, True), (1, False)])
async def test_the_limit_of_the_body(bytes_max: int, good: bool) -> None:
    connection = HttpConnection(Said(OK), "node")
    if good:
        assert (await connection.request(GET, bytes_max)).body == b"ab"
    else:
        with pytest.raises(ResponseTooLong, match="longer than 1 bytes"):
            await connection.request(GET, bytes_max)
    assert connection.usable is good


async def test_an_early_response_is_read_although_sending_broke() -> None:
    connection = HttpConnection(Said(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", broken=True), "node")
    assert (await connection.request(GET)).status == 413
    assert not connection.usable, "part of the request was never sent"


@pytest.mark.parametrize("broken", [False, True])
async def test_a_connection_that_breaks_is_of_no_use(broken: bool) -> None:
    connection = HttpConnection(Said(broken=broken), "node")
    with pytest.raises(ConnectionBroken, match="sending failed" if broken else "without a response") as caught:
        await connection.request(GET)
    assert (caught.value.answered, caught.value.ended) == (False, not broken)
    assert not connection.usable


async def test_a_stream_of_parts_survives_cancelling() -> None:
    ours, theirs = memory_stream_pair()
    connection = HttpConnection(ours, "node")
    await theirs.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    assert (await connection.start(GET)).body == b""
    assert await connection.part() == b"one"
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.part()
    assert scope.cancelled_caught
    await theirs.send_all(b"3\r\ntwo\r\n0\r\n\r\n")
    assert [await connection.part(), await connection.part()] == [b"two", b""]
    assert connection.usable


@pytest.fixture
async def listener() -> AsyncIterator[trio.SocketListener]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield listener


async def test_the_end_of_an_idle_connection_is_seen_before_it_is_used(listener: trio.SocketListener) -> None:
    host, port = listener.socket.getsockname()
    connection = HttpConnection(await open_tcp(host, port, False), "node")
    peer = await listener.accept()
    await peer.send_all(OK)
    await connection.request(GET)
    seen = [connection.usable]
    await peer.aclose()
    with trio.fail_after(5):
        while seen[-1]:
            await trio.lowlevel.checkpoint()
            seen.append(connection.usable)
    await connection.aclose()
    assert (seen[0], connection.usable) == (True, False)


async def test_refusal_and_success_of_opening(listener: trio.SocketListener) -> None:
    host, port = listener.socket.getsockname()
    stream = await open_tcp(host, port, False)
    assert isinstance(stream, trio.SocketStream)
    await trio.aclose_forcefully(stream)
    await listener.aclose()
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await open_tcp(host, port, False)


async def test_a_peer_without_tls_fails_the_handshake(listener: trio.SocketListener, nursery: trio.Nursery) -> None:
    async def refuse() -> None:
        async with await listener.accept() as peer:
            await peer.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    nursery.start_soon(refuse)
    host, port = listener.socket.getsockname()
    with pytest.raises(trio.BrokenResourceError):
        await open_tcp(host, port, True)
