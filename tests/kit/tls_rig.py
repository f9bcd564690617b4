"""A wire under TLS, between a client and a peer, on a socket that a test fills and empties."""

from __future__ import annotations

import math

from softstate.server.edge.tls import Tls, TlsWire
from tests.kit.certificates import TlsClient
from tests.kit.fake_wire import FakeWire


class Told:
    """The peer of a wire: keeps what it receives, and writes what waits."""

    def __init__(self, wire: TlsWire) -> None:
        self.wire = wire
        wire.peer = self
        self.received = b""
        self.ended = False
        self.rest = b""
        self.portion = 1 << 16

    def readable(self) -> None:
        try:
            data = self.wire.receive(self.portion)
        except BlockingIOError:
            return
        self.received += data
        if not data:
            self.end()

    def send(self, data: bytes) -> None:
        self.rest += data
        self.writable()

    def writable(self) -> None:
        self.rest = self.rest[self.wire.try_send(self.rest) :]
        self.wire.want_write(bool(self.rest))

    def end(self) -> None:
        self.ended = True
        self.wire.close()

    def fail(self) -> None:
        raise AssertionError


class Rig:
    """A client, and a wire with a peer, on a socket that takes `free_bytes`."""

    def __init__(self, tls: Tls, client: TlsClient, free_bytes: float = math.inf) -> None:
        self.client = client
        self.socket = FakeWire(free_bytes)
        self.wire = TlsWire(self.socket, tls)
        self.socket.attach(self.wire)
        self.peer = Told(self.wire)
        self.said = b""

    def shake(self) -> Rig:
        data = self.client.begin()
        while data:
            self.socket.arrive(data)
            data = self.answer()
        return self

    def answer(self) -> bytes:
        """Let the client take what was written; return what it sends in turn."""
        taken = bytes(self.socket.taken)
        self.socket.taken.clear()
        self.said += self.client.take(taken)
        return self.client.outgoing()

    def heard(self) -> bytes:
        self.answer()
        return self.said


def has_ended(rig: Rig) -> bool:
    return rig.peer.ended
