"""What a sink has to say to each kind of server, and what it gets: bytes and sizes, no sockets.

A connection begins with `Step`s: bytes to send, and a test that tells when the answer is complete. From then on every
delivery has a known size, so that counting bytes is counting deliveries; `holds` reads one in full.
"""

from __future__ import annotations

import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cbor2

from softstate.errors import RequestError
from softstate.model import Record
from softstate.wire import CBOR, frame, messages

VALUE_BYTES = 100
"""How large every published value is."""

SEQUENCE_BYTES = 12
"""How many digits at its end tell one value from another."""

WARM_CHANGES = 256
"""Versions above this are three bytes of CBOR up to 65,535: so long, frames of one topic have one size."""


class Step(NamedTuple):
    """One exchange of a handshake: what to send, and whether what came so far is the whole answer."""

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
    """One server's language. `hears_itself` is what it says unasked soon after a connection, and how to answer."""

    trailer: bytes = b""
    """What follows the value in a delivery."""
    hears_itself: tuple[bytes, bytes] | None = None
    settle_s: float = 0.2
    """How long after the last handshake such a thing may still come."""

    @abstractmethod
    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Return how to become a subscriber of all of `topics`."""

    @abstractmethod
    def publisher(self) -> list[Step]:
        """Return how to become the publisher."""

    @abstractmethod
    def publish(self, changes: Sequence[Change]) -> bytes:
        """Return the bytes that publish these changes, each by itself, back to back."""

    @abstractmethod
    def delivery_bytes(self, topic: str) -> int:
        """Return the size of one delivery on the wire."""

    @abstractmethod
    def holds(self, data: bytes, change: Change) -> bool:
        """Tell whether the bytes are exactly one delivery of this change."""

    def batch(self) -> list[Step] | None:
        """Return how to open the connection that takes many changes in one request; None: `publish` does."""
        return None

    def publish_batch(self, changes: Sequence[Change]) -> bytes:
        """Return the bytes that publish many changes in the fewest requests."""
        return self.publish(changes)

    def warm_up(self) -> Step | None:
        """Return what to do once, over the batch connection, before sizes are as `delivery_bytes` says."""
        return None


class Softstate(Protocol):
    """Our own, with CBOR: single publishes over a WebSocket, many in one ``POST /v1/publish``."""

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Upgrade; then `hello` and `subscribe`, until both are answered."""
        asks = [messages.Hello(), messages.Subscribe(1, dict.fromkeys(topics, 0))]
        return [
            Step(upgrade("/v1/ws", CBOR.protocol), _head_is_whole),
            Step(b"".join(client_frame(CBOR.encode(ask)) for ask in asks), lambda data: frames_in(data) >= 2),
        ]

    def publisher(self) -> list[Step]:
        """Upgrade and say `hello`."""
        hello = client_frame(CBOR.encode(messages.Hello()))
        return [Step(upgrade("/v1/ws", CBOR.protocol), _head_is_whole), Step(hello, lambda data: frames_in(data) >= 1)]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Make one `publish` message for each."""
        return b"".join(client_frame(CBOR.encode(messages.Publish(1, topic, value))) for topic, value in changes)

    def batch(self) -> list[Step]:
        """Keep one HTTP connection."""
        return []

    def publish_batch(self, changes: Sequence[Change]) -> bytes:
        """Make one POST of all."""
        body = cbor2.dumps({"changes": [{"topic": topic, "value": value} for topic, value in changes]})
        head = (
            "POST /v1/publish HTTP/1.1\r\nHost: bench\r\nContent-Type: application/cbor\r\n"
            f"Accept: application/cbor\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def warm_up(self) -> Step:
        """Take the store's revision beyond `WARM_CHANGES`."""
        changes = [Change("warm", b"")] * WARM_CHANGES
        return Step(self.publish_batch(changes), _http_reply_is_whole)

    def delivery_bytes(self, topic: str) -> int:
        """Measure a frame as the server makes it."""
        record = Record(topic, WARM_CHANGES, cbor2.dumps(value_of(0)))
        return len(frame(CBOR.notify(record), text=False))

    def holds(self, data: bytes, change: Change) -> bool:
        """Decode it."""
        if frames_in(data) != 1:
            return False
        try:
            message = CBOR.server_message(data[4 if data[1] == 126 else 2 :])
        except RequestError:
            return False
        return isinstance(message, messages.Notify) and (message.topic, message.value) == change


class Websockets(Protocol):
    """`bench.load.servers.websockets_server`: ``/subscribe`` gets what ``/publish`` receives, in frames of our size."""

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Upgrade; every subscriber gets every topic."""
        del topics
        return [Step(upgrade("/subscribe"), _head_is_whole)]

    def publisher(self) -> list[Step]:
        """Upgrade."""
        return [Step(upgrade("/publish"), _head_is_whole)]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Make one message for each."""
        return b"".join(client_frame(self._payload(change)) for change in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Return the same as for `Softstate`: an application would send topic and version too."""
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
    hears_itself = (b"PING\r\n", b"PONG\r\n")
    settle_s = 3.0  # its first PING comes 2.0 to 2.4 s after CONNECT; the next after `ping_interval`

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Wait for INFO, then CONNECT, SUB and PING until the PONG."""
        subs = "".join(f"SUB {topic} {number}\r\n" for number, topic in enumerate(topics, 10))
        return [Step(b"", _line_is_whole), Step(self._connect() + subs.encode() + b"PING\r\n", _ponged)]

    def publisher(self) -> list[Step]:
        """Wait for INFO, then CONNECT and PING until the PONG."""
        return [Step(b"", _line_is_whole), Step(self._connect() + b"PING\r\n", _ponged)]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Make one PUB for each."""
        return b"".join(b"PUB %b %d\r\n%b\r\n" % (topic.encode(), len(value), value) for topic, value in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Count a MSG; subscription numbers have two digits, so there may be 90 topics."""
        return len(b"MSG %b 10 %d\r\n" % (topic.encode(), VALUE_BYTES)) + VALUE_BYTES + 2

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare all but the subscription's number."""
        head, _, rest = data.partition(b"\r\n")
        words = head.split()
        return words[:2] == [b"MSG", change.topic.encode()] and rest == change.value + b"\r\n"

    def _connect(self) -> bytes:
        return b"CONNECT " + json.dumps({"verbose": False, "pedantic": False}).encode() + b"\r\n"


class Mqtt(Protocol):
    """MQTT 3.1.1 at QoS 0, without keep-alive."""

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """CONNECT until CONNACK, SUBSCRIBE until SUBACK."""
        filters = b"".join(_text(topic) + b"\0" for topic in topics)
        subscribe = _packet(0x82, b"\0\1" + filters)
        return [*self.publisher(), Step(subscribe, lambda data: len(data) == 4 + len(topics) and data[0] == 0x90)]

    def publisher(self) -> list[Step]:
        """CONNECT with a clean session and an empty client id, which the server then makes up."""
        connect = _packet(0x10, _text("MQTT") + bytes((4, 2, 0, 0)) + _text(""))
        return [Step(connect, lambda data: data == bytes((0x20, 2, 0, 0)))]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Make one PUBLISH for each, which looks just like its delivery."""
        return b"".join(_packet(0x30, _text(topic) + value) for topic, value in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Measure a PUBLISH."""
        return len(self.publish([Change(topic, value_of(0))]))

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare."""
        return data == self.publish([change])


class Redis(Protocol):
    """RESP2 publish and subscribe."""

    trailer = b"\r\n"

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """SUBSCRIBE until the last confirmation."""
        last = b":%d\r\n" % len(topics)
        command = _resp(b"SUBSCRIBE", *(topic.encode() for topic in topics))
        count = len(topics)
        return [Step(command, lambda data: data.count(b"subscribe\r\n") == count and data.endswith(last))]

    def publisher(self) -> list[Step]:
        """PING until the PONG."""
        return [Step(_resp(b"PING"), lambda data: data == b"+PONG\r\n")]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Make one PUBLISH for each."""
        return b"".join(_resp(b"PUBLISH", topic.encode(), value) for topic, value in changes)

    def delivery_bytes(self, topic: str) -> int:
        """Measure a `message`."""
        return len(_resp(b"message", topic.encode(), value_of(0)))

    def holds(self, data: bytes, change: Change) -> bool:
        """Compare."""
        return data == _resp(b"message", change.topic.encode(), change.value)


class Floor(Protocol):
    """`bench/load/servers/floor.c`: told how many bytes to send to each connection, in how many calls of send(2)."""

    def __init__(self, *, batchers: bool) -> None:
        self._batchers = batchers

    def subscriber(self, topics: Sequence[str]) -> list[Step]:
        """Say S, until it is said back."""
        del topics
        return [Step(b"S", lambda data: data == b"S")]

    def publisher(self) -> list[Step]:
        """Say P, until it is said back."""
        return [Step(b"P", lambda data: data == b"P")]

    def publish(self, changes: Sequence[Change]) -> bytes:
        """Order a round of sends for each change, or, if it gathers, one round of them all."""
        sizes = [self.delivery_bytes(change.topic) for change in changes]
        return b"".join(struct.pack("=I", size) for size in ([sum(sizes)] if self._batchers else sizes))

    def delivery_bytes(self, topic: str) -> int:
        """Return the same as for `Softstate`."""
        return Softstate().delivery_bytes(topic)

    def holds(self, data: bytes, change: Change) -> bool:
        """Look at the size: what it sends means nothing."""
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
"""By the names that `bench.load.sink` knows them."""


# Pieces of the protocols ----------------------------------------------------------------------------------------------


def client_frame(payload: bytes) -> bytes:
    """Wrap a message of under 64 KiB into a masked binary frame, with a mask of zeros (RFC 6455 section 5.3)."""
    size = len(payload)
    head = bytes((0x82, 0x80 | size)) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


def frames_in(data: bytes) -> int:
    """Count the whole server frames at the start of `data`; -1 if bytes are left over."""
    count = at = 0
    while at + 2 <= len(data):
        size = data[at + 1]
        head = 2 if size < 126 else 4 if size == 126 else 10
        if head > 2:
            size = int.from_bytes(data[at + 2 : at + head], "big")
        at += head + size
        count += 1
    return count if at == len(data) else -1


def upgrade(path: str, protocol: str = "") -> bytes:
    """Return the head of a WebSocket handshake."""
    offer = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    ).encode()


def _head_is_whole(data: bytes) -> bool:
    if b"\r\n\r\n" in data and not data.startswith(b"HTTP/1.1 101"):
        raise ValueError(data.partition(b"\r\n")[0].decode("latin-1"))
    return data.endswith(b"\r\n\r\n")


def _http_reply_is_whole(data: bytes) -> bool:
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
