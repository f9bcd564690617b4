"""The WebSocket of one connection: frames in, messages one after the other, and the closing handshake.

It is an object that is fed with bytes, and never waits: it has no task, and there is nothing to cancel. It goes on when
it is called again: by the edge (`feed`, `writable`), by `late`, and by `Connection`, once what held a message up is
over. The next message stays in the inbox, and nothing more is read, for as long as one is held up.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence

import trio

from softstate.errors import Overloaded
from softstate.server.edge.patience import Patience
from softstate.server.edge.wire import Wire
from softstate.server.fanout.outbox import Outbox, OutboxBounds
from softstate.wire import CloseCode
from softstate.wire.websocket import FrameReader, PeerClose, Ping, Pong, Received, Violation, close_frame, pong_frame

MESSAGES_PER_TURN = 16
"""Messages of one connection that are taken in one turn of the loop, at most; the rest waits for the next (P-CONN-15).
More than one, since `hello` and `subscribe`, and the publishes of a batch, come together, and a turn costs 10 us."""

RECEIVE_BYTES = 4 * 1024
"""Bytes that are received at once, at most..."""

RECEIVE_BYTES_MAX = 64 * 1024
"""... but for a frame of which more are missing: so many of it, and none of what lies behind it."""

CLOSE_S_MAX = 2.0
"""Time for a slow peer to take what is queued, and to close in turn; then its connection is closed without that."""


class Channel:
    """One WebSocket, once its handshake was answered; what a message means is its subclass's."""

    __slots__ = (
        "_close_by",
        "_closing",
        "_heard_at",
        "_inbox",
        "_last",
        "_patience",
        "_ponged",
        "_reader",
        "_reading",
        "_watch",
        "_wire",
        "outbox",
    )

    def __init__(
        self, wire: Wire, patience: Patience, bounds: OutboxBounds, message_bytes_max: int, hello_s_max: float
    ) -> None:
        now = trio.current_time()
        self.outbox: Outbox | None = Outbox(wire.try_send, self._want_write, self._overdue, bounds, wire.traffic)
        """None once the connection has ended."""
        self._wire = wire
        self._patience = patience
        self._reader = FrameReader(message_bytes_max)
        self._inbox: list[Received] = []
        self._reading = True
        self._ponged = False
        """Whether a pong was queued that is to be written."""
        # The code of the close that is queued or written; until when its peer has time for it, in seconds; and what
        # follows it, once the peer has sent one, or none.
        self._closing: int | None = None
        self._close_by = math.inf
        self._last: Callable[[], None] | None = None
        self._heard_at = now
        self._watch = patience.watch(self, now + hello_s_max)

    # Called by the edge ---------------------------------------------------------------------------------------------

    def readable(self) -> None:
        """Take what was received, and go on with messages that were left for this turn."""
        if self._inbox:
            self._go_on()
        if not self._reading or self.outbox is None:
            return
        try:
            data = self._wire.receive(max(RECEIVE_BYTES, min(self._reader.missing, RECEIVE_BYTES_MAX)))
        except BlockingIOError:
            return
        if data:
            self._wire.traffic.received += len(data)
            self.received(data)
        else:
            self.end()

    def received(self, data: bytes) -> None:
        """Take bytes that were received."""
        self._inbox += self._reader.feed(data)
        self._go_on()

    def writable(self) -> None:
        """Go on writing, and with what waited for the peer to take its replies."""
        outbox = self.outbox
        if outbox is None:
            return
        outbox.writable()
        if outbox.dead:
            self.end()
            return
        if outbox.replies_taken():
            self._replies_taken()
        self._go_on()
        self._finish()

    def end(self) -> None:
        """End: the peer has gone, or is to be left. Idempotent."""
        outbox = self.outbox
        if outbox is None:
            return
        self.outbox = None
        outbox.end()
        self._inbox = []
        self._drop_waits()
        self._watch.end()
        self._wire.close()
        self._ended()

    # Memory ---------------------------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """The bytes of a message that is not complete, and of those that wait to be taken."""
        waiting = sum(len(item) for item in self._inbox if isinstance(item, bytes | str)) if self._inbox else 0
        return self._reader.held_bytes + waiting

    def shed_memory(self, error: Overloaded) -> None:
        """Close, and forget what was received: the memory of the node is full (P-CONN-17)."""
        if self.outbox is not None and self._closing is None:
            self._reader.stop()
            self._close(CloseCode.OVERLOADED, error.message)

    # Messages -------------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take messages again behind one that had to wait; until now its peer was not to be heard."""
        self._heard_at = trio.current_time()
        self._go_on()

    def _go_on(self) -> None:
        """Take messages until one has to wait, or as many as one turn takes."""
        taken = 0
        while self._inbox and taken < MESSAGES_PER_TURN:
            received, self._inbox = self._inbox, []
            for at, item in enumerate(received):
                if self._closing is not None or isinstance(item, Ping | Pong):
                    self._take_event(item)
                elif self.outbox is None:
                    break
                elif taken == MESSAGES_PER_TURN or self._held_up(item):
                    self._inbox = self._answer_pings(received[at:])
                    break
                elif isinstance(item, bytes | str):
                    taken += 1
                    self._take(item)
                else:
                    self._take_event(item)
            if self._inbox:
                break
        if self._inbox and not self._held_up(self._inbox[0]):
            # A peer that sends many at once holds up no other (P-CONN-15).
            self._wire.again()
        self._write_pongs()
        self._all_taken(received=bool(self._inbox))
        self._set_reading()

    def _answer_pings(self, received: Sequence[Received]) -> list[Received]:
        """Answer pings ahead of messages that have to wait; return what has to wait."""
        waiting: list[Received] = []
        for item in received:
            if isinstance(item, Ping | Pong):
                self._take_event(item)
            else:
                waiting.append(item)
        return waiting

    def _write_pongs(self) -> None:
        """Write the answers to all pings of a read at once: 682 of them fit into 4 KiB."""
        if self._ponged and self.outbox is not None:
            self.outbox.flush()
        self._ponged = False

    def _set_reading(self) -> None:
        """Have no more received than is taken: what is not read fills the peer's buffers."""
        outbox = self.outbox
        if outbox is None:
            return
        # While a request is under way, one read more is made: it finds pings, and the end.
        reading = self._closing is not None or (not self._inbox and outbox.replies_taken())
        if reading is not self._reading:
            self._reading = reading
            self._wire.want_read(reading)

    # The end --------------------------------------------------------------------------------------------------------

    def _close(self, code: int, reason: str) -> None:
        """Close for a reason of this node's."""
        self._queue_close(code, reason)

    def _queue_close(self, code: int, reason: str) -> None:
        """Queue the close behind all that waits; what the peer still sends is not looked at, but for its own close."""
        outbox = self.outbox
        assert outbox is not None
        self._closing = code
        self._inbox = []
        self._drop_waits()
        outbox.close(close_frame(code, reason))
        # Not later, should it be closed again: for a bug, behind another reason.
        self._close_by = min(self._close_by, trio.current_time() + CLOSE_S_MAX)
        self._watch = self._patience.sooner(self._watch, self._close_by)
        outbox.flush()
        self._set_reading()

    def _finish(self) -> None:
        """Do what follows the last frame, once that is written."""
        last = self._last
        if last is not None and self.outbox is not None and not len(self.outbox):
            self._last = None
            last()

    def _take_event(self, event: Received) -> None:
        if isinstance(event, PeerClose | Violation):
            # After a violation the peer may go on sending. Were the socket closed with that unread, the system would
            # reset the connection, and the peer might never see why.
            self._last = self.end if isinstance(event, PeerClose) else self._wire.shut
            if self._closing is None and isinstance(event, PeerClose):
                self._queue_close(event.code, "")
            elif self._closing is None:
                self._close(event.code, event.reason)
            self._finish()
        elif isinstance(event, Ping) and self.outbox is not None and not self.outbox.congested:
            # Not answered while the peer takes nothing: it would not read the pong either, and may send many pings.
            self.outbox.reply(pong_frame(event.payload))
            self._ponged = True

    # Patience -------------------------------------------------------------------------------------------------------

    def late(self, now: float) -> float:
        """See `softstate.server.edge.patience.Patient.late`."""
        outbox = self.outbox
        if outbox is None or self._closing is not None:
            return self._late_to_close(now)
        outbox.check(now)
        silent_until = self._silent_until(now)
        if silent_until <= now and self._reading:
            # This process may have been stopped, and what the peer has sent meanwhile may wait to be read.
            self.readable()
            if self.outbox is None or self._closing is not None:
                return self._late_to_close(now)
            silent_until = self._silent_until(now)
        if silent_until <= now:
            self._time_out()
        return min(silent_until, outbox.overdue_at)

    def _late_to_close(self, now: float) -> float:
        # It may have been filed for an earlier deadline than that of the close.
        if now < self._close_by and self.outbox is not None:
            return self._close_by
        self.end()
        return math.inf

    def _silent_until(self, now: float) -> float:
        if self._is_at_work():
            # A peer that has sent something is not idle.
            self._heard_at = now
        return self._heard_at + self._idle_s_max()

    def _expect_soon(self, within_s: float) -> None:
        """Take the peer for silent from now on, and look at it when it has been so for some seconds."""
        self._heard_at = trio.current_time()
        self._watch = self._patience.sooner(self._watch, self._heard_at + within_s)

    def _want_write(self, wanted: bool) -> None:
        self._wire.want_write(wanted)
        if wanted and self.outbox is not None:
            self._watch = self._patience.sooner(self._watch, self.outbox.overdue_at)

    # For the subclass to say ----------------------------------------------------------------------------------------

    @abstractmethod
    def fail(self) -> None:
        """End: a bug was met."""

    @abstractmethod
    def _take(self, data: bytes | str) -> None:
        """Take a message."""

    @abstractmethod
    def _held_up(self, item: Received) -> bool:
        """Tell whether `item`, which comes next, has to wait."""

    @abstractmethod
    def _is_at_work(self) -> bool:
        """Tell whether the peer waits for the node."""

    @abstractmethod
    def _all_taken(self, *, received: bool) -> None:
        """Take note that messages were taken, all of them unless some were `received` that have to wait."""

    @abstractmethod
    def _replies_taken(self) -> None:
        """Go on with what waited for the peer to take its replies, if anything did."""

    @abstractmethod
    def _overdue(self) -> None:
        """See `Outbox`."""

    @abstractmethod
    def _idle_s_max(self) -> float:
        """Return for how long the peer may be silent, in seconds."""

    @abstractmethod
    def _time_out(self) -> None:
        """Leave a peer that was silent for too long."""

    @abstractmethod
    def _drop_waits(self) -> None:
        """Wait no longer for the store or a turn."""

    @abstractmethod
    def _ended(self) -> None:
        """Take note that the connection is over."""
