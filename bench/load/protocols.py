"""The protocols of the servers that `bench.load.sink` loads, as bytes and sizes, without sockets.

A connection begins with `Step`s: bytes to send, and a test for the complete answer. From then on all deliveries of a
topic have one known size, so that counting bytes counts deliveries; `holds` compares one in full.
"""

from __future__ import annotations

import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cbor2

from bench.load.frames import client_frame, count_frames, upgrade
from softstate.errors import RequestError
from softstate.model import Record
from softstate.wire import CBOR, frame, messages

VALUE_BYTES = 100
"""Size of all published values."""

SEQUENCE_BYTES = 12
"""Digits at the end of a value that distinguish it from others."""

WARM_CHANGES = 256
"""Versions from here to 65,535 are three bytes of CBOR, so that the frames of one topic have one size."""


class Step(NamedTuple):
    """One exchange of a handshake: the bytes to send, and the test for a complete answer."""

    send: bytes
    complete: Callable[[bytes], bool]


class Change(NamedTuple):
    """One publish."""

    topic: str
    value: bytes


def value_of(sequence: int) -> bytes:
    """Return a value of `VALUE_BYTES` that ends in its number."""
    return b"%0*d" % (VALUE_BYTES, sequence)


class Protocol(ABC):
    """The protocol of one server."""

    trailer: bytes = b""
    """Bytes after the value in a delivery."""
    unasked: tuple[bytes, bytes] | None = None
    """A request that the server sends on its own soon after a connection, and the answer to it."""
    settle_s: float = 0.2
    """Time after the last handshake within which such a request comes."""

    @abstractmethod
    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Return the exchanges that make a connection a subscriber of all of `topics`."""

    @abstractmethod
    def publisher(self) -> list[Step]:
        """Return the exchanges that make a connection the publisher."""

    @abstractmethod
    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return the bytes that publish these changes one by one."""

    @abstractmethod
    def delivery_bytes(self, topic: str) -> int:
        """Return the size of one delivery on the wire."""

    @abstractmethod
    def holds(self, data: bytes, change: Change) -> bool:
        """Return whether the bytes are exactly one delivery of this change."""

    def batch(self) -> list[Step] | None:
        """Return the exchanges that open a connection for `publish_batch`; None: the publisher's serves for that."""
        return None

    def publish_batch(self, changes: Sequence[Change]) -> bytes:
        """Return the bytes that publish many changes in the fewest requests."""
        return self.publish(changes)

    def warm_up(self) -> Step | None:
        """Return an exchange on the batch connection after which sizes are as `delivery_bytes` says, or None."""
        return None


class Softstate(Protocol):
    """softstate's, with CBOR: single publishes over a WebSocket, many in one ``POST /v1/publish``.

    `token` is what each connection presents, "" for nothing.
    """

    def __init__(self, token: str = "") -> None:
        self._hello = messages.Hello(token=token or None)
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Upgrade, then send `hello` and `subscribe`."""
        asks = [self._hello, messages.Subscribe(1, dict.fromkeys(topics, 0))]
        return [
            Step(upgrade("/v1/ws", CBOR.protocol), _head_is_whole),
            Step(b"".join(client_frame(CBOR.encode(ask)) for ask in asks), lambda data: count_frames(data) >= 2),
        ]

    def publisher(self) -> list[Step]:
        """Upgrade, then send `hello`."""
        hello = Step(client_frame(CBOR.encode(self._hello)), lambda data: count_frames(data) >= 1)
        return [Step(upgrade("/v1/ws", CBOR.protocol), _head_is_whole), hello]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return a `publish` message for each."""
        return b"".join(client_frame(CBOR.encode(messages.Publish(1, topic, value))) for topic, value in changes)

    def batch(self) -> list[Step]:
        """Return no exchange: it is a plain HTTP connection."""
        return []

    def publish_batch(self, changes: Sequence[Change]) -> bytes:
        """Return one POST of all."""
        body = cbor2.dumps({"changes": [{"topic": topic, "value": value} for topic, value in changes]})
        head = (
            "POST /v1/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/cbor\r\n"
            f"Accept: application/cbor\r\n{self._authorization}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def warm_up(self) -> Step:
        """Publish until the store's revision is above `WARM_CHANGES`."""
        changes = [Change("warm", b"")] * WARM_CHANGES
        return Step(self.publish_batch(changes), http_reply_is_whole)

    def delivery_bytes(self, topic: str) -> int:
        """Return the size of a frame that the server would make."""
        record = Record(topic, WARM_CHANGES, cbor2.dumps(value_of(0)))
        return len(frame(CBOR.notify(record), text=False))

    def holds(self, data: bytes, change: Change) -> bool:
        """Decode, and compare."""
        if count_frames(data) != 1:
            return False
        try:
            message = CBOR.server_message(data[4 if data[1] == 126 else 2 :])
        except RequestError:
            return False
        return isinstance(message, messages.Notify) and (message.topic, message.value) == change


class Websockets(Protocol):
    """`bench.load.servers.websockets_server`: ``/subscribe`` gets what ``/publish`` receives, in frames of our size."""

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Upgrade; all subscribers get all topics."""
        del topics
        return [Step(upgrade("/subscribe"), _head_is_whole)]

    def publisher(self) -> list[Step]:
        """Upgrade."""
        return [Step(upgrade("/publish"), _head_is_whole)]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return a message for each."""
        return b"".join(client_frame(self._payload(change)) for change in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Return the size for `Softstate`: an application would have to send topic and version too."""
        return Softstate().delivery_bytes(topic)

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare."""
        return data == frame(self._payload(change), text=False)

    def _payload(self, change: Change) -> bytes:
        size = self.delivery_bytes(change.topic)
        return change.value.rjust(size - (2 if size - 2 < 126 else 4))


class Nats(Protocol):
    """The text protocol of nats-server, without acknowledgements."""

    trailer = b"\r\n"
    unasked = (b"PING\r\n", b"PONG\r\n")
    settle_s = 3.0  # its first PING comes 2.0 to 2.4 s after CONNECT; the next after `ping_interval`

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Wait for INFO, then send CONNECT, SUB and PING, until the PONG."""
        subs = "".join(f"SUB {topic} {number}\r\n" for number, topic in enumerate(topics, 10))
        return [Step(b"", _line_is_whole), Step(self._connect() + subs.encode() + b"PING\r\n", _ponged)]

    def publisher(self) -> list[Step]:
        """Wait for INFO, then send CONNECT and PING, until the PONG."""
        return [Step(b"", _line_is_whole), Step(self._connect() + b"PING\r\n", _ponged)]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return a PUB for each."""
        return b"".join(b"PUB %b %d\r\n%b\r\n" % (topic.encode(), len(value), value) for topic, value in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Return the size of a MSG; subscription numbers have two digits, so there are at most 90 topics."""
        return len(b"MSG %b 10 %d\r\n" % (topic.encode(), VALUE_BYTES)) + VALUE_BYTES + 2

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare, except for the subscription's number."""
        head, _, rest = data.partition(b"\r\n")
        words = head.split()
        return words[:2] == [b"MSG", change.topic.encode()] and rest == change.value + b"\r\n"

    def _connect(self) -> bytes:
        return b"CONNECT " + json.dumps({"verbose": False, "pedantic": False}).encode() + b"\r\n"


class Mqtt(Protocol):
    """MQTT 3.1.1 at QoS 0, without keep-alive."""

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Send CONNECT, then SUBSCRIBE, until the SUBACK."""
        filters = b"".join(_text(topic) + b"\0" for topic in topics)
        subscribe = _packet(0x82, b"\0\1" + filters)
        return [*self.publisher(), Step(subscribe, lambda data: len(data) == 4 + len(topics) and data[0] == 0x90)]

    def publisher(self) -> list[Step]:
        """Send CONNECT with a clean session and an empty client id, for which the server chooses one."""
        connect = _packet(0x10, _text("MQTT") + bytes((4, 2, 0, 0)) + _text(""))
        return [Step(connect, lambda data: data == bytes((0x20, 2, 0, 0)))]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return a PUBLISH for each, whose bytes equal its delivery."""
        return b"".join(_packet(0x30, _text(topic) + value) for topic, value in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Return the size of a PUBLISH."""
        return len(self.publish([Change(topic, value_of(0))]))

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare."""
        return data == self.publish([change])


class Redis(Protocol):
    """RESP2 publish and subscribe."""

    trailer = b"\r\n"

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Send SUBSCRIBE, until the last confirmation."""
        last = b":%d\r\n" % len(topics)
        command = _resp(b"SUBSCRIBE", *(topic.encode() for topic in topics))
        count = len(topics)
        return [Step(command, lambda data: data.count(b"subscribe\r\n") == count and data.endswith(last))]

    def publisher(self) -> list[Step]:
        """Send PING, until the PONG."""
        return [Step(_resp(b"PING"), lambda data: data == b"+PONG\r\n")]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return a PUBLISH for each."""
        return b"".join(_resp(b"PUBLISH", topic.encode(), value) for topic, value in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Return the size of a `message`."""
        return len(_resp(b"message", topic.encode(), value_of(0)))

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare."""
        return data == _resp(b"message", change.topic.encode(), change.value)


class Floor(Protocol):
    """`bench/load/servers/floor.c`: a command says how many bytes to send to each connection, in how many send(2)."""

    def __init__(self, *, batchers: bool) -> None:
        self._batchers = batchers

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Send S, until it is echoed."""
        del topics
        return [Step(b"S", lambda data: data == b"S")]

    def publisher(self) -> list[Step]:
        """Send P, until it is echoed."""
        return [Step(b"P", lambda data: data == b"P")]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Command a round of sends for each change, or, if it gathers, one round for all."""
        sizes = [self.delivery_bytes(change.topic) for change in changes]
        return b"".join(struct.pack("=I", size) for size in ([sum(sizes)] if self._batchers else sizes))

    def delivery_bytes(self, topic: str) -> int:
        """Return the size for `Softstate`."""
        return Softstate().delivery_bytes(topic)

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare the size: the content is arbitrary."""
        return len(data) == self.delivery_bytes(change.topic)


PROTOCOLS: dict[str, Protocol] = {
    "softstate": Softstate(),
    "websockets": Websockets(),
    "nats": Nats(),
    "mqtt": Mqtt(),
    "redis": Redis(),
    "floor": Floor(batchers=False),
    "floor-gathered": Floor(batchers=True),
}
"""Protocols by the names that commands of `bench.load.sink` use."""


# Pieces of the protocols ----------------------------------------------------------------------------------------------


def _head_is_whole(data: bytes) -> bool:
    if b"\r\n\r\n" in data and not data.startswith(b"HTTP/1.1 101"):
        raise ValueError(data.partition(b"\r\n")[0].decode("latin-1"))
    return data.endswith(b"\r\n\r\n")


def http_reply_is_whole(data: bytes) -> bool:
    """Tell whether a reply to a request has come to its end."""
    head, end, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return bool(end) and len(body) == int(value)
    return False


def _line_is_whole(data: bytes) -> bool:
    return data.endswith(b"\r\n")


def _ponged(data: bytes) -> bool:
    return data.endswith(b"PONG\r\n")


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes((size,)) if size < 128 else bytes((0x80 | size & 0x7F, size >> 7))
    return bytes((kind,)) + length + body


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
