"""The one module on this side that knows trio-websocket.

Its traps, met here once: `wrap_server_stream` never returns when a handshake is bad or abandoned (so the front door
validates first, and a deadline is set); frames must not be sent after a close frame, nor while another is half sent
(so everything goes through the outbox, which is the stream it is given); closing may wait for a peer for ever; its
reading task answers pings also when a close frame has been sent, which wsproto refuses (found by ``bench fuzz``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, cast

import trio
import trio_websocket
from wsproto.utilities import ProtocolError

HANDSHAKE_S_MAX: Final = 5.0
"""Time to write the answer to a handshake that is complete and valid already."""

CLOSE_S_MAX: Final = 2.0
"""Time for the closing handshake; then the socket is closed without it."""


class PeerGone(Exception):
    """The connection ended, in whatever way."""


class WebSocket:
    """A server's end of a WebSocket; only receiving and closing, since sending is the outbox's."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes | str:
        """Return the next message. Raises `PeerGone`. If cancelled, nothing is lost."""
        try:
            return await self._connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise PeerGone(str(closed)) from None

    async def close(self, code: int, reason: str) -> None:
        """Close in order within `CLOSE_S_MAX`, else abruptly."""
        with trio.move_on_after(CLOSE_S_MAX), suppress(ProtocolError):  # the peer was closing too, at this moment
            await self._connection.aclose(code, reason)


class _Reader:
    """Stands in for the nursery that trio-websocket starts its reading task in: what a peer sends must not end it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        # Its channel is closed when it ends, which is how `receive` learns of it.
        with suppress(trio_websocket.ConnectionClosed, ProtocolError):
            await read()


async def accept(nursery: trio.Nursery, stream: trio.abc.Stream, protocol: str, message_bytes_max: int) -> WebSocket:
    """Complete a handshake that was validated before. Raises `PeerGone`. Its reader runs in `nursery`."""
    try:
        with trio.fail_after(HANDSHAKE_S_MAX):
            reader = cast("trio.Nursery", _Reader(nursery))
            request = await trio_websocket.wrap_server_stream(reader, stream, max_message_size=message_bytes_max)
            return WebSocket(await request.accept(subprotocol=protocol))
    except (trio.TooSlowError, trio_websocket.ConnectionClosed) as error:
        raise PeerGone(f"handshake not completed: {error!r}") from None
