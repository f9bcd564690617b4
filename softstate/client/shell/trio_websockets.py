"""WebSocket connections by trio-websocket, for clients under Trio: the only module that imports it.

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

from softstate.client.shell.sockets import (
    CLOSE_TIMEOUT_S,
    MESSAGE_BYTES_MAX,
    Gone,
    HandshakeFailed,
    Tasks,
    gone,
    refusal,
)
from softstate.client.shell.trust import mistrust
from softstate.client.url import NodeUrl
from softstate.http_client.streams import RECEIVE_BYTES, STREAM_ERRORS, Stream
from softstate.wire import Codec


@final
class _Gathering(trio.abc.Stream):
    """A stream that can gather what is sent on it, so that several messages are sent at once.

    Sent one by one, `hello` and what goes with it (P-CLI-16) would reach the node in pieces, and cost it two reads.

    Writes take turns here: trio-websocket has a lock for its own sends, but knows nothing of what was gathered, and its
    reading task answers pings and closes at any moment. Frames are written in the order in which wsproto made them. If
    a write is cancelled, waiting for its turn or in the middle, the stream is closed: nothing may follow part of a
    frame.
    """

    def __init__(self, stream: Stream) -> None:
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
        raise NotImplementedError  # nobody calls it

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.gathers = False
        self._gathered.clear()
        await self._stream.aclose()


@final
class TrioWebSocket:
    """One open connection, a `softstate.client.shell.websocket.WebSocket`."""

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
    return gone(None, None) if closed is None else gone(closed.code, closed.reason)


@final
class _Reader:
    """Stands in for the nursery that trio-websocket starts its reading task in, to see how that task ends.

    `wrap_client_stream` waits for a handshake without end, also after its reading task has ended.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self.handshake = trio.CancelScope()
        self.rejected: ConnectionRejected | None = None
        self.broken: Exception | None = None

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._tasks.start_soon(self._run, read)

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


async def handshake(
    tasks: Tasks, url: NodeUrl, codec: Codec, stream: Stream, headers: Sequence[tuple[str, str]]
) -> TrioWebSocket:
    """Make the handshake on a stream; the reading task lives in `tasks`. Raises `HandshakeFailed`.

    It may stand still without end: cancel it. The stream is its caller's to close.
    """
    reader = _Reader(tasks)
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
            extra_headers=[(name.encode(), value.encode()) for name, value in headers],
        )
    if connection is None:
        told = None if reader.broken is None else mistrust(url, reader.broken)
        if told is not None:
            raise HandshakeFailed(told.message, error=told)
        rejected = reader.rejected
        if rejected is None:
            raise HandshakeFailed(f"{url} broke off the handshake")
        raise refusal(url, rejected.status_code, rejected.headers, rejected.body or b"")
    if connection.subprotocol != codec.protocol:
        raise HandshakeFailed(f"{url} does not speak {codec.protocol}")
    return TrioWebSocket(connection, gathering)
