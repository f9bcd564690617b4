"""A node that does what a test tells it, behind memory streams: real HTTP and WebSocket framing, no sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import h11
import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import ProtocolError

from softstate.model import Durability
from softstate.position import Position
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Limits, PollAdvice, RecoverAdvice, Welcome

HERE = Position("e", "l", 5)

WELCOME = Welcome(
    session="s",
    resumed=False,
    node="n",
    position=HERE,
    ttl_ms=60_000,
    renew_ms=20_000,
    timeout_ms=5_000,
    poll=PollAdvice(15_000, 1_000),
    recover=RecoverAdvice(1_000, 500, 30_000),
    limits=Limits(10_000, 65_536, 1_048_576, 1024, 100_000, 600_000, 1_024, 4_096, 16_384),
    durability=Durability.DURABLE,
)


@dataclass
class HttpRequest:
    """One HTTP request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """The answer to give; status 0 breaks the connection off, before (`partial` empty) or within the answer."""

    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    partial: bytes = b""

    @classmethod
    def of(cls, body: object, codec: Codec = CBOR, status: int = 200, **headers: str) -> Answer:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return cls(status, codec.dumps(body), [("Content-Type", codec.content_type), *named])


class Tracked(trio.abc.Stream):
    """The client's end of a stream; knows whether it was closed, and can be made to stop taking or giving bytes."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.closed = False
        self.blocked = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.blocked:
            await trio.sleep_forever()
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed = True
        await self.inner.aclose()


class _Replayed(Tracked):
    def __init__(self, inner: trio.abc.Stream, first: bytes) -> None:
        super().__init__(inner)
        self.first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.first:
            data, self.first = self.first, b""
            return data
        return await self.inner.receive_some(max_bytes)


Http = Callable[[HttpRequest], Awaitable[Answer]]
Sockets = Callable[[WebSocketConnection], Awaitable[None]]


@dataclass
class ScriptedNode:
    """Answers HTTP with `http` (default: 404) and WebSocket with `websocket` (default: 404)."""

    nursery: trio.Nursery
    http: Http | None = None
    websocket: Sockets | None = None
    refusal: Answer = field(default_factory=lambda: Answer(404))
    raw: Callable[[trio.abc.Stream], Awaitable[None]] | None = None
    """Serves the bare stream instead."""
    fail: OSError | None = None
    """Raised by every attempt to open a stream."""
    streams: list[Tracked] = field(default_factory=list)
    opened: list[tuple[str, int, bool]] = field(default_factory=list)
    asked: list[HttpRequest] = field(default_factory=list)
    messages: list[object] = field(default_factory=list)
    """Messages that WebSocket clients sent, decoded, if `websocket` uses `receive`."""

    async def open_stream(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
        self.opened.append((host, port, tls))
        await trio.lowlevel.checkpoint()
        if self.fail is not None:
            raise self.fail
        ours, theirs = memory_stream_pair()
        stream = Tracked(theirs)
        self.streams.append(stream)
        self.nursery.start_soon(self._serve, ours)
        return stream

    def all_closed(self) -> bool:
        return all(stream.closed for stream in self.streams)

    async def receive(self, ws: WebSocketConnection) -> object:
        data = await ws.get_message()
        message = (JSON if isinstance(data, str) else CBOR).client_message(data)
        self.messages.append(message)
        return message

    async def _serve(self, stream: trio.abc.Stream) -> None:
        try:
            if self.raw is not None:
                await self.raw(stream)
            else:
                await self._serve_http(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_http(self, stream: trio.abc.Stream) -> None:
        http = h11.Connection(h11.SERVER)
        while True:
            raw = b""
            asked: HttpRequest | None = None
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    data = bytes(await stream.receive_some())
                    raw += data
                    http.receive_data(data)
                elif isinstance(event, h11.Request):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    asked = HttpRequest(event.method.decode(), event.target.decode(), headers, b"")
                    if "upgrade" in headers and self.websocket is not None:
                        await self._serve_websocket(_Replayed(stream, raw))
                        return
                elif isinstance(event, h11.Data) and asked is not None:
                    asked.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    return
            assert asked is not None
            self.asked.append(asked)
            if "upgrade" in asked.headers:
                answer = self.refusal
            else:
                answer = await self.http(asked) if self.http is not None else Answer(404)
            if answer.status == 0:
                if answer.partial:
                    await stream.send_all(answer.partial)
                return
            head = h11.Response(
                status_code=answer.status, headers=[*answer.headers, ("Content-Length", str(len(answer.body)))]
            )
            parts = [http.send(head), http.send(h11.Data(data=answer.body)), http.send(h11.EndOfMessage())]
            await stream.send_all(b"".join(part for part in parts if part))
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _serve_websocket(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            ws = await request.accept(subprotocol=request.proposed_subprotocols[0])
            try:
                assert self.websocket is not None
                await self.websocket(ws)
                await ws.aclose()
            except (ConnectionClosed, ProtocolError):
                pass
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
