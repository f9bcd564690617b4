"""Streams, and WebSocket connections on them: the only module of the client that imports trio_websocket.

It does what trio-websocket leaves to its user: every wait has a deadline, a handshake that the node breaks off ends at
once instead of never, and a connection on which a send was cut short is never used again, since part of a frame is then
on the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast, final

import h11
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError

from softstate.client.requests.reply import ERROR_CHARS_MAX, retry_after_ms
from softstate.client.shell.trust import mistrust
from softstate.client.url import NodeUrl
from softstate.errors import ERRORS_BY_CODE, Invalid, RequestError
from softstate.http_client.streams import RECEIVE_BYTES, STREAM_ERRORS, OpenStream, reason
from softstate.wire import JSON, Codec
from softstate.wire.messages import Error

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""Longest message or HTTP body taken from a node: well above what nodes send by default (1 MiB)."""

CLOSE_TIMEOUT_S = 1.0
"""How long the closing handshake may take before the stream is simply closed."""

NO_CLOSE_CODE = (1005, 1006)
"""Codes that stand for the absence of one (RFC 6455 section 7.4.1)."""


class HandshakeFailed(Exception):
    """No WebSocket came to be. `status` is the HTTP status, `retry_ms` the Retry-After, if the node answered at all.

    `error` is what the body of its answer says, if that is an error of a node. `unsent`: no stream came to be.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        retry_ms: int | None = None,
        error: RequestError | None = None,
        *,
        unsent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_ms = retry_ms
        self.error = error
        self.unsent = unsent


class Gone(Exception):
    """The connection has ended. `code` is the close code, if there was one."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@final
class _Gathering(trio.abc.Stream):
    """A stream that can gather what is sent on it, so that several messages are sent at once.

    Sent one by one, `hello` and what goes with it (P-CLI-16) would reach the node in pieces, and cost it two reads.

    Writes take turns here: trio-websocket has a lock for its own sends, but knows nothing of what was gathered, and its
    reading task answers pings and closes at any moment. Frames are written in the order in which wsproto made them. If
    a write is cancelled, waiting for its turn or in the middle, the stream is closed: nothing may follow part of a
    frame.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.gathers = False
        self._stream = stream
        self._gathered: list[bytes] = []
        self._turns = trio.StrictFIFOLock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.gathers:
            self._gathered.append(bytes(data))
        else:
            await self._write(data)

    async def send_gathered(self) -> None:
        """Send what was gathered, if anything, and gather no more."""
        self.gathers = False
        gathered, self._gathered = self._gathered, []
        if gathered:
            await self._write(b"".join(gathered))

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            async with self._turns:
                await self._stream.send_all(data)
        except trio.Cancelled:
            await trio.aclose_forcefully(self)
            raise

    async def wait_send_all_might_not_block(self) -> None:
        async with self._turns:
            await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.gathers = False
        self._gathered.clear()
        await self._stream.aclose()


@final
class WebSocket:
    """One open connection. One task may send and one may receive at a time."""

    __slots__ = ("_connection", "_stream", "_torn")

    def __init__(self, connection: WebSocketConnection, stream: _Gathering) -> None:
        self._connection = connection
        self._stream = stream
        self._torn = False

    async def send(self, *messages: bytes | str) -> None:
        """Send messages, at once. Raises `Gone`. If cancelled, the connection has ended: close it."""
        self._torn = True
        try:
            await self._send(messages)
        except (ConnectionClosed, ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise _gone(self._connection) from None
        except trio.Cancelled:  # perhaps while waiting for trio-websocket's own lock: a message is missing then
            await trio.aclose_forcefully(self._stream)
            raise
        self._torn = False

    async def _send(self, messages: Sequence[bytes | str]) -> None:
        self._stream.gathers = len(messages) > 1
        try:
            for message in messages:
                await self._connection.send_message(message)
        except (ConnectionClosed, ProtocolError):
            await self._stream.send_gathered()  # the answer to the node's close may be in it
            raise
        await self._stream.send_gathered()

    async def receive(self) -> bytes | str:
        """Return the next message. Raises `Gone` when there will be none; always safe to cancel."""
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            raise _gone(self._connection) from None

    async def aclose(self, code: int = 1000) -> None:
        """Close, after a closing handshake of at most `CLOSE_TIMEOUT_S`. If cancelled, close without one."""
        try:
            if not self._torn:
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    await self._connection.aclose(code)
        except ProtocolError:  # the node was closing too, at this very moment
            pass
        finally:
            await trio.aclose_forcefully(self._stream)


def _gone(connection: WebSocketConnection) -> Gone:
    closed = connection.closed
    if closed is None or closed.code in NO_CLOSE_CODE:
        return Gone(None, "the connection ended without a close frame")
    return Gone(closed.code, closed.reason or f"closed with code {closed.code}")


@final
class _Reader:
    """Stands in for the nursery that trio-websocket starts its reading task in, to see how that task ends.

    `wrap_client_stream` waits for a handshake without end, also after its reading task has ended.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.handshake = trio.CancelScope()
        self.rejected: ConnectionRejected | None = None
        self.broken: Exception | None = None

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except ConnectionRejected as error:
            self.rejected = error
        except STREAM_ERRORS as error:
            self.broken = error
        except (ConnectionClosed, ProtocolError, h11.ProtocolError, UnicodeDecodeError):
            # Its channel is closed by now, which is how `receive` learns of it. (h11's error comes from a handshake
            # answered with what is not HTTP: wsproto then tries to answer as only a server may. wsproto reads some
            # headers of the answer as ASCII without looking.)
            pass
        finally:
            self.handshake.cancel()


async def open_websocket(
    nursery: trio.Nursery, url: NodeUrl, codec: Codec, open_stream: OpenStream, timeout_s: float
) -> WebSocket:
    """Open a WebSocket to a node, speaking `codec`; its reading task lives in `nursery`.

    Raises `HandshakeFailed`: unreachable, refused (with the HTTP status), not speaking the protocol, or later than
    `timeout_s`. The stream is closed then, as it is when this is cancelled.
    """
    stream: trio.abc.Stream | None = None
    opened: WebSocket | None = None
    failure = f"no handshake with {url} within {timeout_s:g} s"
    unsent = False
    told: RequestError | None = None
    try:
        with trio.move_on_after(timeout_s):
            stream = await open_stream(url.host, url.port, url.tls)
            opened = await _handshake(nursery, url, codec, stream)
    except STREAM_ERRORS as error:
        told = mistrust(url, error)
        failure = f"{url} cannot be reached: {reason(error)}" if told is None else told.message
        unsent = stream is None
    finally:
        if opened is None and stream is not None:
            await trio.aclose_forcefully(stream)
    if opened is None:
        raise HandshakeFailed(failure, error=told, unsent=unsent)
    return opened


async def _handshake(nursery: trio.Nursery, url: NodeUrl, codec: Codec, stream: trio.abc.Stream) -> WebSocket:
    reader = _Reader(nursery)
    gathering = _Gathering(stream)
    connection: WebSocketConnection | None = None
    with reader.handshake:
        connection = await wrap_client_stream(
            cast("trio.Nursery", reader),
            cast("trio.SocketStream", gathering),
            url.authority,
            url.target("/v1/ws"),
            subprotocols=[codec.protocol],
            max_message_size=MESSAGE_BYTES_MAX,
            receive_buffer_size=RECEIVE_BYTES,
        )
    if connection is None:
        told = None if reader.broken is None else mistrust(url, reader.broken)
        if told is not None:
            raise HandshakeFailed(told.message, error=told)
        raise _refusal(url, reader.rejected)
    if connection.subprotocol != codec.protocol:
        raise HandshakeFailed(f"{url} does not speak {codec.protocol}")
    return WebSocket(connection, gathering)


def _refusal(url: NodeUrl, rejected: ConnectionRejected | None) -> HandshakeFailed:
    if rejected is None:
        return HandshakeFailed(f"{url} broke off the handshake")
    retry_ms = retry_after_ms(rejected.headers)
    try:
        body = JSON.loads(rejected.body or b"", Error)
    except Invalid:
        return HandshakeFailed(f"{url} answered {rejected.status_code}", rejected.status_code, retry_ms)
    message = body.message[:ERROR_CHARS_MAX]
    kind = ERRORS_BY_CODE.get(body.code)
    error = None if kind is None else kind(message, retry_ms=retry_ms, why=body.why)
    return HandshakeFailed(f"{url} answered {rejected.status_code}: {message}", rejected.status_code, retry_ms, error)
