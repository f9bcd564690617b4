"""Two subscribers that do not keep up: one reads nothing, one a little now and then.

``python -m bench.load.laggards``, driven over `bench.load.process`. Both have the smallest receive buffer, and a bulky
topic of their own, published over HTTP, fills what the kernel buffers for them before anybody measures.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from bench.load.process import LoadFailed, serve
from bench.load.protocols import Change, Softstate, client_frame
from softstate.wire import CBOR, messages

BULK_TOPIC = "bulk"
BULK_BYTES = 60_000
RECEIVE_BUFFER_BYTES = 4_096
SLOW_BYTES = 4_096
SLOW_EVERY_S = 0.05
CATCH_UP_S_MAX = 60.0


class Laggards:
    """A stalled and a slow subscriber of the same topics."""

    def __init__(self) -> None:
        self._protocol = Softstate()
        self._port = 0
        self._stalled: Subscriber | None = None
        self._slow: Subscriber | None = None

    def open(self, port: int, topics: list[str], bulk_changes: int) -> dict[str, Any]:
        """Subscribe both, then publish so much to the bulky topic that both are congested."""
        self._port = port
        names = [*topics, BULK_TOPIC]
        self._stalled, self._slow = Subscriber(port, names), Subscriber(port, names)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as publisher:
            for number in range(bulk_changes):
                value = b"%0*d" % (BULK_BYTES, number)
                publisher.sendall(self._protocol.publish_batch([Change(BULK_TOPIC, value)]))
                if not publisher.recv(65_536).startswith(b"HTTP/1.1 200"):
                    raise LoadFailed("the bulky topic could not be published")
        return {}

    def lag(self, seconds: float) -> dict[str, Any]:
        """Read nothing from one, and `SLOW_BYTES` every `SLOW_EVERY_S` from the other."""
        assert self._slow is not None
        deadline = time.monotonic() + seconds
        taken = 0
        while time.monotonic() < deadline:
            taken += self._slow.receive(SLOW_BYTES)
            time.sleep(SLOW_EVERY_S)
        return {"slow_bytes": taken}

    def catch_up(self, topics: list[str]) -> dict[str, Any]:
        """Read all that waits, subscribe anew as the protocol has it, and tell what each ended up with."""
        fresh = Subscriber(self._port, [*topics, BULK_TOPIC])
        fresh.read_on(1)
        answer: dict[str, Any] = {}
        for name, laggard in (("stalled", self._stalled), ("slow", self._slow)):
            assert laggard is not None
            laggard.subscribe(2)
            laggard.read_on(2)
            agrees = laggard.versions == fresh.versions
            answer |= {f"{name}_revoked": laggard.revoked, f"{name}_agrees": agrees}
            laggard.close()
        fresh.close()
        return answer


class Subscriber:
    """One subscription with a connection of its own; it understands what it receives."""

    def __init__(self, port: int, topics: list[str]) -> None:
        self.versions = dict.fromkeys(topics, 0)
        self.revoked = ""
        self._subscribed: set[Any] = set()
        self._data = bytearray()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.settimeout(30)
        self._socket.connect(("127.0.0.1", port))
        upgrade = Softstate().publisher()[0]
        self._socket.sendall(upgrade.send)
        head = b""
        while not upgrade.complete(head):
            head += self._socket.recv(1)
        self._socket.sendall(client_frame(CBOR.encode(messages.Hello())))
        self.subscribe(1)
        self.read_on(1)

    def subscribe(self, number: int) -> None:
        """Send `subscribe` for the whole set, with what is known."""
        ask = messages.Subscribe(number, self.versions, replace=True)
        self._socket.sendall(client_frame(CBOR.encode(ask)))

    def receive(self, size_max: int) -> int:
        """Take what is there, at most `size_max` bytes, without waiting for it."""
        if not select.select([self._socket], [], [], 0)[0]:
            return 0
        data = self._socket.recv(size_max)
        if not data:
            raise LoadFailed("the server closed a slow connection")
        self._data += data
        return len(data)

    def read_on(self, number: int) -> None:
        """Read until `subscribe` number `number` is answered."""
        deadline = time.monotonic() + CATCH_UP_S_MAX
        self._parse()
        while number not in self._subscribed:
            if time.monotonic() > deadline:
                raise LoadFailed(f"no answer to a subscribe within {CATCH_UP_S_MAX:g} s")
            if not self.receive(1 << 20):
                select.select([self._socket], [], [], 0.1)
            self._parse()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _parse(self) -> None:
        while len(self._data) >= 2:
            size, head = self._data[1], 2
            if size > 125:
                head = 4 if size == 126 else 10
                size = int.from_bytes(self._data[2:head], "big")
            if len(self._data) < max(head, 2) + size:
                return
            self._take(CBOR.server_message(bytes(self._data[head : head + size])))
            del self._data[: head + size]

    def _take(self, message: messages.ServerMessage) -> None:
        match message:
            case messages.Notify(topic=topic, version=version):
                self.versions[topic] = max(version, self.versions[topic])
            case messages.Revoked(reason=reason):
                self.revoked = reason
            case messages.Subscribed(id=number, changes=changes, more=more):
                for change in changes:
                    self.versions[change.topic] = max(change.version, self.versions[change.topic])
                if not more:
                    self._subscribed.add(number)
            case messages.Error(code=code, message=text):
                raise LoadFailed(f"{code}: {text}")


def main() -> None:
    """Serve commands until the parent is gone."""
    laggards = Laggards()
    serve({"open": laggards.open, "lag": laggards.lag, "catch_up": laggards.catch_up})


if __name__ == "__main__":
    main()
