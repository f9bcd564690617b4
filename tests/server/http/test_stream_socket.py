"""HTTP over a real socket, where replies are written directly: partial writes, lost peers, pipelining."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from softstate.server.config import ServerConfig
from softstate.server.http.stream import HttpStream, PeerGone
from softstate.server.http1 import Reply

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = bytes(range(256)) * 64 * 1024


@asynccontextmanager
async def connected(**limits: float) -> AsyncIterator[tuple[HttpStream, trio.SocketStream]]:
    """Return the server's end of a TCP connection, and the client's."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        async with client, await listener.accept() as server:
            yield HttpStream(server, ServerConfig(**limits)), client  # type: ignore[arg-type]


async def receive(client: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await client.receive_some()
    return bytes(data)


async def test_a_reply_that_no_socket_takes_at_once_arrives_whole() -> None:
    async with connected() as (http, client), trio.open_nursery() as nursery:
        await client.send_all(GET)
        assert await http.read_head() is not None
        nursery.start_soon(http.reply, Reply(200, BIG, "application/cbor"))
        await trio.testing.wait_all_tasks_blocked()
        head = (
            "HTTP/1.1 200 OK\r\nX-Content-Type-Options: nosniff\r\nContent-Type: application/cbor\r\n"
            f"Content-Length: {len(BIG)}\r\n\r\n"
        ).encode()
        data = await receive(client, len(head) + len(BIG))
        assert data[: len(head)] == head
        assert data[len(head) :] == BIG


async def test_a_peer_that_does_not_read_a_reply_is_given_up() -> None:
    async with connected(send_s_max=0.05) as (http, client):
        await client.send_all(GET)
        await http.read_head()
        with pytest.raises(PeerGone):
            await http.reply(Reply(200, BIG))


async def test_a_peer_that_reset_the_connection_is_gone() -> None:
    async with connected() as (http, client):
        await client.send_all(GET)
        await http.read_head()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        with pytest.raises(PeerGone):
            while True:
                await http.reply(Reply(200, b"x"))


async def test_pipelined_requests_are_answered_in_turn_and_the_last_one_may_end_it() -> None:
    async with connected() as (http, client):
        last = GET.replace(b"Host", b"Connection: close\r\nHost")
        await client.send_all(GET + GET.replace(b"GET", b"HEAD") + last)
        for number in range(3):
            assert await http.read_head() is not None
            await http.reply(Reply(200, b"%d" % number))
            assert http.reusable == (number < 2)
        begin = b"HTTP/1.1 200 OK\r\nX-Content-Type-Options: nosniff\r\n"
        answer = await receive(client, 3 * len(begin) + len("Content-Length: 1\r\n\r\n0") * 3 - 1 + 19)
        nothing, one, two, three = answer.split(begin)
        assert one.endswith(b"\r\n\r\n0")
        assert two == b"Content-Length: 1\r\n\r\n"
        assert b"Connection: close" in three
        assert three.endswith(b"\r\n\r\n2")
        assert nothing == b""


@pytest.mark.parametrize("value", ["a\r\nEvil: b", "a\nb", "a\rb"])
async def test_no_header_may_hold_a_line_end(value: str) -> None:
    async with connected() as (http, client):
        await client.send_all(GET)
        await http.read_head()
        with pytest.raises(AssertionError, match="line end"):
            await http.reply(Reply(200, b"", headers=(("ETag", value),)))
