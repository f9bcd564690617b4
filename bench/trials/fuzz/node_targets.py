"""Targets: a node's HTTP server and its WebSocket sessions, over streams in memory and in virtual time.

After each input the node must still serve another client, and hold nothing of the connection when its lease has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import h11
import trio

from bench.trials.fuzz.mutation import ODD_JSON, as_cbor, as_json, damage, draw, form_of, mutate, value
from bench.trials.fuzz.streams import KEY, MemoryEdge, connect, frame, frames_in, odd_frame, read_all
from bench.trials.fuzz.target import Broken, Target, check_length, deadline
from softstate.lease import GRACE
from softstate.server import Node, ServerConfig
from softstate.server.bulkhead import Bulkhead
from softstate.store import MemoryDisk, MemoryStore
from softstate.wire import CBOR, CODECS, JSON, Codec
from softstate.wire.messages import Batch, ClientMessage, Error, Hello, Poll, Publish, Subscribe

CONFIG = ServerConfig(ttl_ms=1_000, hello_s_max=1.0, head_s_max=1.0, body_s_max=1.0, idle_s_max=2.0, hold_ms_max=500)
PAUSE_S = 0.5
"""Time that a peer waits before it ends its side, by which the node has sent all answers."""

REPLY_FACTOR_MAX = 4
REPLY_BYTES_MAX = 1024 * 1024
"""A node may send so much, plus so many times the bytes it got. (Repeated requests for all topics are allowed.)"""


class NodeTarget(Target):
    """A node on a memory store, shared by the inputs of one run."""

    virtual = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run a node."""
        async with trio.open_nursery() as nursery:
            self.store = MemoryStore(MemoryDisk())
            self.node = Node(
                CONFIG, self.store, await self.store.head(), jitter=Random(0), bulkhead=Bulkhead(strict=True)
            )
            await self.node.start(nursery)
            yield
            nursery.cancel_scope.cancel()

    async def talk(self, *parts: bytes) -> bytes:
        """Send the parts one after the other, then the end; return all data until the node closes."""
        data = b"".join(parts)
        ours, theirs = connect()
        received = b""
        with deadline("open"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, theirs)
                for part in parts:
                    with suppress(trio.BrokenResourceError):
                        await ours.send_all(part)
                    await trio.sleep(PAUSE_S)
                await ours.send_eof()
                received = await read_all(ours)
        if len(received) > REPLY_BYTES_MAX + REPLY_FACTOR_MAX * len(data):
            raise Broken(f"{len(data)} bytes were answered with {len(received)}")
        return received

    async def _serve(self, stream: MemoryEdge) -> None:
        await self.node.serve_stream(stream)

    async def check_unharmed(self) -> None:
        """Check that the node's tables are empty, and that another client is served over HTTP and WebSocket."""
        node = self.node
        await trio.sleep(2 * CONFIG.ttl_ms / 1000 * (1 + GRACE))
        left = {
            "connections": node.connections,
            "sockets": len(node.sockets),
            "leases": len(node.leases),
            "held requests": node.http.statistics().holds,
            "http connections": node.http.statistics().connections,
        }
        if any(left.values()):
            raise Broken(f"left behind: {left}")
        await self._serve_another()

    async def _serve_another(self) -> None:
        messages = [
            Hello(), Subscribe(1, {"fine": 0}), Publish(2, "fine", value=1),
        ]  # fmt: skip
        said = b"".join(frame(1, JSON.encode(message), masked=True) for message in messages)
        replies = await self.talk(handshake(JSON), said)
        answered = {getattr(message, "topic", type(message).__name__) for message in replied(replies, JSON)}
        if not {"Welcome", "Subscribed", "fine"} <= answered:
            raise Broken(f"another client was answered only {answered}")
        answer = await self.talk(b"GET /v1/topics/fine HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise Broken(f"another client was answered {answer[:80]!r}")


def handshake(codec: Codec) -> bytes:
    """Return a valid handshake."""
    return (
        b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Protocol: " + codec.protocol.encode() + b"\r\n\r\n"
    )


def replied(received: bytes, codec: Codec) -> list[Any]:
    """Decode a node's data after a handshake. Raises `Broken` unless all of it is well-formed."""
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise Broken(f"a valid handshake was answered {head[:80]!r}")
    messages = []
    for first, payload in frames_in(rest):
        if first & 0x0F in (1, 2):
            message = codec.server_message(payload)
            messages.append(message)
            if isinstance(message, Error):
                check_length(message.message)
    return messages


class SocketTarget(NodeTarget):
    """Frames after a valid handshake; the first byte chooses the codec."""

    name = "websocket"

    def make(self, random: Random) -> bytes:
        """Send `hello` mostly, then some messages, some of them mutated."""
        codec = random.choice([CBOR, JSON])
        write, odd = form_of(codec)
        opcode = 1 if codec.text else 2
        parts = [frame(opcode, write({"op": "hello"}), masked=True)] if random.random() < 0.9 else []
        for _ in range(random.randrange(1, 8)):
            if random.random() < 0.15:
                parts.append(odd_frame(random, masked=True))
                continue
            tree = draw(ClientMessage, random)
            if random.random() < 0.5:
                tree = mutate(tree, random, odd)
            payload = write(tree)
            parts.append(frame(opcode, damage(payload, random) if random.random() < 0.2 else payload, masked=True))
        data = b"".join(parts)
        return bytes((codec.text,)) + (damage(data, random) if random.random() < 0.3 else data)

    async def check(self, data: bytes) -> str:
        """Send the frames; all answers must be well-formed."""
        codec = JSON if data[:1] == b"\x01" else CBOR
        messages = replied(await self.talk(handshake(codec), data[1:]), codec)
        await self.check_unharmed()
        return type(messages[-1]).__name__ if messages else "silence"


class HttpTarget(NodeTarget):
    """Requests of any kind, handshakes among them."""

    name = "http"

    def make(self, random: Random) -> bytes:
        """Write one or two requests, and damage them."""
        data = b"".join(_request(random) for _ in range(random.choice([1, 1, 2])))
        return damage(data, random, [_request(random)]) if random.random() < 0.7 else data

    async def check(self, data: bytes) -> str:
        """Send the requests; all answers must be HTTP, without unexpected 5xx."""
        received = await self.talk(data)
        await self.check_unharmed()
        return _statuses(received)


PATHS = (
    b"/v1/topics", b"/v1/topics?prefix=a%2F&since=1&limit=2", b"/v1/topics/a", b"/v1/topics/f%C3%BCr/%E2%98%83",
    b"/v1/topics/a?wait_ms=100&at_least=1", b"/v1/topics/a//b", b"/v1/poll", b"/v1/publish", b"/v1/status", b"/healthz",
    b"/readyz", b"/metrics", b"/v1/ws", b"http://x/v1/topics/a", b"*", b"/v1/topics/%ff", b"/v1/topics?cursor=1-2-3",
)  # fmt: skip
HEADERS = (
    b'If-Match: "a.b.1"', b"If-Match: *", b'If-None-Match: "a.b.1", W/"c"', b"If-None-Match: *", b"Idempotency-Key: k",
    b"Accept: application/cbor", b"Accept: */*;q=0.1, application/json;q=0", b"Origin: http://x", b"Origin: http://y",
    b"Content-Type: application/cbor", b"Expect: 100-continue", b"Connection: close", b"Connection: Upgrade",
    b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY, b"Host: \xff",
    b"X-Odd: \xff\xfe",
    *(b"Sec-WebSocket-Protocol: " + protocol.encode() for protocol in CODECS), b"Transfer-Encoding: chunked",
    b"Content-Length: 99999999999999999999999", b'If-None-Match: "a"' + b" " * 12_000 + b"x",
    b"Accept: " + b"a;" * 5_000,
)  # fmt: skip


def _request(random: Random) -> bytes:
    if random.random() < 0.2:
        head = handshake(random.choice([CBOR, JSON]))
        extra = random.choice(HEADERS) + b"\r\n\r\n"
        return head[:-2] + extra if random.random() < 0.5 else head + frame(1, b'{"op":"hello"}', masked=True)
    body = random.choice([
        b"", b"", as_json(draw(Poll, random)), as_json(draw(Batch, random)), as_json(value(random)),
        as_cbor(draw(Poll, random)), as_json(mutate(draw(Batch, random), random, ODD_JSON)),
    ])  # fmt: skip
    lines = [random.choice([b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"BREW"]) + b" "]
    lines[0] += random.choice(PATHS) + b" HTTP/1.1"
    lines += [b"Host: 127.0.0.1", *random.sample(HEADERS, random.choice([0, 0, 1, 2, 4]))]
    if body and random.random() < 0.9:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def _statuses(received: bytes) -> str:
    """Return the status of the first final answer."""
    if not received:
        return "silence"
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost"), ("Upgrade", "websocket")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(received)
    event = reader.next_event()
    while isinstance(event, h11.InformationalResponse) and event.status_code == 100:
        event = reader.next_event()
    if isinstance(event, h11.InformationalResponse):
        return "upgraded"
    if not isinstance(event, h11.Response):
        raise Broken(f"the answer is not HTTP: {received[:80]!r}")
    if event.status_code >= 500 and event.status_code not in (501, 503, 505):
        raise Broken(f"answered {event.status_code}")
    return str(event.status_code)
