"""A stream that is no socket as a wire, as in simulation: a task reads from it, and one more while it takes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import trio

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.wire import Peer

RECEIVE_BYTES = 64 * 1024


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


def raw_socket_of(stream: object) -> RawSocket:
    """Return a stream that is its own raw socket, as those of simulation are."""
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
            self._nursery.start_soon(self._tell_again)
        self._again = True

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

    async def drive(self, peer: Peer) -> None:
        """Tell a peer, until it closes this wire. If cancelled, it is ended."""
        self._peer = peer
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._read_all(nursery, peer)
                finally:
                    self._nursery = None  # it takes no task once its last one has ended
                nursery.cancel_scope.cancel()
        finally:
            with self._bulkhead.contain("connection", peer=self._name):
                peer.end()

    async def _read_all(self, nursery: trio.Nursery, peer: Peer) -> None:
        self.want_write(self._wants_write)
        if self._again:
            nursery.start_soon(self._tell_again)
        while not self._closed:
            await self._wants_read.wait()
            if not self._received and not self._ended:
                self._received = await self._receive()
                self._ended = not self._received
            else:
                await trio.lowlevel.checkpoint()
            self._tell(peer.readable)

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
