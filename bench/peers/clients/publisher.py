"""The publisher: numbers to topics, each on a connection of its own until it is acknowledged; and a ticker."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bench.load.peer_protocols import PROTOCOLS
from bench.load.process import LoadFailed
from bench.measure.publishing import Publishing, put
from bench.peers.clients.records import Published
from bench.peers.systems import NAMESPACE

ANSWER_S_MAX = 2.0
AGAIN_S = 0.05
PUBLISH_S_MAX = 30.0
"""Time for which a publish is tried: a server that has just started may not take it yet."""
TICK_S = 0.2
RECEIVE_BYTES = 64 * 1024


def _to_softstate(topic: str, number: int) -> bytes:
    return put(f"{NAMESPACE}/{topic}", number)


def _to_redis(topic: str, number: int) -> bytes:
    name = f"{NAMESPACE}:{topic}"
    return f"MULTI\r\nSET {name} {number}\r\nPUBLISH {name} {number}\r\nEXEC\r\n".encode()


def _to_socketio(topic: str, number: int) -> bytes:
    body = str(number)
    return f"POST /{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


PUBLISHINGS: dict[str, Publishing] = {
    "softstate": Publishing(_to_softstate, lambda data: data.startswith(b"HTTP/1.1 200 ")),
    "Centrifugo": PROTOCOLS["centrifugo"]().publishing,
    "NATS KV": PROTOCOLS["nats"]().publishing,
    "Redis": Publishing(_to_redis, lambda data: b"*2\r\n+OK\r\n:" in data and data.endswith(b"\r\n")),
    "Socket.IO": Publishing(_to_socketio, lambda data: data.startswith(b"HTTP/1.1 200 ") and b"published" in data),
}
"""How to publish to each system, by its name in `bench.peers.systems`."""

PREPARATIONS: dict[str, tuple[bytes, Callable[[bytes], bool]]] = {
    # The bucket; its answer has the stream's state.
    "NATS KV": (PROTOCOLS["nats"]().prepare(), lambda data: b'"state":' in data)
}
"""Conversations that make what publishing needs, and whether an answer says that it is made."""


class Publisher:
    """Publishes to the server of a system on a port, and notes what was acknowledged. For one thread, and a ticker."""

    def __init__(self, system: str, port: int) -> None:
        self._system = system
        self._publishing = PUBLISHINGS[system]
        self._port = port
        self._number = 0
        self._lock = threading.Lock()
        self.published: list[Published] = []

    def prepare(self) -> None:
        """Make what publishing needs. Raises `LoadFailed`."""
        if self._system in PREPARATIONS:
            self._insist(*PREPARATIONS[self._system])

    def publish(self, topic: str) -> int:
        """Publish the next number to a topic, again until it is acknowledged; return it. Raises `LoadFailed`."""
        with self._lock:
            self._number += 1
            number = self._number
        asked_at = self._insist(self._publishing.request(topic, number), self._publishing.acknowledged)
        self._note(Published(topic, number, asked_at, time.monotonic()))
        return number

    def try_to_publish(self, topic: str) -> None:
        """Publish the next number to a topic, once; it is noted if it is acknowledged."""
        with self._lock:
            self._number += 1
            number = self._number
        asked_at = time.monotonic()
        try:
            asked(self._port, self._publishing.request(topic, number), self._publishing.acknowledged)
        except OSError:
            return
        self._note(Published(topic, number, asked_at, time.monotonic()))

    def _note(self, published: Published) -> None:
        with self._lock:
            self.published.append(published)

    def _insist(self, request: bytes, acknowledged: Callable[[bytes], bool]) -> float:
        """Ask until it is acknowledged; return when the last request was sent. Raises `LoadFailed`."""
        gives_up_at = time.monotonic() + PUBLISH_S_MAX
        while True:
            asked_at = time.monotonic()
            try:
                asked(self._port, request, acknowledged)
            except OSError as error:
                if asked_at > gives_up_at:
                    raise LoadFailed(f"{self._system} took no publish for {PUBLISH_S_MAX:g} s: {error}") from None
                time.sleep(AGAIN_S)
            else:
                return asked_at


def asked(port: int, request: bytes, acknowledged: Callable[[bytes], bool]) -> bytes:
    """Send a request, and return the answer once it acknowledges. Raises `OSError` if that does not come in time."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S_MAX) as talk:
        talk.sendall(request)
        while not acknowledged(data):
            received = talk.recv(RECEIVE_BYTES)
            if not received:
                raise ConnectionError(f"it answered {data[-200:]!r}")
            data += received
    return data


class Ticker:
    """Publishes to ``ticking`` every 200 ms, in a thread, for the length of a block."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            self._publisher.try_to_publish("ticking")
