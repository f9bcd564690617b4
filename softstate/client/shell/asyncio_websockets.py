"""WebSocket connections by websockets, for clients under asyncio: the only module that imports it.

Of that library, only its protocol without I/O is used. The task that waits for a message reads the stream, or one that
closes the connection: whichever comes first, and the other has what it read.
(Nothing here is asyncio's own: tests run it under Trio as well.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import final

import anyio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from softstate.client.shell.sockets import CLOSE_TIMEOUT_S, MESSAGE_BYTES_MAX, Gone, HandshakeFailed, gone, refusal
from softstate.client.url import NodeUrl
from softstate.http_client.streams import RECEIVE_BYTES, STREAM_ERRORS, Stream, cut
from softstate.wire import Codec

TAKEN_MAX = 16
"""Messages of one read that are taken in a row without letting other tasks run, if there are so many."""


@final
class AsyncioWebSocket:
    """One open connection, a `softstate.client.shell.sockets.WebSocket`."""

    def __init__(self, protocol: ClientProtocol, stream: Stream) -> None:
        self._protocol = protocol
        self._stream = stream
        self._reads = anyio.Lock(fast_acquire=True)
        self._writes = anyio.Lock(fast_acquire=True)
        self._arrived: deque[bytes | str] = deque()
        self._parts: list[bytes] = []
        self._text = False
        self._taken = 0
        self._torn = False
        self._ended = anyio.Event()

    async def send(self, *messages: bytes | str) -> None:
        """See `WebSocket`."""
        self._torn = True
        if self._ended.is_set() or self._protocol.state is not State.OPEN:
            self._torn = False
            raise self._gone()
        for message in messages:
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        await self._flush()
        self._torn = False

    async def receive(self) -> bytes | str:
        """See `WebSocket`. A pass of the loop for each message would cost as much as the message."""
        self._taken += 1
        if self._arrived and self._taken > TAKEN_MAX:
            self._taken = 1
            await anyio.lowlevel.checkpoint()
        while not self._arrived:
            if self._ended.is_set():
                raise self._gone()
            await self._read()
        return self._arrived.popleft()

    async def aclose(self, code: int = 1000) -> None:
        """See `WebSocket`."""
        try:
            if not self._torn:
                with anyio.move_on_after(CLOSE_TIMEOUT_S):
                    await self._say_goodbye(code)
        finally:
            self._ended.set()
            await cut(self._stream)

    async def _say_goodbye(self, code: int) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            try:
                await self._flush()
            except Gone:
                return
        while not self._ended.is_set():
            await self._read()
            self._arrived.clear()

    async def _read(self) -> None:
        """Read once, and answer what the protocol answers by itself. Safe to cancel.

        If another task reads, wait for what it got instead.
        """
        async with self._reads:
            if not self._arrived and not self._ended.is_set():
                await self._read_alone()

    async def _read_alone(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            self._taken = 1
        except STREAM_ERRORS:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if not data or self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None:
            self._ended.set()
        try:
            await self._flush()
        except Gone:
            self._ended.set()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._text, self._parts = frame.opcode is Opcode.TEXT, []
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = []
            try:
                self._arrived.append(message.decode() if self._text else message)
            except UnicodeDecodeError:
                self._protocol.fail(1007, "text that is not UTF-8")
                self._ended.set()

    async def _flush(self) -> None:
        """Write what the protocol has to say, in its order. Raises `Gone`."""
        data = b"".join(self._protocol.data_to_send())
        if not data:
            return
        try:
            async with self._writes:  # which is first come, first served
                await self._stream.send_all(data)
        except STREAM_ERRORS:
            raise self._gone() from None
        except anyio.get_cancelled_exc_class():  # part of a frame may be on the wire
            self._torn = True
            await cut(self._stream)
            raise

    def _gone(self) -> Gone:
        protocol = self._protocol
        closed = protocol.close_rcvd
        if closed is None and not isinstance(protocol.parser_exc, EOFError | None):
            closed = protocol.close_sent  # the node breaks the protocol: this end said so
        return gone(None, None) if closed is None else gone(int(closed.code), closed.reason)


async def handshake(url: NodeUrl, codec: Codec, stream: Stream, headers: Sequence[tuple[str, str]]) -> AsyncioWebSocket:
    """Make the handshake on a stream. Raises `HandshakeFailed`, or one of `STREAM_ERRORS`.

    It may stand still without end: cancel it. The stream is its caller's to close.
    """
    uri = WebSocketURI(url.tls, "localhost", url.port, url.target("/v1/ws"), "", None, None)
    wanted = Subprotocol(codec.protocol)
    protocol = ClientProtocol(uri, subprotocols=[wanted], max_size=MESSAGE_BYTES_MAX)
    protocol.debug = False  # it would log headers and messages, and with them the token
    request = protocol.connect()
    del request.headers["Host"]
    request.headers["Host"] = url.authority
    for name, value in headers:
        request.headers[name] = value
    protocol.send_request(request)
    await stream.send_all(b"".join(protocol.data_to_send()))
    websocket = AsyncioWebSocket(protocol, stream)
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        data = await stream.receive_some(RECEIVE_BYTES)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        if not data and protocol.handshake_exc is None and protocol.state is State.CONNECTING:
            raise HandshakeFailed(f"{url} broke off the handshake")
    failure = protocol.handshake_exc
    if isinstance(failure, InvalidStatus):
        raise _refusal(url, failure.response)
    if failure is not None:
        raise HandshakeFailed(f"{url} broke off the handshake")
    if protocol.subprotocol != wanted:
        raise HandshakeFailed(f"{url} does not speak {codec.protocol}")
    for event in protocol.events_received():
        if isinstance(event, Frame):
            websocket._take(event)  # noqa: SLF001 - this module's own
    return websocket


def _refusal(url: NodeUrl, response: Response) -> HandshakeFailed:
    headers = [
        (name.lower().encode(errors="replace"), value.encode(errors="replace"))
        for name, value in response.headers.raw_items()
    ]
    return refusal(url, response.status_code, headers, response.body or b"")
