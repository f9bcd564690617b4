"""Targets: the client's readers of a node's answers, over HTTP and over WebSocket."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import trio
from wsproto.utilities import generate_accept_token

from bench.trials.fuzz.mutation import ODD_CBOR, as_cbor, damage, draw, form_of, mutate
from bench.trials.fuzz.streams import connect, frame, odd_frame
from bench.trials.fuzz.target import Target, check_length, deadline
from softstate.client.requests.reply import HttpFailed
from softstate.client.shell.http import HttpClient
from softstate.client.shell.sockets import Gone, HandshakeFailed
from softstate.client.shell.websocket import open_websocket
from softstate.client.url import parse_url
from softstate.errors import Invalid, RequestError
from softstate.wire import CBOR, JSON
from softstate.wire.messages import BatchResults, Error, Polled, ServerMessage

URL = parse_url("ws://node")
ACCEPT = b"{ACCEPT}"
"""Placeholder in an input for the accept token, which depends on the client's nonce."""

TIMEOUT_S = 5.0


class ClientTarget(Target):
    """A peer that waits for a request, sends the input as the answer, and closes."""

    virtual = True

    def __init__(self) -> None:
        self.opened: list[trio.abc.Stream] = []
        self.data = b""
        self.nursery: trio.Nursery

    async def open_stream(self, _host: str, _port: int, _tls: bool) -> trio.abc.Stream:
        """Open a connection to the peer."""
        ours, theirs = connect()
        self.nursery.start_soon(self._answer, ours)
        self.opened.append(theirs)
        return theirs

    async def _answer(self, stream: trio.abc.Stream) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            some = bytes(await stream.receive_some())
            if not some:
                return
            asked += some
        _, _, rest = asked.partition(b"Sec-WebSocket-Key: ")
        token = generate_accept_token(rest.partition(b"\r\n")[0])
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(self.data.replace(ACCEPT, token))
        await stream.aclose()

    async def check(self, data: bytes) -> str:
        """Send a request, and read the answer."""
        self.data = data
        outcome = ""
        with deadline("waiting"):
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                outcome = await self.ask(nursery)
                nursery.cancel_scope.cancel()
        return outcome

    async def ask(self, nursery: trio.Nursery) -> str:
        """Send the requests of this target; return the result in a word."""
        raise NotImplementedError


class ClientHttpTarget(ClientTarget):
    """Answers to a poll."""

    name = "client-http"

    def make(self, random: Random) -> bytes:
        """Write an answer, mutate and damage it."""
        codec = CBOR if random.random() < 0.5 else JSON
        form = form_of(codec)
        tree = draw(random.choice([Polled, BatchResults, Error]), random)
        if random.random() < 0.5:
            tree = mutate(tree, random, form.odd)
        body = form.write(tree)
        status = random.choice(
            [b"200 OK", b"200", b"204 No", b"304 x", b"101 x", b"100 x", b"404 x", b"429 x", b"503 x"]
        )
        lines = [b"HTTP/1.1 " + status, b"Content-Type: " + codec.content_type.encode()]
        lines += random.sample(
            [b"Retry-After: 5", b"Retry-After: " + b"9" * 5_000, b"Connection: close", b"X: \xff"], 1
        )
        framing = random.choice([b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked", b"X: y"])
        if framing.startswith(b"T"):
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        data = b"\r\n".join([*lines, framing, b"", body])
        return damage(data, random, [data]) if random.random() < 0.7 else data

    async def ask(self, nursery: trio.Nursery) -> str:
        """Send two requests, the second on a kept connection."""
        del nursery
        outcome = ""
        client = HttpClient(self.open_stream, CBOR)
        for kind in (Polled, BatchResults):
            try:
                reply = await client.request(URL, "POST", "/v1/poll", body=b"\xa0", timeout_s=TIMEOUT_S)
                check_length(str(reply.error()))
                reply.decode(kind)
                outcome = outcome or "understood"
            except (HttpFailed, RequestError) as error:
                check_length(str(error))
                outcome = outcome or type(error).__name__
        await client.aclose()
        return outcome


class ClientSocketTarget(ClientTarget):
    """An answer to the handshake, and frames after it."""

    name = "client-ws"

    def make(self, random: Random) -> bytes:
        """Accept mostly, then send messages, and damage the bytes."""
        lines = [
            b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + ACCEPT, b"Sec-WebSocket-Protocol: " + CBOR.protocol.encode(),
        ]  # fmt: skip
        if random.random() < 0.3:
            at = random.randrange(len(lines))
            lines[at] = damage(lines[at], random)
        if random.random() < 0.1:
            lines.append(
                random.choice([b"Sec-WebSocket-Extensions: permessage-deflate", b"Connection: \xff", b"X: \xff"])
            )
        parts = [b"\r\n".join([*lines, b"", b""])]
        parts += [
            _frame(random) if random.random() < 0.7 else odd_frame(random, masked=False)
            for _ in range(random.randrange(6))
        ]
        data = b"".join(parts)
        return damage(data, random) if random.random() < 0.3 else data

    async def ask(self, nursery: trio.Nursery) -> str:
        """Connect, and read to the end, as a client's shell does."""
        try:
            socket = await open_websocket(nursery, URL, CBOR, self.open_stream, TIMEOUT_S)
        except HandshakeFailed as error:
            check_length(str(error))
            return "no handshake"
        understood: Any = "silence"
        try:
            while True:
                understood = type(CBOR.server_message(await socket.receive())).__name__
        except (Gone, Invalid) as error:
            check_length(str(error))
        except RequestError as error:
            check_length(str(error))
            understood = "unsupported"
        finally:
            await socket.aclose()
        return str(understood)


def _frame(random: Random) -> bytes:
    tree = draw(ServerMessage, random)
    payload = as_cbor(mutate(tree, random, ODD_CBOR) if random.random() < 0.5 else tree)
    return frame(2, damage(payload, random) if random.random() < 0.3 else payload, masked=False)
