"""The protocols of systems that recovery is compared with, as plain as clients can speak them.

Each follows one value and comes back as that system's own client library does by default; sans-I/O.

- Centrifugo 6 (`centrifuge-js` 5): WebSocket with JSON, `connect`, then `subscribe` with recovery (mode ``cache``),
  which answers with the newest publication; backoff U(0, min(20 s, 0.5 s · 2^k)); 5 s for an answer.
- NATS KV (`nats.go` 1): TCP, a watch, which is a consumer of the newest message; 2 s plus U(0, 0.1 s) between attempts;
  2 s for the connection. Its library notices a lost consumer late; these clients make it again at once.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from bench.load.course import CLOCK
from bench.load.frames import take_frames, upgrade
from bench.measure.publishing import Publishing
from bench.peers.systems import NAMESPACE

CONSUMERS_MAX = 100_000
"""Watchers of the bucket. nats-server lets a stream have 1,000 by default from 2.15 on."""


@dataclass(slots=True)
class Heard:
    """The effects of some bytes: what to send, whether the client is live now, the newest value (-1: none)."""

    send: bytes = b""
    live: bool = False
    value: int = -1


@dataclass(slots=True)
class Talk:
    """The state of one connection. `stage` counts the steps of the way to be live."""

    data: bytes = b""
    stage: int = 0
    heard: Heard = field(default_factory=Heard)


class PeerProtocol(Protocol):
    """One system. `timeout_s` is how long a client waits until it is live, before it tries again."""

    timeout_s: float
    publishing: Publishing

    def first(self) -> bytes:
        """Return what a client sends once it is connected."""
        ...

    def take(self, talk: Talk, data: bytes) -> Heard:
        """Take bytes from the server. Raises `ValueError` if it refuses."""
        ...

    def wait_s(self, failures: int, random: Random) -> float:
        """Return how long to wait until the next attempt, after so many in turn have failed (0: the first)."""
        ...

    def prepare(self) -> bytes:
        """Return a whole conversation that makes what publishing needs, once, to be answered; b"" for nothing."""
        ...


class Centrifugo:
    """Centrifugo's clients. Their publishers use its HTTP API."""

    timeout_s = 5.0
    least_s, most_s = 0.5, 20.0

    def __init__(self) -> None:
        self.publishing = Publishing(_publish_over_http, lambda data: data.endswith(b"}") and b'"result":' in data)

    def first(self) -> bytes:
        """Return the head of the handshake."""
        return upgrade("/connection/websocket")

    def prepare(self) -> bytes:
        """Return nothing: channels need not be made."""
        return b""

    def wait_s(self, failures: int, random: Random) -> float:
        """Return a draw from U(0, min(20 s, 0.5 s · 2^k))."""
        return random.uniform(0, min(self.most_s, self.least_s * 2 ** min(failures, 10)))

    def take(self, talk: Talk, data: bytes) -> Heard:
        """Take the answer to the handshake, then frames."""
        talk.data += data
        heard = Heard()
        if talk.stage == 0:
            head, end, rest = talk.data.partition(b"\r\n\r\n")
            if not end:
                return heard
            if not head.startswith(b"HTTP/1.1 101"):
                raise ValueError(head.partition(b"\r\n")[0].decode("latin-1"))
            talk.stage, talk.data = 1, rest
            heard.send = _text({"id": 1, "connect": {}})
        payloads, talk.data = take_frames(talk.data)
        for payload in payloads:
            for line in payload.splitlines():
                if line.startswith(b"{"):
                    self._reply(talk, json.loads(line), heard)
        return heard

    def _reply(self, talk: Talk, reply: dict[str, dict[str, object]], heard: Heard) -> None:
        if not reply:
            heard.send += _text({})  # a ping, and its answer
        elif "error" in reply:
            raise ValueError(str(reply["error"]))
        elif "connect" in reply:
            asked = {"channel": f"{NAMESPACE}:{CLOCK}", "recover": True}
            heard.send += _text({"id": 2, "subscribe": asked})
        elif "subscribe" in reply:
            heard.live, talk.stage = True, 2
            for publication in reply["subscribe"].get("publications") or ():  # type: ignore[attr-defined]
                heard.value = max(heard.value, publication["data"])
        elif "push" in reply and "pub" in reply["push"]:
            heard.value = max(heard.value, reply["push"]["pub"]["data"])  # type: ignore[index]


class NatsKv:
    """Clients that watch a key of a NATS KV bucket. Their publishers wait for the stream's acknowledgement."""

    timeout_s = 2.0
    again_s, jitter_s = 2.0, 0.1

    def __init__(self) -> None:
        self.publishing = Publishing(_publish_to_stream, lambda data: b'"seq":' in data)

    def first(self) -> bytes:
        """Return the greeting, and the request for a consumer, in one write."""
        inbox = _inbox()
        config = {
            "deliver_policy": "last_per_subject", "filter_subject": f"$KV.{NAMESPACE}.{CLOCK}", "ack_policy": "none",
            "deliver_subject": f"{inbox}.d", "max_deliver": 1, "inactive_threshold": 300_000_000_000,
            "mem_storage": True, "num_replicas": 1,
        }  # fmt: skip
        asked = json.dumps({"stream_name": f"KV_{NAMESPACE}", "config": config}).encode()
        return (
            _greeting()
            + f"SUB {inbox}.d 1\r\n".encode()
            + _asked(f"$JS.API.CONSUMER.CREATE.KV_{NAMESPACE}", asked, inbox)
        )

    def prepare(self) -> bytes:
        """Return the request for the bucket's stream."""
        config = {
            "name": f"KV_{NAMESPACE}", "subjects": [f"$KV.{NAMESPACE}.>"], "max_msgs_per_subject": 1, "storage": "file",
            "discard": "new", "allow_rollup_hdrs": True, "deny_delete": True, "num_replicas": 1,
            "max_consumers": CONSUMERS_MAX,
        }  # fmt: skip
        return _greeting() + _asked(f"$JS.API.STREAM.CREATE.KV_{NAMESPACE}", json.dumps(config).encode(), _inbox())

    def wait_s(self, failures: int, random: Random) -> float:
        """Return 2 s and a draw from U(0, 0.1 s)."""
        del failures
        return self.again_s + random.uniform(0, self.jitter_s)

    def take(self, talk: Talk, data: bytes) -> Heard:
        """Take lines and messages."""
        talk.data += data
        heard = Heard()
        while b"\r\n" in talk.data:
            line, _, rest = talk.data.partition(b"\r\n")
            if line.startswith(b"MSG "):
                size = int(line.rpartition(b" ")[2])
                if len(rest) < size + 2:
                    break
                self._message(line.split()[2], rest[:size], talk, heard)
                rest = rest[size + 2 :]
            elif line == b"PING":
                heard.send += b"PONG\r\n"
            elif line.startswith(b"-ERR"):
                raise ValueError(line.decode())
            talk.data = rest
        return heard

    def _message(self, subscription: bytes, body: bytes, talk: Talk, heard: Heard) -> None:
        if subscription == b"1":
            heard.value = max(heard.value, int(body))
        elif b'"error"' in body:
            raise ValueError(body.decode())
        else:
            heard.live, talk.stage = True, 1


def _text(command: dict[str, object]) -> bytes:
    payload = json.dumps(command, separators=(",", ":")).encode()
    size = bytes((0x81, 0x80 | len(payload))) if len(payload) < 126 else b"\x81\xfe" + len(payload).to_bytes(2, "big")
    return size + b"\0\0\0\0" + payload


def _greeting() -> bytes:
    return b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"0","protocol":1}\r\n'


def _inbox() -> str:
    """Return a subject that no other client subscribes to."""
    return f"_INBOX.{secrets.token_hex(8)}"


def _asked(subject: str, body: bytes, inbox: str) -> bytes:
    """Return a subscription for the answer, and the request."""
    return f"SUB {inbox}.r 2\r\nPUB {subject} {inbox}.r {len(body)}\r\n".encode() + body + b"\r\n"


def _publish_over_http(topic: str, value: int) -> bytes:
    body = json.dumps({"channel": f"{NAMESPACE}:{topic}", "data": value}).encode()
    head = "POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _publish_to_stream(topic: str, value: int) -> bytes:
    return _greeting() + _asked(f"$KV.{NAMESPACE}.{topic}", str(value).encode(), _inbox())


PROTOCOLS: dict[str, type[PeerProtocol]] = {"centrifugo": Centrifugo, "nats": NatsKv}
