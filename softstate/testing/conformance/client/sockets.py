"""Level 4, the node's side: a port that takes requests and WebSockets, and does with each what it is told."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import final

import h11
import trio

from softstate.testing.conformance.client.form import Json
from softstate.wire import CBOR, decode_value, encode_value
from softstate.wire.websocket.events import PeerClose, Ping, Pong, Received, Violation
from softstate.wire.websocket.frame_reader import FrameReader
from softstate.wire.websocket.frames import OPCODE_BINARY, OPCODE_PING, OPCODE_TEXT, close_frame, pong_frame

ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The text that RFC 6455 has added to the key of a handshake."""

MESSAGE_BYTES_MAX = 1 << 20
"""Longest message or body that is taken."""

WAITING_MAX = 1_000
"""Most messages, requests and connections that wait to be taken, of each."""


@final
class Asked:
    """A request, whose connection waits for the answer."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: Json | None) -> None:
        self.form: Json = {"method": method, "path": path, "headers": headers, "body": body}
        self.answer: Json | None = None
        self.answered = trio.Event()
        self.gone = False


@final
class Socket:
    """One WebSocket, from its handshake on. `arrived` has its messages, pongs and its end."""

    def __init__(self, stream: trio.abc.Stream, form: Json, key: str, protocol: str) -> None:
        self.form = form
        self._stream = stream
        self._reader = FrameReader(MESSAGE_BYTES_MAX)
        self._closing = False
        self._key = key
        self._binary = protocol == CBOR.protocol
        self._protocol = protocol
        self._put, self.arrived = trio.open_memory_channel[Json](WAITING_MAX)

    async def accept(self) -> None:
        """Answer the handshake."""
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        accept = base64.b64encode(hashlib.sha1((self._key + ACCEPT_GUID).encode()).digest()).decode()  # noqa: S324
        lines += [f"Sec-WebSocket-Accept: {accept}"]
        lines += [f"Sec-WebSocket-Protocol: {self._protocol}", "", ""]
        await self._stream.send_all("\r\n".join(lines).encode())

    async def refuse(self, answer: Json) -> None:
        """Answer the handshake with something else, and close."""
        await self._stream.send_all(response(answer))
        await self._stream.aclose()

    async def send(self, message: Json, parts: int = 1) -> None:
        """Send a message, in so many frames."""
        data = encode_value(message) if self._binary else json.dumps(message, ensure_ascii=False).encode()
        step, opcode = max(1, math.ceil(len(data) / parts)), OPCODE_BINARY if self._binary else OPCODE_TEXT
        for start in range(0, len(data), step):
            last = start + step >= len(data)
            await self.raw(_frame(opcode if start == 0 else 0, data[start : start + step], last=last))

    async def ping(self, text: str) -> None:
        """Send a ping."""
        await self.raw(_frame(OPCODE_PING, text.encode()))

    async def raw(self, data: bytes) -> None:
        """Send bytes. If the client has closed, nothing happens here: its end arrives."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def close(self, code: int) -> None:
        """Send a close frame; the end arrives when the client has answered, or has gone."""
        self._closing = True
        await self.raw(close_frame(code))

    async def cut(self) -> None:
        """Reset the connection."""
        if isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self._stream)

    async def read(self) -> None:
        """Read until the end."""
        while True:
            try:
                data = bytes(await self._stream.receive_some(65_536))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                await self._put.send({"end": None})
                return
            for received in self._reader.feed(data):
                await self._take(received)

    async def _take(self, received: Received) -> None:
        match received:
            case str():
                await self._put.send(json.loads(received))
            case bytes():
                await self._put.send(decode_value(received))
            case Ping():
                await self.raw(pong_frame(received.payload))
            case Pong():
                await self._put.send({"pong": received.payload.decode()})
            case PeerClose():
                await self._put.send({"end": received.code})
                if not self._closing:
                    await self.close(1000)
            case Violation():
                await self._put.send({"broken": received.reason})


def _frame(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    first, size = opcode | (0x80 if last else 0), len(data)
    if size < 126:
        return bytes((first, size)) + data
    return (
        struct.pack(">BBH", first, 126, size) + data if size < 65_536 else struct.pack(">BBQ", first, 127, size) + data
    )


@final
class Port:
    """Listens, and hands out WebSockets and requests in the order in which they came."""

    def __init__(self) -> None:
        self._put_socket, self.sockets = trio.open_memory_channel[Socket](WAITING_MAX)
        self._put_asked, self.asked = trio.open_memory_channel[Asked](WAITING_MAX)

    async def serve(
        self, address: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; tell the port."""
        (listener,) = await trio.open_tcp_listeners(port, host=address)
        async with trio.open_nursery() as nursery:
            serve: Callable[..., Awaitable[None]] = trio.serve_listeners
            nursery.start_soon(serve, self.connection, [listener])
            task_status.started(listener.socket.getsockname()[1])

    async def connection(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until it ends."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
        try:
            while (found := await _request(stream, http)) is not None:
                if isinstance(found, Socket):
                    await self._put_socket.send(found)
                    await found.read()
                    return
                await self._put_asked.send(found)
                await self._answered(stream, found)
                if not found.answered.is_set():
                    return
                http.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                http.send(h11.EndOfMessage())
                if http.our_state is not h11.DONE:
                    return
                http.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    @staticmethod
    async def _answered(stream: trio.abc.Stream, asked: Asked) -> None:
        """Wait for the answer, and send it; or until the client has hung up."""
        async with trio.open_nursery() as nursery:

            async def hang_up() -> None:
                if not await stream.receive_some(1):
                    asked.gone = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(hang_up)
            await asked.answered.wait()
            nursery.cancel_scope.cancel()
        if asked.answer is not None:
            await stream.send_all(response(asked.answer))


async def _request(stream: trio.abc.Stream, http: h11.Connection) -> Asked | Socket | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(65_536)))
        elif isinstance(event, h11.Request):
            head = event
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            if headers.get("upgrade", "").lower() == "websocket":
                form = {"path": event.target.decode(), "headers": headers}
                offered = headers.get("sec-websocket-protocol", "").split(",")[0].strip()
                return Socket(stream, form, headers.get("sec-websocket-key", ""), offered)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            return Asked(head.method.decode(), head.target.decode(), headers, _body(headers, bytes(body)))
        else:
            return None


def _body(headers: dict[str, str], body: bytes) -> Json | None:
    if not body:
        return None
    found: Json = decode_value(body) if headers.get("content-type") == CBOR.content_type else json.loads(body)
    return found


def response(answer: Json) -> bytes:
    """Return the bytes of an answer: `status`, `headers`, and `body`, as JSON."""
    body = json.dumps(answer["body"]).encode() if "body" in answer else b""
    headers = {"Content-Type": "application/json", **answer.get("headers", {}), "Content-Length": str(len(body))}
    lines = [f"HTTP/1.1 {answer.get('status', 200)} Scripted", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
