"""A simulated connection, its ends as Trio streams and raw sockets for the outbox, and the listener that accepts it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import final

import trio

from softstate.testing.network.capacity import Processor
from softstate.testing.network.frame_tap import Kind
from softstate.testing.network.pipe import Pipe
from softstate.testing.network.route import Medium, Route

BACKLOG_MAX = 4_096
"""Connections that may wait to be accepted; more are left unanswered."""

RECEIVE_BYTES = 64 * 1024


@final
class SimStream(trio.abc.HalfCloseableStream):
    """One end. It implements `softstate.server.edge.stream_wire.RawSocket` too, so nodes write to it as to a socket."""

    def __init__(self, connection: SimConnection, outgoing: Pipe, incoming: Pipe) -> None:
        self.closed = False
        self._connection = connection
        self._out = outgoing
        self._in = incoming

    def __str__(self) -> str:
        """Return the other end's host, with the connection's number for its port."""
        return f"{self._in.route.sender}:{self._connection.number}"

    def try_send(self, data: bytes | memoryview) -> int:
        """See `RawSocket.try_send`."""
        if self.closed:
            raise trio.BrokenResourceError("this end was closed")
        return self._out.try_send(data)

    async def wait_writable(self) -> None:
        """See `RawSocket.wait_writable`."""
        if self.closed:
            await trio.lowlevel.checkpoint()
        else:
            await self._out.wait_writable()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`. If cancelled, part of it may have been sent."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            if self.closed:
                raise trio.ClosedResourceError("this end was closed")
            rest = rest[self._out.try_send(rest) :]
            if rest:
                await self.wait_writable()

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self.wait_writable()

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await trio.lowlevel.checkpoint()
        self._out.end()

    def shut(self) -> None:
        """See `RawSocket.shut`."""
        self._out.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        if self.closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this end was closed")
        return await self._in.receive(max_bytes or RECEIVE_BYTES)

    async def aclose(self) -> None:
        """Close as TCP does: with an end if everything was read, else with a reset."""
        self.close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Break the connection at both ends, as a box in the middle may."""
        self._connection.reset()

    @property
    def peer_closed(self) -> bool:
        """Whether the other end was closed."""
        return self._out.receiver_closed

    def close(self) -> None:
        """Close without a checkpoint."""
        if self.closed:
            return
        self.closed = True
        if self._in.close_receiver():
            self._out.abort()
        else:
            self._out.end()
        self._connection.end_closed()


@final
class SimConnection:
    """A connection, from the first host, which opened it, to the second. `closed` is called once both ends are."""

    def __init__(self, medium: Medium, number: int, forth: Route, back: Route, closed: Callable[[], None]) -> None:
        self.number = number
        self.hosts = (forth.sender, forth.receiver)
        self._closed = closed
        self.forth = Pipe(medium, forth, self, from_client=True)
        self.back = Pipe(medium, back, self, from_client=False)
        self.forth.reverse, self.back.reverse = self.back, self.forth
        self.client_end = SimStream(self, self.forth, self.back)
        self.node_end = SimStream(self, self.back, self.forth)

    @property
    def kind(self) -> Kind:
        """The kind of connection, unknown until its first bytes show it."""
        return self.forth.tap.kind

    @property
    def pipes(self) -> tuple[Pipe, Pipe]:
        """Both directions."""
        return self.forth, self.back

    def reset(self) -> None:
        """Break both ends at once, as a box in the middle may."""
        for pipe in self.pipes:
            pipe.lose()
            pipe.reset_receiver()

    def lose(self) -> None:
        """Deliver nothing any more at either end: half-open for both, until they time out."""
        for pipe in self.pipes:
            pipe.lose()

    def abandon(self, host: str, *, silently: bool) -> None:
        """Lose the end at `host`, whose process has ended; the other end gets a reset, or nothing (`silently`)."""
        outgoing, incoming = (self.forth, self.back) if self.hosts[0] == host else (self.back, self.forth)
        if silently:
            self.lose()
        else:
            outgoing.abort()
            incoming.lose()
            incoming.receiver_closed = True
        outgoing.end_sender()

    def check_blocked(self) -> None:
        """Lose or reset the connection if its kind is blocked on its way."""
        for pipe in self.pipes:
            match pipe.route.blocked.get(self.kind):
                case "swallow":
                    self.lose()
                case "reset":
                    self.reset()

    def end_closed(self) -> None:
        """Call `closed` once both ends are closed."""
        if self.client_end.closed and self.node_end.closed:
            self._closed()


@final
class SimListener(trio.abc.Listener[SimStream]):
    """Accepts the connections to one port of one host. `closed` is called when it is closed.

    With a `processor`, to accept one takes its time, and its capacity says how many may wait.
    """

    def __init__(self, closed: Callable[[SimListener], None], processor: Processor | None = None) -> None:
        self._on_close = closed
        self._processor = processor
        self._backlog = BACKLOG_MAX if processor is None else processor.capacity.backlog
        self._waiting: deque[SimStream] = deque()
        self._acceptors = trio.lowlevel.ParkingLot()
        self._closed = False

    def offer(self, stream: SimStream) -> bool:
        """Take a new connection; return False if too many wait."""
        if len(self._waiting) >= self._backlog:
            return False
        self._waiting.append(stream)
        if self._processor is not None:
            self._processor.accept_queue_max = max(self._processor.accept_queue_max, len(self._waiting))
        self._acceptors.unpark()
        return True

    async def accept(self) -> SimStream:
        """See `trio.abc.Listener`."""
        await trio.lowlevel.checkpoint()
        processor = self._processor
        while not self._waiting or processor is not None:
            if self._closed:
                raise trio.ClosedResourceError("this listener was closed")
            if self._waiting and processor is not None:
                await processor.serve("connect", processor.capacity.accept_s, wasted=self._waiting[0].peer_closed)
                processor = None
            else:
                await self._acceptors.park()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`. Connections that wait are closed."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close without a checkpoint."""
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        for stream in self._waiting:
            stream.close()
        self._waiting.clear()
        self._acceptors.unpark_all()
