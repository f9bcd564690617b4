"""Many clients in one process that follow one topic: by WebSocket, by streams of events, or by polls; raw sockets.

``python -m bench.load.listeners``, driven over `bench.load.process`. Changes are counted by the topic's name in what is
received; polls by the heads of their answers. JSON for all, since events are JSON.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from bench.load.frames import client_frame, upgrade
from bench.load.process import LoadFailed, serve
from softstate.wire import JSON, messages

TOPIC = "bench/followed"
VALUE = "x" * 100
ANSWER_S_MAX = 30.0
RECEIVE_BYTES = 64 * 1024
EVENTS_MAX = 256
UNDER_WAY_MAX = 64
"""Connections that are opened at once: few enough to shed none."""
SETTLE_S = 0.5
"""Time for a node to hold what it was asked last."""

CHANGE = f'"topic":"{TOPIC}"'.encode()
ANSWER = b"HTTP/1.1 200"
HELLO = client_frame(JSON.encode(messages.Hello(beat_ms=1_000))) + client_frame(
    JSON.encode(messages.Subscribe(1, topics={TOPIC: 0}, replace=True))
)
OPENERS = {
    "websocket": (upgrade("/v1/ws", JSON.protocol) + HELLO, b'"op":"subscribed"'),
    "events": (f"GET /v1/events?topic={TOPIC} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(), b"event: sync"),
    "polls": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", ANSWER),
}


class Listeners:
    """The clients at one server. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._publisher: socket.socket | None = None
        self._port = 0
        self._version = 0

    def open(self, port: int, connections: int, kind: str) -> dict[str, Any]:
        """Open connections of a kind, and wait until each has its first answer."""
        self._port = port
        asks, answer = OPENERS[kind]
        opened = 0
        while opened < connections:
            some = min(UNDER_WAY_MAX, connections - opened)
            for _ in range(some):
                self._connect(asks)
            opened += some
            self._await(answer, some)
        return {"connections": len(self._sockets)}

    def changes(self, count: int) -> dict[str, Any]:
        """Publish changes, one when all have the one before; return what they took, the publishes included."""
        cpu, began = time.process_time(), time.monotonic()
        for number in range(count):
            self._publish(f"{number}{VALUE}")
            self._await(CHANGE, len(self._sockets))
        return self._cost(count * len(self._sockets), cpu, began)

    def publishes(self, count: int) -> dict[str, Any]:
        """Publish to another topic, that nobody follows: the part of the publishes."""
        cpu, began = time.process_time(), time.monotonic()
        for number in range(count):
            self._publish(f"{number}{VALUE}", topic="bench/other")
        return self._cost(count, cpu, began)

    def hold(self) -> dict[str, Any]:
        """Have a poll of each connection held."""
        self._ask(wait_ms=20_000)
        time.sleep(SETTLE_S)
        return {}

    def wake(self) -> dict[str, Any]:
        """Publish one change, which answers all polls that are held."""
        cpu, began = time.process_time(), time.monotonic()
        self._publish(VALUE)
        self._await(ANSWER, len(self._sockets))
        return self._cost(len(self._sockets), cpu, began)

    def poll(self) -> dict[str, Any]:
        """Publish one change, then ask for it with a plain poll of each connection, all at once."""
        cpu, began = time.process_time(), time.monotonic()
        before = self._version
        self._publish(VALUE)
        self._ask(known=before)
        self._await(ANSWER, len(self._sockets))
        return self._cost(len(self._sockets), cpu, began)

    # ----------------------------------------------------------------------------------------------------------------

    def _cost(self, count: int, cpu: float, began: float) -> dict[str, Any]:
        return {"count": count, "wall_s": time.monotonic() - began, "generator_cpu_s": time.process_time() - cpu}

    def _connect(self, asks: bytes) -> None:
        opened = socket.create_connection(("127.0.0.1", self._port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(asks)
        self._sockets[opened.fileno()] = opened
        self._epoll.register(opened.fileno(), select.EPOLLIN)

    def _ask(self, known: int | None = None, wait_ms: int | None = None) -> None:
        asked: dict[str, Any] = {"topics": {TOPIC: self._version if known is None else known}}
        if wait_ms is not None:
            asked["wait_ms"] = wait_ms
        body = json.dumps(asked).encode()
        head = f"POST /v1/poll HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for each in self._sockets.values():
            each.sendall(head + body)

    def _publish(self, value: str, topic: str = TOPIC) -> None:
        if self._publisher is None:
            self._publisher = socket.create_connection(("127.0.0.1", self._port))
        body = json.dumps(value).encode()
        head = f"PUT /v1/topics/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self._publisher.sendall(head.encode() + body)
        answer = b""
        while not answer.endswith(b"}"):
            more = self._publisher.recv(RECEIVE_BYTES)
            if not more:
                raise LoadFailed(f"the publish was not answered: {answer[:80]!r}")
            answer += more
        if topic == TOPIC:
            self._version = json.loads(answer.partition(b"\r\n\r\n")[2])["version"]

    def _await(self, what: bytes, count: int) -> None:
        """Receive until `what` has come so often."""
        ends = time.monotonic() + ANSWER_S_MAX
        while count > 0:
            ready = self._epoll.poll(max(ends - time.monotonic(), 0), EVENTS_MAX)
            if not ready:
                raise LoadFailed(f"{count} of {len(self._sockets)} did not get {what!r} within {ANSWER_S_MAX:g} s")
            for fd, _ in ready:
                data = self._sockets[fd].recv(RECEIVE_BYTES)
                if not data:
                    raise LoadFailed("the server closed a connection")
                data = self._tails.pop(fd, b"") + data
                count -= data.count(what)
                # A match that the next bytes complete; never one that was counted.
                kept = data[data.rfind(what) + len(what) :] if what in data else data
                if kept:
                    self._tails[fd] = kept[-len(what) + 1 :]


def main() -> None:
    """Serve commands."""
    listeners = Listeners()
    names = ("open", "changes", "publishes", "hold", "wake", "poll")
    commands: dict[str, Callable[..., dict[str, Any]]] = {name: getattr(listeners, name) for name in names}
    serve(commands)


if __name__ == "__main__":
    main()
