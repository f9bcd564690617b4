"""The only module of the server that knows trio-websocket.

It works around four traps: `wrap_server_stream` never returns when a handshake is bad or abandoned (so the HTTP server
validates it, and it is answered here); frames must not be sent after a close frame, nor while another is half sent
(so everything goes through the outbox, which is the library's stream); closing may wait for a peer without limit; its
reading task answers pings even after a close frame was sent, which wsproto refuses (found by ``bench fuzz``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import cast

import trio
import trio_websocket
from wsproto import WSConnection
from wsproto.connection import Connection, ConnectionType
from wsproto.utilities import ProtocolError

HANDSHAKE_S_MAX = 5.0
"""Time to write the answer to a handshake that is complete and valid already."""

CLOSE_S_MAX = 2.0
"""Time for the closing handshake; then the socket is closed without it."""


class PeerGone(Exception):
    """The connection ended, or was lost."""


class WebSocket:
    """A server's end of a WebSocket. It receives and closes; the outbox sends."""

    __slots__ = ("_connection",)

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    def waiting(self) -> bool:
        """Whether a message was received that `receive` has not returned yet."""
        return self._connection._recv_channel.statistics().current_buffer_used > 0  # noqa: SLF001 - it does not tell

    async def receive(self) -> bytes | str:
        """Return the next message. Raises `PeerGone`. If cancelled, no message is lost."""
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise PeerGone(str(closed)) from None

    async def close(self, code: int, reason: str) -> None:
        """Close with a closing handshake within `CLOSE_S_MAX`, else without it."""
        with trio.move_on_after(CLOSE_S_MAX), suppress(ProtocolError):  # the peer was closing too, at this moment
            await self._connection.aclose(code, reason)


async def accept(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    answer: bytes,
    message_bytes_max: int,
    contained: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> WebSocket:
    """Answer a handshake that was validated before. Raises `PeerGone`.

    Its reader runs in `nursery`, within a block that `contained` makes.
    """
    try:
        with trio.fail_after(HANDSHAKE_S_MAX):
            await stream.send_all(answer)
    except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise PeerGone(f"handshake not completed: {error!r}") from None
    # `wrap_server_stream` would have wsproto parse the head, which the HTTP server has parsed, with another h11, and
    # keep all that for as long as the connection lasts: 5 KiB a connection and a third of the time that connecting
    # takes. A `WebSocketConnection` needs of its protocol only what wsproto's has once it is past the handshake.
    protocol = cast("WSConnection", Connection(ConnectionType.SERVER))
    connection = trio_websocket.WebSocketConnection(stream, protocol, max_message_size=message_bytes_max)
    nursery.start_soon(_read, connection, contained)
    return WebSocket(connection)


async def _read(
    connection: trio_websocket.WebSocketConnection, contained: Callable[[], AbstractContextManager[object]]
) -> None:
    """Run trio-websocket's reading task: nothing that a peer sends may end the nursery that it runs in."""
    # Its channel is closed when it ends, which is how `receive` learns of it.
    with contained(), suppress(trio_websocket.ConnectionClosed, ProtocolError):
        await connection._reader_task()  # noqa: SLF001 - all that `wrap_server_stream` does but for the handshake
