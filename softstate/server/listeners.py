"""Listening sockets of a node: they are bound first, and listen once the node can serve.

Bound first, so that a port that is taken is reported before the store is touched; listening late, so that no client
waits in the queue of a node that is still starting while another one, on the same port, could answer.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from softstate.addresses import UNIX_SCHEME, unix_path
from softstate.errors import ConfigError
from softstate.server.bulkhead import RETRY_S, Bulkhead

BACKLOG = 4_096
"""Connections that may wait to be accepted: half a second's work. With more, the node would serve clients that have
given up; of those beyond it the system takes no notice, and they ask again by themselves. It takes its own limit if
that is lower."""

S = TypeVar("S", bound=trio.abc.Stream)


UNIX_MODE = 0o660
"""Rights to a Unix socket: of its owner and group. The right to write to it is that to connect."""


async def bind(host: str, port: int, *, shared: bool = False) -> list[trio.socket.SocketType]:
    """Bind a socket to each address of `host`, all to one port; port 0 takes any free one.

    Addresses that this system does not have are passed over while there is another: /etc/hosts names ``::1`` also
    where IPv6 is switched off.

    A `shared` port (SO_REUSEPORT) may be bound by every process of this user that asks for the same; the system spreads
    new connections over those that listen. Raises `ConfigError`; if cancelled, nothing stays bound.

    A `host` that begins with ``unix:`` is the path of a Unix socket, which is made, and listens at once. One that was
    left there is removed if nobody answers.
    """
    if host.startswith(UNIX_SCHEME):
        return [await _bind_unix(host)]
    bound: list[trio.socket.SocketType] = []
    wanted = port
    missing = OSError(errno.EADDRNOTAVAIL, "it has no address that this system supports")
    try:
        for family, kind, proto, _, address in await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            try:
                opened = trio.socket.socket(family, kind, proto)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # IPv6 is not built in
                    continue
                raise
            bound.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                await opened.bind((address[0], wanted, *address[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                close([bound.pop()])
                missing = error
                continue
            wanted = opened.getsockname()[1]
    except OSError as error:
        close(bound)
        raise refused(host, port, error) from error
    except BaseException:
        close(bound)
        raise
    if not bound:
        raise refused(host, port, missing) from missing
    return bound


async def _bind_unix(address: str) -> trio.socket.SocketType:
    try:
        path = unix_path(address)
    except ValueError as error:
        raise ConfigError(f"listen: {address!r} cannot be used: {error}") from None
    assert path is not None
    opened = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await _remove_stale(path)
        await opened.bind(path)
        # It does not listen yet, so that nobody has connected with other rights.
        os.chmod(path, UNIX_MODE)  # noqa: PTH101 - as `bind` takes it
        # From now on: nobody else serves this path, and another program would take one that is silent for left behind.
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise _refused_unix(address, error.strerror or str(error)) from error
    except BaseException:
        opened.close()
        raise
    return opened


async def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. Raises `ConfigError` if somebody does, or it is no socket."""
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode  # noqa: PTH116 - as `bind` takes it
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _refused_unix(UNIX_SCHEME + path, "there is a file, which is no socket")
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            await probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - as `bind` takes it
            return
    raise _refused_unix(UNIX_SCHEME + path, "another program listens on it")


def _refused_unix(address: str, because: str) -> ConfigError:
    return ConfigError(f"cannot listen on {address}: {because}. Name another path with --listen unix:PATH")


def listen(bound: Iterable[trio.socket.SocketType], host: str, port: int) -> list[trio.SocketListener]:
    """Begin to accept on bound sockets. Raises `ConfigError` if another program has begun meanwhile."""
    listeners = []
    try:
        for opened in bound:
            opened.listen(BACKLOG)
            listeners.append(trio.SocketListener(opened))
    except OSError as error:
        raise refused(host, port, error) from error
    return listeners


async def accept_all(
    listener: trio.abc.Listener[S], serve: Callable[[S], Awaitable[None]], nursery: trio.Nursery, bulkhead: Bulkhead
) -> None:
    """Start `serve` in `nursery` for every connection, until cancelled; then close the listener. No error ends it.

    For streams that are no sockets of the system, as in simulation: those are accepted in `softstate.server.edge`.
    """
    async with listener:
        while True:
            with bulkhead.contain("accept", passing=trio.ClosedResourceError):
                nursery.start_soon(serve, await listener.accept())
                continue
            await trio.sleep(RETRY_S)


def close(bound: Iterable[trio.socket.SocketType]) -> None:
    """Close sockets, and so give up their port. Idempotent."""
    for opened in bound:
        opened.close()


def name_of(opened: trio.socket.SocketType) -> str:
    """Return a socket's address as HOST:PORT, [IPv6]:PORT or unix:PATH."""
    if opened.family == socket.AF_UNIX:
        return f"{UNIX_SCHEME}{opened.getsockname()}"
    host, port, *_ = opened.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refused(host: str, port: int, error: OSError) -> ConfigError:
    """Return the error to raise when the system refuses an address."""
    question = " Is another program using the port?" if error.errno == errno.EADDRINUSE else ""
    return ConfigError(
        f"cannot listen on {host}:{port}: {error.strerror or error}.{question} Choose another with --listen HOST:PORT"
    )
