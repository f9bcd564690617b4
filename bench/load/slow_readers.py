"""Two subscribers that do not keep up: one reads nothing, the other 4 KB every 50 ms.

``python -m bench.load.slow_readers``, driven over `bench.load.process`. Both have the smallest receive buffer. Large
values of a topic that only they follow, published over HTTP, fill the kernel's buffers for them before a measurement.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from bench.load.frames import client_frame, take_frames
from bench.load.process import LoadFailed, serve
from bench.load.protocols import Change, Softstate
from softstate.wire import CBOR, messages

BULK_TOPIC = "bulk"
BULK_BYTES = 60_000
RECEIVE_BUFFER_BYTES = 4_096
SLOW_BYTES = 4_096
SLOW_EVERY_S = 0.05
CATCH_UP_S_MAX = 60.0


class SlowReaders:
    """A stalled and a slow subscriber of the same topics. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._protocol = Softstate()
        self._port = 0
        self._stalled: Subscriber | None = None
        self._slow: Subscriber | None = None

    def open(self, port: int, topics: list[str], bulk_changes: int) -> dict[str, Any]:
        """Subscribe both, then publish so many large values that both are congested."""
        self._port = port
        names = [*topics, BULK_TOPIC]
        self._stalled, self._slow = Subscriber(port, names), Subscriber(port, names)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as publisher:
            for number in range(bulk_changes):
                value = b"%0*d" % (BULK_BYTES, number)
                publisher.sendall(self._protocol.publish_batch([Change(BULK_TOPIC, value)]))
                if not publisher.recv(65_536).startswith(b"HTTP/1.1 200"):
                    raise LoadFailed("a large value could not be published: lower the number of changes")
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
        """Read all pending data and subscribe again; return whether each was revoked and has the newest versions."""
        fresh = Subscriber(self._port, [*topics, BULK_TOPIC])
        fresh.read_on(1)
        answer: dict[str, Any] = {}
        for name, reader in (("stalled", self._stalled), ("slow", self._slow)):
            assert reader is not None
            reader.subscribe(2)
            reader.read_on(2)
            agrees = reader.versions == fresh.versions
            answer |= {f"{name}_revoked": reader.revoked, f"{name}_agrees": agrees}
            reader.close()
        fresh.close()
        return answer


class Subscriber:
    """One subscription on a connection of its own, which decodes what it receives."""

    def __init__(self, port: int, topics: list[str]) -> None:
        self.versions = dict.fromkeys(topics, 0)
        self.revoked = ""
        self._subscribed: set[Any] = set()
        self._data = b""
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
        """Send `subscribe` for the whole set, with the known versions."""
        ask = messages.Subscribe(number, self.versions, replace=True)
        self._socket.sendall(client_frame(CBOR.encode(ask)))

    def receive(self, size_max: int) -> int:
        """Receive at most `size_max` bytes without waiting; return their number."""
        if not select.select([self._socket], [], [], 0)[0]:
            return 0
        data = self._socket.recv(size_max)
        if not data:
            raise LoadFailed("the server closed a slow connection")
        self._data += data
        return len(data)

    def read_on(self, number: int) -> None:
        """Read until the `subscribe` with the id `number` is answered."""
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
        payloads, self._data = take_frames(self._data)
        for payload in payloads:
            self._take(CBOR.server_message(payload))

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
    """Serve commands until the parent ends."""
    readers = SlowReaders()
    serve({"open": readers.open, "lag": readers.lag, "catch_up": readers.catch_up})


if __name__ == "__main__":
    main()
