"""Streams: how they are opened, and what they raise.

Everything that the client sends goes through one injected `OpenStream`, so that the simulator runs the real client.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Protocol, TypeAlias

import anyio
import trio

from softstate.addresses import UNIX_SCHEME
from softstate.http_client.asyncio_stream import AsyncioStream, open_by_asyncio, open_unix_by_asyncio
from softstate.http_client.loop import running_loop


class Stream(Protocol):
    """The methods of `trio.abc.Stream` that are used here, whose rules hold; of asyncio, `AsyncioStream` has them."""

    async def send_all(self, data: bytes | bytearray | memoryview, /) -> None:
        """Send all of it. Raises `STREAM_ERRORS`."""

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray:
        """Return what has come, b"" at the end. Raises `STREAM_ERRORS`."""

    async def aclose(self) -> None:
        """Close it; if cancelled, at once."""


OpenStream: TypeAlias = Callable[[str, int, bool], Awaitable[Stream]]
"""Opens a stream to a host and port, with TLS or without: under Trio any `trio.abc.Stream`.

It raises `OSError`, or one of Trio's or anyio's resource errors, if that fails. The simulation has its own.
"""

RECEIVE_BYTES = 64 * 1024
"""How much is read from a stream at a time, in bytes."""

STREAM_ERRORS = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)
"""Errors of a stream, or of opening one, when the network fails."""


@cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def open_tcp(host: str, port: int, tls: bool) -> Stream:
    """Open a TCP stream, verified by the system's certificates if `tls`: the `OpenStream` of a real network.

    Raises what `open_secured` raises.
    """
    return await open_secured(host, port, _system_tls() if tls else None)


async def open_secured(host: str, port: int, tls: ssl.SSLContext | None, server_name: str = "") -> Stream:
    """Open a TCP stream (with TCP_NODELAY) of the loop that runs, and make the TLS handshake, if there is a context.

    The certificate has to be for `server_name`, if that is another than the host. A host that begins with ``unix:`` is
    the path of a Unix socket. Raises OSError, or another of `STREAM_ERRORS` if the handshake fails; `cause` tells why.
    Cancelling closes the stream.
    """
    if running_loop() == "asyncio":
        if host.startswith(UNIX_SCHEME):
            return await open_unix_by_asyncio(host.removeprefix(UNIX_SCHEME))
        return await open_by_asyncio(host, port, tls, server_name)
    if host.startswith(UNIX_SCHEME):
        return await trio.open_unix_socket(host.removeprefix(UNIX_SCHEME))
    stream = await trio.open_tcp_stream(host, port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if tls is None:
        return stream
    secured = trio.SSLStream(stream, tls, server_hostname=server_name or host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


async def cut(stream: Stream) -> None:
    """Close a stream at once, without waiting for anything."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()


def socket_of(stream: Stream) -> int | None:
    """Return the descriptor of the socket that a stream ends in, -1 if that is closed; None for a stream in memory."""
    if isinstance(stream, AsyncioStream):
        return stream.fileno()
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None


def cause(error: Exception) -> BaseException:
    """Return what is behind one of `STREAM_ERRORS`: those of Trio and anyio say nothing themselves."""
    if isinstance(error, trio.BrokenResourceError | anyio.BrokenResourceError) and error.__cause__ is not None:
        return error.__cause__
    if type(error) is OSError and error.errno is None and error.__cause__ is not None:  # no address took the connection
        behind = error.__cause__
        while isinstance(behind, BaseExceptionGroup):
            behind = behind.exceptions[0]
        return behind
    return error


def reason(error: Exception) -> str:
    """Say in words what one of `STREAM_ERRORS` is about."""
    behind = cause(error)
    # Trio and asyncio put the address before the system's words, or in their place.
    if isinstance(behind, OSError) and not isinstance(behind, ssl.SSLError) and behind.errno and behind.errno > 0:
        return os.strerror(behind.errno)
    return str(behind) or type(behind).__name__
