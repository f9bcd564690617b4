"""How the generator talks with each system: scripts of bytes, without sockets.

A value is `VALUE`, whose marker the generator numbers and finds again. Publishes are those that each system
acknowledges in its usual way. WebSocket frames are masked with zeros, so that a number can be written into them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.load.frames import client_frame, upgrade
from bench.load.peer_protocols import NatsKv
from bench.peers.systems import NAMESPACE
from softstate.wire import CBOR, messages

CONNECTION = "@@@@@@"
"""Becomes the number of the connection."""
VALUE = "x" * 84 + "~@~#" + "0" * 12
"""A value of 100 bytes, which ends in a marker."""

_UPGRADED = b"HTTP/1.1 101"
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Step:
    """Send bytes, until `wait` was heard `count` times. The answer must begin with `begins`, and not have `refuse`."""

    send: bytes
    wait: bytes
    begins: bytes = b""
    refuse: bytes = b""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Talk:
    """The protocol of one system.

    `publish` returns the bytes that publish `VALUE` to a topic; `ack` is in each acknowledgement once, `refuse` in a
    refusal. A subscriber that hears the first of `reflex` says the second. `prepare` is a conversation before all,
    answered by `prepared`.
    """

    subscriber: Callable[[str], Sequence[Step]]
    publisher: Sequence[Step]
    publish: Callable[[str], bytes]
    ack: bytes
    refuse: bytes
    reflex: tuple[bytes, bytes] = (b"", b"")
    prepare: bytes = b""
    prepared: bytes = b""


def text(payload: str) -> bytes:
    """Return a message of a client as a frame of text."""
    return b"\x81" + client_frame(payload.encode())[1:]


def _upgrade(path: str, protocol: str = "", wait: bytes = _HEAD_END) -> Step:
    return Step(upgrade(path, protocol), wait, begins=_UPGRADED)


def _softstate() -> Talk:
    head = _upgrade("/v1/ws", CBOR.protocol)
    hello = client_frame(CBOR.encode(messages.Hello()))

    def subscriber(topic: str) -> Sequence[Step]:
        asked = client_frame(CBOR.encode(messages.Subscribe(1, {topic: 0})))
        return [head, Step(hello + asked, b"subscribed", refuse=b"error")]

    def publish(topic: str) -> bytes:
        return client_frame(CBOR.encode(messages.Publish(1, topic, VALUE.encode())))

    return Talk(subscriber, [head, Step(hello, b"welcome", refuse=b"error")], publish, b"published", b"error")


def _centrifugo() -> Talk:
    def subscriber(topic: str) -> Sequence[Step]:
        ask = {"id": 2, "subscribe": {"channel": f"{NAMESPACE}:{topic}", "recover": True}}
        return [
            _upgrade("/connection/websocket"),
            Step(text(_json({"id": 1, "connect": {}})), b'"connect":', refuse=b'"error"'),
            Step(text(_json(ask)), b'"subscribe":', refuse=b'"error"'),
        ]

    def publish(topic: str) -> bytes:
        body = _json({"channel": f"{NAMESPACE}:{topic}", "data": VALUE})
        head = "POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    return Talk(subscriber, [], publish, b'"result"', b'"error"')


def _nats() -> Talk:
    """Watchers as `bench.load.peer_protocols` describes them; publishers wait for the stream's acknowledgement."""
    info = Step(b"", b"\r\n", begins=b"INFO ")
    greeting = b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"0","protocol":1}\r\n'
    inbox = f"_INBOX.bench{CONNECTION}"

    def subscriber(topic: str) -> Sequence[Step]:
        config = {
            "deliver_policy": "last_per_subject", "filter_subject": f"$KV.{NAMESPACE}.{topic}", "ack_policy": "none",
            "deliver_subject": f"{inbox}.d", "max_deliver": 1, "inactive_threshold": 300_000_000_000,
            "mem_storage": True, "num_replicas": 1,
        }  # fmt: skip
        ask = _json({"stream_name": f"KV_{NAMESPACE}", "config": config})
        asks = (
            f"SUB {inbox}.d 1\r\nSUB {inbox}.r 2\r\n"
            f"PUB $JS.API.CONSUMER.CREATE.KV_{NAMESPACE} {inbox}.r {len(ask)}\r\n{ask}\r\n"
        )
        return [info, Step(greeting + asks.encode(), b'"created"', refuse=b'"error"')]

    def publish(topic: str) -> bytes:
        return f"PUB $KV.{NAMESPACE}.{topic} {inbox}.r {len(VALUE)}\r\n{VALUE}\r\n".encode()

    return Talk(
        subscriber,
        [info, Step(greeting + f"SUB {inbox}.r 2\r\nPING\r\n".encode(), b"PONG\r\n", refuse=b"-ERR")],
        publish,
        b'"seq":',
        b'"error"',
        reflex=(b"PING\r\n", b"PONG\r\n"),
        prepare=NatsKv().prepare(),
        prepared=b'"created"',
    )


def _redis() -> Talk:
    def subscriber(topic: str) -> Sequence[Step]:
        return [Step(_resp("SUBSCRIBE", topic), b":1\r\n", refuse=b"-ERR")]

    def publish(topic: str) -> bytes:
        commands = (("MULTI",), ("SET", topic, VALUE), ("PUBLISH", topic, VALUE), ("EXEC",))
        return b"".join(_resp(*words) for words in commands)

    return Talk(subscriber, [], publish, b"*2\r\n+OK\r\n:", b"-")


def _socketio() -> Talk:
    connected = [
        _upgrade("/socket.io/?EIO=4&transport=websocket", wait=b'"maxPayload"'),
        Step(text("40"), b'40{"sid"', refuse=b"44{"),
    ]

    def subscriber(topic: str) -> Sequence[Step]:
        return [*connected, Step(text(f"420{_json(['subscribe', [topic]])}"), b"430[]")]

    def publish(topic: str) -> bytes:
        return text(f"420{_json(['publish', topic, VALUE])}")

    return Talk(subscriber, connected, publish, b"430[]", b"44{")


def _lines() -> Talk:
    """`bench/peers/servers`: lines of words, the same for ws and websockets."""
    head = _upgrade("/")
    return Talk(
        lambda topic: [head, Step(text(f"subscribe {topic}"), b"subscribed")],
        [head],
        lambda topic: text(f"publish {topic} {VALUE}"),
        b"published",
        b"error",
    )


TALKS: Mapping[str, Callable[[], Talk]] = {
    "softstate": _softstate,
    "centrifugo": _centrifugo,
    "nats": _nats,
    "redis": _redis,
    "socketio": _socketio,
    "lines": _lines,
}
"""Protocols by the names that systems have for them."""


def _json(tree: object) -> str:
    return json.dumps(tree, separators=(",", ":"))


def _resp(*words: str) -> bytes:
    return "".join([f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]).encode()
