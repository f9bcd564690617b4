"""A stream of Trio as a wire: a task for each connection reads from it, and one more while it takes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, runtime_checkable

import trio

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.wire import Peer

RECEIVE_BYTES = 64 * 1024

CLOSED_FD = -1
"""A descriptor that every system call refuses."""


@runtime_checkable
class RawSocket(Protocol):
    """The part of a socket that a `StreamWire` needs."""

    @property
    def try_send(self) -> Callable[[bytes | memoryview], int]:
        """Write what can be written without waiting; return how many bytes were taken.

        Returns 0 or raises `BlockingIOError` if none was. Raises `trio.BrokenResourceError` or another `OSError` when
        the connection is gone.
        """

    async def wait_writable(self) -> None:
        """Return when `try_send` may take something, or the connection is gone."""

    async def receive_some(self, max_bytes: int) -> bytes:
        """Receive as `trio.abc.ReceiveStream` does."""

    def shut(self) -> None:
        """Send the end."""

    async def aclose(self) -> None:
        """Close at once, as `trio.abc.AsyncResource` does."""


class SystemSocket:
    """A socket of the system, by its file descriptor: no flag, no lock, no task switch on the way out."""

    __slots__ = ("_fd", "_stream", "try_send")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        # Only `aclose` may close the stream: after that, the number may be another socket's.
        self._fd = stream.socket.fileno()
        # The system call itself, without a frame of Python around it: with the slots of the session's machine that is
        # 4 to 8 % of a delivery's time outside of the kernel (bench fanout, 10,000 subscribers).
        self.try_send: Callable[[bytes | memoryview], int] = partial(os.write, self._fd)

    async def wait_writable(self) -> None:
        """Wait for the socket; a closed one counts as writable, since `try_send` reports it."""
        if self._fd < 0:
            await trio.lowlevel.checkpoint()
            return
        try:
            await trio.lowlevel.wait_writable(self._fd)
        except (trio.ClosedResourceError, OSError):
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int) -> bytes:
        """Receive from the socket."""
        return bytes(await self._stream.receive_some(max_bytes))

    def shut(self) -> None:
        """Send the end."""
        with suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the socket."""
        self._fd = CLOSED_FD
        self.try_send = partial(os.write, CLOSED_FD)
        await self._stream.aclose()


def raw_socket_of(stream: trio.abc.Stream | RawSocket) -> RawSocket:
    """Return the raw socket of a stream; in simulation, that is the stream itself."""
    if isinstance(stream, trio.SocketStream):
        return SystemSocket(stream)
    assert isinstance(stream, RawSocket), f"{stream!r} is neither a socket nor a raw one"
    return stream


class StreamWire:
    """Implements `softstate.server.edge.wire.Wire` on a stream. `drive` tells its peer, until that closes it."""

    def __init__(self, stream: RawSocket, name: str, bulkhead: Bulkhead) -> None:
        self.try_send = stream.try_send
        self._stream = stream
        self._name = name
        self._bulkhead = bulkhead
        self._peer: Peer | None = None
        self._nursery: trio.Nursery | None = None
        self._received = b""
        self._ended = self._closed = False
        self._again = False
        self._wants_read = trio.Event()
        self._wants_read.set()
        self._wants_write = self._writing = False

    def receive(self, max_bytes: int) -> bytes:
        """See `Wire.receive`."""
        if not self._received and not self._ended:
            raise BlockingIOError
        data, self._received = self._received[:max_bytes], self._received[max_bytes:]
        return data

    def want_read(self, wanted: bool) -> None:
        """See `Wire.want_read`."""
        if wanted:
            self._wants_read.set()
        elif self._wants_read.is_set():
            self._wants_read = trio.Event()

    def again(self) -> None:
        """See `Wire.again`."""
        if not self._again and self._nursery is not None:
            self._again = True
            self._nursery.start_soon(self._tell_again)

    def want_write(self, wanted: bool) -> None:
        """See `Wire.want_write`."""
        self._wants_write = wanted
        if wanted and not self._writing and self._nursery is not None:
            self._writing = True
            self._nursery.start_soon(self._tell_writable)

    def shut(self) -> None:
        """See `Wire.shut`."""
        self._stream.shut()

    def close(self) -> None:
        """See `Wire.close`."""
        self._closed = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def drive(self, peer: Peer, received: bytes = b"") -> None:
        """Tell a peer, until it closes this wire, what was `received` and what comes. If cancelled, it is ended."""
        self._peer = peer
        self._received = received
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.want_write(self._wants_write)
                while not self._closed:
                    await self._wants_read.wait()
                    if not self._received and not self._ended:
                        self._received = await self._receive()
                        self._ended = not self._received
                    else:
                        await trio.lowlevel.checkpoint()
                    self._tell(peer.readable)
                nursery.cancel_scope.cancel()
        finally:
            with self._bulkhead.contain("connection", peer=self._name):
                peer.end()

    def _tell(self, call: Callable[[], None]) -> None:
        assert self._peer is not None
        if not self._closed:
            with self._bulkhead.contain("connection", self._peer.fail, peer=self._name):
                call()

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _tell_again(self) -> None:
        assert self._peer is not None
        await trio.lowlevel.checkpoint()
        self._again = False
        self._tell(self._peer.readable)

    async def _tell_writable(self) -> None:
        assert self._peer is not None
        while self._wants_write and not self._closed:
            await self._stream.wait_writable()
            self._tell(self._peer.writable)
        self._writing = False
