"""Peers that send a node the worst messages, one after the other, as fast as it takes them.

``python -m bench.load.flood``, driven over `bench.load.process`. Answers are read and thrown away. A connection that
the node closes is opened again.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Any

import cbor2

from bench.load.frames import take_frames, upgrade
from bench.load.process import LoadFailed, serve, step_back
from bench.load.worst import NAMES_MAX, long_names, worst_messages, worst_requests

RECEIVE_BYTES = 256 * 1024
ABANDONED_NAMES = NAMES_MAX - 1
ABANDONED_AFTER = 2
"""Answers after which a session is abandoned; the rest of what it sent is in the node by then."""
NAMES_EACH = 1_500
"""Names in one subscribe of an abandoned session."""
NAME_BYTES = 100
NAMES = (
    "10,000 short names", "the same, replaced", "one name too many", "a bad name at the end", "long names",
    "names never held", "a poll of 10,000 names",
)  # fmt: skip
"""The worst messages whose cost is in their names."""
LEASE_MS = 1_000


def frame(payload: bytes, *, text: bool) -> bytes:
    """Return a message of any length as a masked frame, with a mask of zeros (RFC 6455 section 5.3)."""
    first = bytes((0x81 if text else 0x82,))
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | size,))
    elif size < 2**16:
        head = b"\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\xff" + size.to_bytes(8, "big")
    return first + head + bytes(4) + payload


def hello(codec: str) -> bytes:
    """Return a handshake and a hello."""
    said = {"op": "hello", "ttl_ms": LEASE_MS}
    text = codec == "json"
    payload = b'{"op":"hello"}' if text else cbor2.dumps(said)
    return upgrade("/v1/ws", f"softstate.v1.{codec}") + frame(payload, text=text)


class Peer:
    """One connection: `begin` is sent once, `again` for as long as it lasts.

    With `answers`, it leaves when it has received so many frames, and comes back as another.
    """

    def __init__(self, port: int, begin: bytes, again: Iterator[bytes], answers: int = 0) -> None:
        self._port = port
        self._begin = begin
        self._again = again
        self._answers = answers
        self.sent = 0
        self.opened = 0
        self.connect()

    def connect(self) -> None:
        """Open the connection."""
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setblocking(False)
        self._rest = memoryview(self._begin)
        self._received = b""
        self._frames = 0
        self.opened += 1

    @property
    def writes(self) -> bool:
        """Whether it has anything more to send."""
        return bool(self._rest) or not self._answers

    def write(self) -> None:
        """Send as much as the socket takes of one message."""
        if not self._rest:
            self._rest = memoryview(next(self._again))
            self.sent += 1
        self._rest = self._rest[self.socket.send(self._rest) :]

    def read(self) -> bool:
        """Throw away what came; return whether the connection goes on."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data or not self._answers:
            return bool(data)
        self._received += data
        if b"\r\n\r\n" in self._received and self._received.startswith(b"HTTP"):
            self._received = self._received.partition(b"\r\n\r\n")[2]
        if not self._received.startswith(b"HTTP"):
            frames, self._received = take_frames(self._received)
            self._frames += len(frames)
        self.sent += self._frames >= self._answers
        return self._frames < self._answers


@cache
def _frames(cbor: bool, names: bool, wrong: bool) -> list[bytes]:
    return [
        frame(worst.data, text=not cbor)
        for worst in worst_messages()
        if worst.cbor == cbor and (worst.name in NAMES) == names and (worst.code == "invalid") == wrong
    ]


@cache
def _requests() -> list[bytes]:
    return [worst.wire() for worst in worst_requests()]


@cache
def _abandoned_session() -> bytes:
    """Return a hello and subscribes to nearly as many names as a session may hold."""
    names = list(long_names(ABANDONED_NAMES, NAME_BYTES))
    parts = [names[at : at + NAMES_EACH] for at in range(0, len(names), NAMES_EACH)]
    subscribes = [cbor2.dumps({"op": "subscribe", "id": 1, "topics": dict.fromkeys(part, 0)}) for part in parts]
    return hello("cbor") + b"".join(frame(data, text=False) for data in subscribes)


def _over_websocket(names: bool, wrong: bool) -> Callable[[int, int], Peer]:
    def make(port: int, number: int) -> Peer:
        cbor = number % 2 == 0
        return Peer(port, hello("cbor" if cbor else "json"), cycle(_frames(cbor, names, wrong)))

    return make


def _over_http(port: int, number: int) -> Peer:
    requests = _requests()
    begin = number % len(requests)
    return Peer(port, b"", cycle([*requests[begin:], *requests[:begin]]))


def _abandoned(port: int, _number: int) -> Peer:
    """Leave a session that holds many names: its lease ends a second later."""
    return Peer(port, _abandoned_session(), iter(()), answers=ABANDONED_AFTER)


KINDS: dict[str, Callable[[int, int], Peer]] = {
    "values": _over_websocket(names=False, wrong=False),
    "names": _over_websocket(names=True, wrong=False),
    "invalid": _over_websocket(names=False, wrong=True),
    "http": _over_http,
    "abandoned": _abandoned,
}


def flood(port: int, kind: str, connections: int, seconds: float) -> dict[str, Any]:
    """Send the worst messages of a kind for some seconds; return how many were sent."""
    epoll = select.epoll()
    peers = {}
    for number in range(connections):
        peer = KINDS[kind](port, number)
        peers[peer.socket.fileno()] = peer
        epoll.register(peer.socket, select.EPOLLIN | select.EPOLLOUT)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for number, event in epoll.poll(0.05, 64):
            peer = peers[number]
            try:
                goes_on = not event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) or peer.read()
                if goes_on and event & select.EPOLLOUT and peer.writes:
                    peer.write()
            except BlockingIOError:
                goes_on = True
            except OSError:
                goes_on = False
            if goes_on:
                epoll.modify(number, select.EPOLLIN | (select.EPOLLOUT if peer.writes else 0))
                continue
            epoll.unregister(number)
            peers.pop(number).socket.close()
            peer.connect()
            peers[peer.socket.fileno()] = peer
            epoll.register(peer.socket, select.EPOLLIN | select.EPOLLOUT)
    for peer in peers.values():
        peer.socket.close()
    epoll.close()
    # Of a session that is abandoned the opening counts: the rest may take longer than the run.
    sent = sum(peer.sent or peer.opened for peer in peers.values())
    if not sent:
        raise LoadFailed(f"the node took no message of kind {kind} within {seconds} s")
    return {"sent": sent, "opened": sum(peer.opened for peer in peers.values())}


def main() -> None:
    """Serve commands until the parent ends."""
    step_back()
    serve({"flood": flood})


if __name__ == "__main__":
    main()
