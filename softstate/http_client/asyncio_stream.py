"""Streams under asyncio, by anyio, with the methods that Trio's streams have."""

from __future__ import annotations

import socket
import ssl
from typing import final

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

CUT_TLS = "the other end has closed the connection without an end of TLS"


@final
class AsyncioStream:
    """A stream of asyncio that sends and receives as one of Trio's does.

    A cancelled `send_all` has written all or nothing: asyncio keeps what the system does not take at once.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def fileno(self) -> int:
        """Return the descriptor of the socket that it ends in, for looking at only; -1 if it is closed."""
        return _socket_of(self._stream).fileno()

    async def send_all(self, data: bytes | bytearray | memoryview, /) -> None:
        """Send all of it. Raises `STREAM_ERRORS`."""
        try:
            await self._stream.send(bytes(data))
        except anyio.EndOfStream:  # of TLS, whose other end has gone
            raise anyio.BrokenResourceError from OSError(CUT_TLS)

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """Return what has come, b"" at the end. Raises `STREAM_ERRORS`. Always safe to cancel."""
        try:
            return await self._stream.receive(max_bytes or 65_536)
        except anyio.EndOfStream:
            return b""

    async def aclose(self) -> None:
        """Cut it, at once; what the system has not taken yet is lost."""
        with anyio.CancelScope(shield=True):  # it does not wait
            await self._stream.aclose()
        await anyio.lowlevel.checkpoint()


async def open_by_asyncio(host: str, port: int, tls: ssl.SSLContext | None, server_name: str = "") -> AsyncioStream:
    """Open a TCP stream; raises what `open_secured` raises. Cancelling closes it."""
    stream = await anyio.connect_tcp(host, port)
    _socket_of(stream).setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if tls is None:
        return AsyncioStream(stream)
    try:
        name = server_name or host
        secured = await TLSStream.wrap(stream, hostname=name, ssl_context=tls, standard_compatible=False)
    except anyio.EndOfStream:
        await anyio.aclose_forcefully(stream)
        raise anyio.BrokenResourceError from OSError(CUT_TLS)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return AsyncioStream(secured)


async def open_unix_by_asyncio(path: str) -> AsyncioStream:
    """Open a stream to a Unix socket. Raises OSError. Cancelling closes it."""
    return AsyncioStream(await anyio.connect_unix(path))


def _socket_of(stream: ByteStream) -> socket.socket:
    return stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - no database is near
