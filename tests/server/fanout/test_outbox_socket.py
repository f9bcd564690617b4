"""The outbox on real sockets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from softstate.model import Record
from softstate.server.edge.stream_wire import SystemSocket, raw_socket_of
from softstate.server.fanout.outbox import Outbox, OutboxBounds
from softstate.wire import CBOR
from softstate.wire.push import EncodedChange, PushBatch
from tests.kit.fake_socket import FakeSocket, frames_in, text

settled = trio.testing.wait_all_tasks_blocked


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        far = await listener.accept()
    async with near, far:
        yield near, far


def fill(sock: SystemSocket) -> int:
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += sock.try_send(bytes(1_000_000))
    return size


async def test_a_reader_that_stops_blocks_the_socket_until_it_reads() -> None:
    async with connected() as (near, far), trio.open_nursery() as nursery:
        sock = SystemSocket(near)
        size = fill(sock)
        assert size > 0
        nursery.start_soon(sock.wait_writable)
        await settled()
        assert nursery.child_tasks
        while size:
            size -= len(await far.receive_some(1_000_000))
        with trio.fail_after(5):
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()
        assert sock.try_send(memoryview(b"hello")) == 5
        assert await far.receive_some(5) == b"hello"
        await far.send_all(b"world")
        assert await sock.receive_some(3) == b"wor"


async def test_a_stream_is_its_own_raw_socket_unless_it_is_one_of_trio() -> None:
    class Simulated(trio.abc.Stream):
        try_send = FakeSocket.try_send

        async def wait_writable(self) -> None:
            raise NotImplementedError

        def shut(self) -> None:
            raise NotImplementedError

        async def aclose(self) -> None:
            raise NotImplementedError

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            raise NotImplementedError

        async def wait_send_all_might_not_block(self) -> None:
            raise NotImplementedError

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise NotImplementedError

    simulated = Simulated()
    assert raw_socket_of(simulated) is simulated
    async with connected() as (near, _):
        assert isinstance(raw_socket_of(near), SystemSocket)
    with pytest.raises(AssertionError, match="neither a socket nor a raw one"):
        raw_socket_of(trio.testing.memory_stream_pair()[0])


async def test_a_peer_that_has_gone_breaks_the_socket() -> None:
    near, far = trio.socket.socketpair()
    stream = trio.SocketStream(near)
    far.close()
    with pytest.raises(BrokenPipeError):
        SystemSocket(stream).try_send(b"x")
    await stream.aclose()


async def test_closing_wakes_the_waiter_and_does_not_touch_a_descriptor_that_is_reused() -> None:
    async with connected() as (near, _), trio.open_nursery() as nursery:
        sock = SystemSocket(near)
        fill(sock)
        nursery.start_soon(sock.wait_writable)
        await settled()
        number = near.socket.fileno()
        await sock.aclose()
        await settled()
        assert not nursery.child_tasks
        pipe = os.pipe()
        assert number in pipe
        with pytest.raises(OSError, match="Bad file descriptor"):
            sock.try_send(b"x")
        await sock.wait_writable()
        for end in pipe:
            os.close(end)


class OutboxOnSocket:
    """An outbox on a real socket, and a task that writes while it takes nothing."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery, pending_max: int = 1) -> None:
        self.socket = SystemSocket(stream)
        self._nursery = nursery
        self._wanted = False
        bounds = OutboxBounds(pending_max, 1 << 27, 60)
        self.box = Outbox(self.socket.try_send, self._want_write, lambda: pytest.fail("overdue"), bounds)

    def _want_write(self, wanted: bool) -> None:
        if wanted and not self._wanted:
            self._nursery.start_soon(self._write)
        self._wanted = wanted

    async def _write(self) -> None:
        while self._wanted and not self.box.dead:
            await self.socket.wait_writable()
            self.box.writable()

    async def written(self) -> None:
        while len(self.box):
            await trio.sleep(0.01)


async def test_an_outbox_on_a_real_socket_delivers_every_last_frame_to_a_slow_reader() -> None:
    received = bytearray()
    async with connected() as (near, far), trio.open_nursery() as nursery:
        on_socket = OutboxOnSocket(near, nursery, 2_000)
        box = on_socket.box
        rounds = 0
        while not box.congested or rounds < 30:
            rounds += 1
            for number in range(100):
                box.notify(f"t{number}", text(f"t{number}={rounds}", 2_000))
            box.flush()
        box.reply(text("end"))

        async def write_out() -> None:
            await on_socket.written()
            await on_socket.socket.aclose()

        nursery.start_soon(write_out)
        async for data in far:
            received += data
    frames = frames_in(bytes(received))
    assert frames[-1] == "end"
    assert len(frames) - 1 == box.sent < rounds * 100
    assert dict(name.split("=") for name in frames[:-1]) == {f"t{number}": str(rounds) for number in range(100)}


async def test_an_outbox_is_dead_when_a_real_socket_closes_under_it() -> None:
    async with connected() as (near, _), trio.open_nursery() as nursery:
        on_socket = OutboxOnSocket(near, nursery)
        on_socket.box.reply(bytes(1 << 25))
        on_socket.box.flush()
        await settled()
        assert on_socket.box.congested
        await near.aclose()
        await on_socket.written()
        assert on_socket.box.dead


async def test_an_outbox_that_has_ended_does_not_touch_a_descriptor_that_is_reused() -> None:
    async with connected() as (near, _), trio.open_nursery() as nursery:
        on_socket = OutboxOnSocket(near, nursery)
        box = on_socket.box
        number = near.socket.fileno()
        reader, writer = os.pipe()
        box.end()
        await near.aclose()
        os.dup2(writer, number)
        change = EncodedChange(Record("t", 1, b"\x01"))
        batch = PushBatch([change])
        box.push(change.frame(CBOR), batch, CBOR)
        box.notify("t", change.frame(CBOR))
        box.reply(change.frame(CBOR))
        box.flush()
        box.writable()
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        for end in (reader, writer, number):
            os.close(end)
