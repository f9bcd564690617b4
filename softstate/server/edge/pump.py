"""The pump: one task of Trio that accepts, reads and writes all connections of a node on sockets of the system.

A task for each connection would cost 3 KiB of memory, and a turn of Trio's loop for each that has something (a third of
a renewal, measured with a prototype). The pump waits for all of them together, and then has a *turn*, with a bound on
its length. Connections that have something to read stand in one line, each at most once, and the next turn goes on
where this one ended (round robin: Nagle, RFC 970, 1985). New connections come last in a turn, so that those that are
there are served however many come.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import final

import trio

from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.edge.acceptor import Acceptor, Listening
from softstate.server.edge.admission import Admission
from softstate.server.edge.poller import GONE, READ, WRITE, Poller, hung_up
from softstate.server.edge.wire import Peer
from softstate.server.measure.traffic import Traffic

EVENTS_PER_TURN = 64
"""Sockets that one turn is told of, or reads from: of thousands whose peers vanish at once, each costs 40 us to end."""

READ_S = 2e-3
"""Time after which a turn reads from no other connection. Beside the worst messages (`bench turns`), what is read from
one takes 0.06 ms at the median, 0.7 at the 99th percentile; and a publish of another crosses the loop four times."""


@final
class SocketWire:
    """A socket of the system in a pump. Implements `softstate.server.edge.wire.Wire`."""

    __slots__ = ("_fd", "_pump", "_wanted", "peer", "try_send")

    secure = False
    certificate = None

    def __init__(self, fd: int, pump: Pump) -> None:
        self.peer: Peer | None = None
        # The system call itself, without a frame of Python around it: with the slots of the session's machine that is
        # 4 to 8 % of a delivery's time outside of the kernel (bench fanout, 10,000 subscribers).
        self.try_send: Callable[[bytes | memoryview], int] = partial(os.write, fd)
        self._fd = fd
        self._pump = pump
        self._wanted = READ

    @property
    def traffic(self) -> Traffic:
        """See `Wire.traffic`."""
        return self._pump.traffic

    @property
    def reading(self) -> bool:
        """Whether the peer wants to be told of what was received."""
        return bool(self._wanted & READ)

    def receive(self, max_bytes: int) -> bytes:
        """See `Wire.receive`."""
        try:
            return os.read(self._fd, max_bytes)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def want_read(self, wanted: bool) -> None:
        """See `Wire.want_read`."""
        self._want(self._wanted | READ if wanted else self._wanted & ~READ)

    def want_write(self, wanted: bool) -> None:
        """See `Wire.want_write`."""
        self._want(self._wanted | WRITE if wanted else self._wanted & ~WRITE)

    def _want(self, wanted: int) -> None:
        if wanted != self._wanted and self._fd >= 0:
            self._wanted = wanted
            self._pump.poller.change(self._fd, wanted)

    def again(self) -> None:
        """See `Wire.again`."""
        if self._fd >= 0:
            self._pump.tell_again(self)

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """See `Wire.start_soon`. Its peer cancels it at its end."""
        self._pump.start_soon(task)

    def hung_up(self) -> bool:
        """See `Wire.hung_up`. Costs a system call."""
        return self._fd < 0 or hung_up(self._fd)

    def shut(self) -> None:
        """See `Wire.shut`."""
        if self._fd >= 0:
            opened = socket.socket(fileno=self._fd)
            try:
                with suppress(OSError):
                    opened.shutdown(socket.SHUT_WR)
            finally:
                opened.detach()

    def close(self) -> None:
        """See `Wire.close`."""
        fd, self._fd = self._fd, -1
        self.peer = None
        if fd >= 0:
            self._pump.forget(fd)
            os.close(fd)


@final
class Pump:
    """Tells the peers of many sockets what they can do. `flush` writes what a turn has queued for others.

    `accepted` is given the wire of each new connection, the address of its other end, and for how many seconds it has
    waited to be accepted, if that was for more than a turn; it is to give the wire a peer. What waits in `admission`
    gets its part of each turn. None is accepted while the node is `full`.
    """

    def __init__(
        self,
        bulkhead: Bulkhead,
        flush: Callable[[], None],
        accepted: Callable[[SocketWire, str, float], None],
        admission: Admission,
        full: Callable[[], bool],
    ) -> None:
        self.poller = Poller()
        self.traffic = Traffic()
        self._bulkhead = bulkhead
        self._flush = flush
        self._accepted = accepted
        self._acceptor = Acceptor(self.poller, bulkhead, self._begin, self._call_later, full)
        self._admission = admission
        self._nursery: trio.Nursery | None = None
        self.turns = 0
        """The turns that it has had."""
        self._wires: dict[int, SocketWire] = {}
        self._line: dict[SocketWire, None] = {}
        """The wires whose peers are to read, in order."""
        self.asleep = False
        """Whether it waits to be told of something."""

    def __len__(self) -> int:
        """Return how many connections it holds."""
        return len(self._wires)

    def wire(self, fd: int) -> SocketWire:
        """Return the wire of a socket that it holds."""
        return self._wires[fd]

    def adopt(self, fd: int) -> SocketWire:
        """Take a socket that does not block, and is the wire's to close from now on. Set `peer` at once."""
        self.poller.add(fd, READ)
        wire = self._wires[fd] = SocketWire(fd, self)
        return wire

    def forget(self, fd: int) -> None:
        """Tell nothing more of a socket."""
        del self._wires[fd]
        self.poller.remove(fd)

    def tell_again(self, wire: SocketWire) -> None:
        """Call `readable` of a wire's peer in the next turn that has time for it, in the order of asking."""
        self._line[wire] = None
        if self.asleep:
            self.asleep = False
            self.poller.ring()

    def listen(self, listener: trio.socket.SocketType) -> None:
        """Accept the connections to a socket that listens, and stays its caller's to close, until `accept_no_more`."""
        self._acceptor.add(Listening(listener))

    def accept_no_more(self) -> None:
        """Leave the listening sockets alone from now on."""
        self._acceptor.end()

    @property
    def accepting(self) -> bool:
        """Whether new connections are accepted: the node is not full."""
        return not self._acceptor.held

    def look(self) -> None:
        """Accept again if the node was full, and is not any more: for when a connection ends or was answered."""
        if self._acceptor.held:
            self._acceptor.look()

    def _begin(self, fd: int, address: str, waited_s: float) -> None:
        try:
            wire = self.adopt(fd)
        except OSError:
            os.close(fd)
            raise
        try:
            self._accepted(wire, address, waited_s)
        finally:
            if wire.peer is None:
                wire.close()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Start a task that ends with the pump at the latest."""
        assert self._nursery is not None
        self._nursery.start_soon(task)

    def _call_later(self, after_s: float, call: Callable[[], None]) -> None:
        self.start_soon(partial(_sleep, after_s, call))

    async def run(self) -> None:
        """Turn until cancelled; then end all peers."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._turn_forever()
        finally:
            self._bulkhead.each("connection", _end, tuple(self._wires.values()))
            self._acceptor.end()
            self.poller.close()

    async def _turn_forever(self) -> None:
        while True:
            with self._bulkhead.contain("pump"):
                await self._wait()
                self._turn()
                continue
            await trio.sleep(RETRY_S)

    async def _wait(self) -> None:
        if self._line or self._admission.waiting:
            await trio.lowlevel.checkpoint()
            return
        self.asleep = True
        await trio.lowlevel.wait_readable(self.poller.fileno())
        self.asleep = False

    def _turn(self) -> None:
        self.turns += 1
        self._admission.begin_turn()
        events = self.poller.poll(EVENTS_PER_TURN)
        # By wire, not by number: a number may be another socket's by the time it is dealt with.
        ready = [(wire, flags) for fd, flags in events if (wire := self._wires.get(fd)) is not None]
        self._line.update((wire, None) for wire, flags in ready if flags & READ or (flags & GONE and wire.reading))
        # Writing first: what a peer has taken no longer holds up the answers to what is read.
        self._each(_writable, [wire for wire, flags in ready if flags & WRITE])
        # Of a peer that is not read just now: it would be told of in each turn.
        self._each(_end, [wire for wire, flags in ready if flags & GONE and not wire.reading])
        self._read()
        self._flush()
        self._acceptor.accept((fd for fd, _ in events), idle=len(self._line) < EVENTS_PER_TURN)
        self._admission.serve(trio.current_time())
        self._acceptor.look()

    def _read(self) -> None:
        line, until = self._line, trio.current_time() + READ_S
        # Taken first: those that ask to be told again meanwhile have their turn in the next one.
        for wire in tuple(islice(line, EVENTS_PER_TURN)):
            del line[wire]
            self._each(_readable, (wire,))
            if trio.current_time() >= until:
                return

    def _each(self, call: Callable[[SocketWire], None], wires: Sequence[SocketWire]) -> None:
        self._bulkhead.each("connection", call, wires, failed=_fail)


async def _sleep(seconds: float, call: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    call()


def _writable(wire: SocketWire) -> None:
    if wire.peer is not None:
        wire.peer.writable()


def _readable(wire: SocketWire) -> None:
    if wire.peer is not None:
        wire.peer.readable()


def _end(wire: SocketWire) -> None:
    if wire.peer is not None:
        wire.peer.end()


def _fail(wire: SocketWire) -> None:
    if wire.peer is not None:
        wire.peer.fail()
