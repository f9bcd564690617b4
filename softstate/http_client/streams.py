"""Streams: how they are opened, and what they raise.

Everything that the client sends goes through one injected `OpenStream`, so that the simulator runs the real client.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeAlias

import trio

from softstate.addresses import UNIX_SCHEME

OpenStream: TypeAlias = Callable[[str, int, bool], Awaitable[trio.abc.Stream]]
"""Opens a stream to a host and port, with TLS or without.

It raises `OSError`, or one of Trio's resource errors, if that fails. The simulation has its own.
"""

RECEIVE_BYTES = 64 * 1024
"""How much is read from a stream at a time, in bytes."""

STREAM_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""Errors of a stream, or of opening one, when the network fails."""


@cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def open_tcp(host: str, port: int, tls: bool) -> trio.abc.Stream:
    """Open a TCP stream, verified by the system's certificates if `tls`: the `OpenStream` of a real network.

    Raises what `open_secured` raises.
    """
    return await open_secured(host, port, _system_tls() if tls else None)


async def open_secured(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """Open a TCP stream (with TCP_NODELAY, as Trio's always are) and make the TLS handshake, if there is a context.

    A host that begins with ``unix:`` is the path of a Unix socket. Raises OSError, or trio.BrokenResourceError if the
    handshake fails; `cause` tells why. Cancelling closes the stream.
    """
    if host.startswith(UNIX_SCHEME):
        return await trio.open_unix_socket(host.removeprefix(UNIX_SCHEME))
    stream = await trio.open_tcp_stream(host, port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if tls is None:
        return stream
    secured = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def cause(error: Exception) -> BaseException:
    """Return what is behind one of `STREAM_ERRORS`: Trio's own say nothing themselves."""
    if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
        return error.__cause__
    return error


def reason(error: Exception) -> str:
    """Say in words what one of `STREAM_ERRORS` is about."""
    behind = cause(error)
    return str(behind) or type(behind).__name__
