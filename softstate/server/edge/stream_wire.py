"""A stream that is no socket as a wire, as in simulation: a task reads from it, and one more while it takes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import methodcaller
from typing import Protocol

import trio

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.wire import Peer
from softstate.server.measure.traffic import Traffic

RECEIVE_BYTES = 64 * 1024

_READABLE, _WRITABLE = methodcaller("readable"), methodcaller("writable")


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


class StreamWire:
    """Implements `softstate.server.edge.wire.Wire` on a stream. `drive` tells its peer, until that closes it."""

    secure = False
    certificate = None

    def __init__(self, stream: RawSocket, name: str, bulkhead: Bulkhead, traffic: Traffic | None = None) -> None:
        self.peer: Peer | None = None
        self.traffic = traffic or Traffic()
        self.try_send = stream.try_send
        self._stream = stream
        self._name = name
        self._bulkhead = bulkhead
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

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """See `Wire.start_soon`."""
        if self._nursery is not None:
            self._nursery.start_soon(task)

    def hung_up(self) -> bool:
        """See `Wire.hung_up`. Of the other end it cannot be told here."""
        return self._closed

    def shut(self) -> None:
        """See `Wire.shut`."""
        self._stream.shut()

    def close(self) -> None:
        """See `Wire.close`."""
        self._closed = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def drive(self) -> None:
        """Tell the peer, until that closes this wire; then close the stream. If cancelled, the peer is ended."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._read_all(nursery)
                finally:
                    self._nursery = None  # it takes no task once its last one has ended
                nursery.cancel_scope.cancel()
        finally:
            if self.peer is not None:
                with self._bulkhead.contain("connection", peer=self._name):
                    self.peer.end()
            with trio.CancelScope() as at_once:
                at_once.cancel()
                await self._stream.aclose()

    async def _read_all(self, nursery: trio.Nursery) -> None:
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
            self._tell(_READABLE)

    def _tell(self, call: Callable[[Peer], None]) -> None:
        if self.peer is not None and not self._closed:
            with self._bulkhead.contain("connection", self.peer.fail, peer=self._name):
                call(self.peer)

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _tell_again(self) -> None:
        await trio.lowlevel.checkpoint()
        self._again = False
        self._tell(_READABLE)

    async def _tell_writable(self) -> None:
        while self._wants_write and not self._closed:
            await self._stream.wait_writable()
            self._tell(_WRITABLE)
        self._writing = False
