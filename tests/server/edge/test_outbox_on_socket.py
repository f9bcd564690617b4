"""The outbox on real sockets, told by a pump when they take more."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
import trio

from softstate.model import Record
from softstate.server.edge.pump import Pump, SocketWire
from softstate.server.fanout.outbox import Outbox, OutboxBounds
from softstate.wire import CBOR
from softstate.wire.push import EncodedChange, PushBatch
from tests.kit.fake_socket import frames_in, text
from tests.kit.pumps import pump_of


class OutboxPeer:
    """An outbox on one end of a pair of sockets; the test has the other."""

    def __init__(self, pump: Pump, pending_max: int = 1) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.fd = near.detach()
        self.wire: SocketWire = pump.adopt(self.fd)
        self.wire.peer = self
        bounds = OutboxBounds(pending_max, 1 << 27, 60)
        self.box = Outbox(self.wire.try_send, self.wire.want_write, lambda: pytest.fail("overdue"), bounds)

    def readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if not self.wire.receive(10):
                self.end()

    def writable(self) -> None:
        self.box.writable()

    def end(self) -> None:
        self.box.end()
        self.wire.close()

    def fail(self) -> None:
        raise AssertionError


async def test_every_last_frame_reaches_a_slow_reader() -> None:
    pump = pump_of()
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        peer = OutboxPeer(pump, 2_000)
        box = peer.box
        rounds = 0
        while not box.congested or rounds < 30:
            rounds += 1
            for number in range(100):
                box.notify(f"t{number}", text(f"t{number}={rounds}", 2_000))
            box.flush()
        box.reply(text("end"))
        while len(box):
            with contextlib.suppress(BlockingIOError):
                received += peer.far.recv(10_000)
            await trio.lowlevel.checkpoint()
        peer.end()
        while data := peer.far.recv(1_000_000):
            received += data
        peer.far.close()
        nursery.cancel_scope.cancel()
    frames = frames_in(bytes(received))
    assert frames[-1] == "end"
    assert len(frames) - 1 == box.sent < rounds * 100
    assert dict(name.split("=") for name in frames[:-1]) == {f"t{number}": str(rounds) for number in range(100)}


async def test_an_outbox_is_dead_once_its_peer_has_gone() -> None:
    pump = pump_of()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        peer = OutboxPeer(pump)
        peer.box.reply(bytes(1 << 25))
        peer.box.flush()
        assert peer.box.congested
        peer.far.close()
        while not peer.box.dead:
            await trio.sleep(0.01)
        peer.end()
        assert len(pump) == 0
        nursery.cancel_scope.cancel()


async def test_an_outbox_that_has_ended_does_not_touch_a_descriptor_that_is_reused() -> None:
    pump = pump_of()
    peer = OutboxPeer(pump)
    reader, writer = os.pipe()
    peer.end()
    os.dup2(writer, peer.fd)
    change = EncodedChange(Record("t", 1, b"\x01"))
    batch = PushBatch([change])
    peer.box.push(change.frame(CBOR), batch, CBOR)
    peer.box.notify("t", change.frame(CBOR))
    peer.box.reply(change.frame(CBOR))
    peer.box.flush()
    peer.box.writable()
    for call in (peer.wire.close, peer.wire.shut, peer.wire.again, peer.end):
        call()
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    for end in {reader, writer, peer.fd}:
        os.close(end)
    peer.far.close()
    pump.poller.close()
