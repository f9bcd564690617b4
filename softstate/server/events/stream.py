"""One stream of server-sent events: a session like any other, whose messages are made here (P-SSE).

Its client says nothing after its request. So the node says for it what a client of its own would say: hello and
subscribe in one flight, and a renewal whenever one is due, which extends the lease and has its names judged again. The
answers become events. All that is pushed passes through the same outbox as for a WebSocket, in bytes that all streams
share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import final

import trio

from softstate.auth.lasting import CREDENTIALS_S_MIN
from softstate.errors import Compacted, Rewound, Unauthenticated, Unreadable
from softstate.model import Record
from softstate.position import Position
from softstate.server.edge.wire import Wire
from softstate.server.events.endings import ENDINGS, ending_of
from softstate.server.events.request import StreamRequest, StreamTimes
from softstate.server.fanout.outbox import Outbox
from softstate.server.websocket.beats import SharedBeat
from softstate.server.websocket.channel import CLOSE_S_MAX
from softstate.server.websocket.connection import Connection
from softstate.server.websocket.parts import Parts
from softstate.session import Effect, MeasuredRequest, SendAhead, SendFirst, State
from softstate.session.beats import BEAT_MS_MIN
from softstate.session.load_advice import renew_ms
from softstate.wire import CloseCode, messages
from softstate.wire.codec.events import EVENTS
from softstate.wire.event_stream import (
    KEEP_ALIVE,
    Ending,
    Gone,
    Synced,
    gone_event,
    open_event,
    reset_event,
    sync_event,
)
from softstate.wire.messages import DeniedNames, Error, Hello, Renew, Renewed, Revoked, ServerBye, Subscribe, Subscribed
from softstate.wire.push import PushBatch
from softstate.wire.subscription_digest import MASK, digest_text, name_hash
from softstate.wire.websocket import FrameReader

RECEIVE_BYTES = 4 * 1024
"""Bytes that are received at once, to be thrown away."""

IGNORED_BYTES_MAX = 64 * 1024
"""Bytes that a client may send behind its request; one that sends more is left."""

BUSY_S = 1.0
"""Time after which a renewal that could not be made is tried again: something else waits for the store."""

LISTS_MAX = 3
"""Listings that one stream begins, at most: at first, behind a reset, and if deletions were forgotten."""


_UNUSED = FrameReader(0)

_LISTED = StreamRequest({}, {})
"""The request of a stream whose listing was told."""


@final
class EventStream(Connection):
    """The shell of the session of one stream, from the answer to its request until the connection ends."""

    __slots__ = (
        "_asked_at", "_count", "_denied", "_digest", "_ends_at", "_farewell", "_ignored", "_lists", "_renew_at",
        "_request", "_sync_due", "_synced", "_times", "_to_list", "_unlisted", "_unreadable",
    )  # fmt: skip

    def __init__(
        self,
        parts: Parts,
        wire: Wire,
        measured: MeasuredRequest,
        over: Callable[[Connection], None],
        request: StreamRequest,
        times: StreamTimes,
        life_s: float,
    ) -> None:
        self._request = request
        self._times = times
        self._asked_at = parts.now()
        self._ends_at = trio.current_time() + life_s
        self._renew_at = math.inf
        # The position that the client was told last by a `sync`, and when the next is due even if it does not move.
        self._synced: Position | None = None
        self._sync_due = -math.inf
        # News for the next `sync`: names that left the lease, topics that are damaged, and names to be swept.
        self._denied: Sequence[str] = ()
        self._unreadable: Sequence[str] = ()
        self._unlisted: Sequence[str] = ()
        # The set that its client was told of: the lease must hold no other, or a `sync` would lie (P-REN-8).
        self._digest = self._count = 0
        self._to_list = False
        self._lists = 0
        self._ignored = 0
        self._farewell: Gone | None = None
        super().__init__(parts, EVENTS, wire, measured, over, request.presented)
        self._reader = _UNUSED  # no frame will come: one for all takes no memory

    def begin(self, answer: bytes) -> None:
        """Send the head of the reply, and the first event."""
        recover = self._parts.terms().recover
        retry_ms = self._times.uniform(recover.base_ms, recover.base_ms + max(recover.spread_ms, 3 * recover.base_ms))
        # Rounded up: an anchor that was read earlier would make all ages seem younger.
        super().begin(answer + open_event(math.ceil(self._asked_at * 1000), round(retry_ms)))

    def greet(self) -> None:
        """Ask for the session, and for its names, in one flight (P-CONN-16)."""
        request = self._request
        self._to_list = True
        self.machine.since = request.after
        hello = Hello(request.position, beat_ms=BEAT_MS_MIN)
        self._measure_works()
        self.carry_out(self.machine.received(hello, self._parts.now()))
        self._list()
        self._all_taken(received=False)

    def _measure_works(self) -> None:
        if self._measured is not None:
            self._measured.works(trio.current_time())

    def _list(self) -> None:
        """Subscribe, if that is due, and nothing else is under way."""
        if not self._to_list or self.machine.busy or self.outbox is None or self._closing is not None:
            return
        self._to_list = False
        self._lists += 1
        self._measure_works()
        topics, prefixes = self._request.topics, self._request.prefixes
        if self._lists > 1:
            topics, prefixes = dict.fromkeys(topics, 0), dict.fromkeys(prefixes, 0)
            self.machine.since = 0
        subscribe = Subscribe(0, dict(topics), dict(prefixes), replace=True)
        self.carry_out(self.machine.received(subscribe, self._parts.now()))

    def _go_on(self) -> None:
        super()._go_on()
        if self._to_list and self.machine.state is State.OPEN:
            self._list()

    # Receiving ---------------------------------------------------------------------------------------

    def readable(self) -> None:
        """Throw away what is received; the end of it ends the stream (P-SSE-5)."""
        if self.outbox is None:
            return
        try:
            data = self._wire.receive(RECEIVE_BYTES)
        except BlockingIOError:
            return
        self._ignored += len(data)
        if not data or self._ignored > IGNORED_BYTES_MAX:
            self.end()

    # Pushing -------------------------------------------------------------------------------------------------

    def offer(self, batch: PushBatch) -> None:
        """Queue pushes, except those that the gap buffer of the listing takes."""
        outbox = self.outbox
        if self.machine.gap_buffer is not None or outbox is None or not outbox.idle:
            self._offer_each(batch)
        else:
            outbox.push(batch.events or batch.frames(EVENTS), batch, EVENTS)

    def beat(self, beat: SharedBeat) -> None:
        """Queue a `sync` if the position has moved, or it is time for one, and it is true of this session (P-SSE-4)."""
        outbox = self.outbox
        if outbox is None or self._closing is not None or not self.machine.vouches(beat.position, beat.now):
            return
        now = trio.current_time()
        if beat.position is None:
            if now >= self._sync_due:
                self._sync_due = now + self._times.sync_s
                outbox.beat(KEEP_ALIVE)
        elif beat.position != self._synced or now >= self._sync_due:
            if not outbox.congested:  # else an older one may wait in its place
                self._note_sync(beat.position)
            outbox.beat(beat.event(round(self._times.sync_s * 1000)))

    def _note_sync(self, position: Position) -> None:
        self._synced = position
        # A beat earlier, rather than one too late.
        self._sync_due = trio.current_time() + self._times.sync_s - BEAT_MS_MIN / 1000

    # Answers of the machine -------------------------------------------------------------------------------------------

    def _send(self, outbox: Outbox, message: messages.Message, records: Sequence[Record]) -> None:
        match message:
            case messages.Welcome():
                self._welcomed(outbox, message)
            case Subscribed():
                self._send_page(outbox, message, records)
            case Renewed():
                self._renewed_at(outbox, message)
            case Revoked(reason, retry_ms, spread_ms):
                self._end_as(self._time_reason() if reason == "expired" else ending_of(reason), retry_ms, spread_ms)
                self._queue_close(CloseCode.DRAINING, "")
            case ServerBye(reason, retry_ms, spread_ms):
                self._end_as(ending_of(reason), retry_ms, spread_ms)
            case Error():
                self._failed_request(message)
            case _:
                pass  # a stream has asked for nothing else

    def _welcomed(self, outbox: Outbox, welcome: messages.Welcome) -> None:
        self._renew_at = trio.current_time() + renew_ms(welcome.ttl_ms) / 1000
        self._ends_at = min(self._ends_at, trio.current_time() + self._credentials_s())
        self._look_at(min(self._renew_at, self._ends_at))
        if welcome.reset is True:
            outbox.reply(reset_event(welcome.position))
            self._to_list = True
            self._lists = max(self._lists, 1)

    def _credentials_s(self) -> float:
        return self.machine.identity.until - self._parts.now()

    def _time_reason(self) -> Ending:
        """Return why a stream ends whose time is over; after that of its credentials it would be refused (P-SSE-8)."""
        return "denied" if self._credentials_s() <= CREDENTIALS_S_MIN else "renew"

    def _send_page(self, outbox: Outbox, message: Subscribed, records: Sequence[Record]) -> None:
        events: list[bytes] = []
        for record in records:
            try:
                data = self._encoded.get(id(record)) or EVENTS.change(record)
            except Unreadable:
                data = b""
            if data:
                events.append(data)
            else:
                self._unreadable = (*self._unreadable, record.topic)
        if not message.more:
            self._denied = (*self._denied, *message.denied)
            if message.denied and self._holds_nothing():
                return
            # Not those of the answer: they are the lease's, which may have lost a name meanwhile.
            asked = len(self._request.topics) + len(self._request.prefixes)
            self._digest, self._count = self.machine.agreed or 0, asked - len(set(message.denied))
            events.append(self._sync(message.position, message.lag_ms, message.compacted))
            self._request = _LISTED  # it is not listed again: 1 KiB less a stream
        outbox.reply(b"".join(events), droppable=True)

    def _renewed_at(self, outbox: Outbox, renewed: Renewed) -> None:
        now = trio.current_time()
        due = self._denied or now >= self._sync_due
        if not renewed.match and self._renew_at <= now:
            return  # names left the lease while it was under way: it is renewed again
        if not renewed.match:
            self._end_as("renew")  # it goes on from what it was told last, with all of its names
            self._queue_close(CloseCode.DRAINING, "")
        elif renewed.store == "ok" and due:
            outbox.reply(self._sync(renewed.position, renewed.lag_ms), droppable=True)

    def _sync(self, position: Position, lag_ms: int, compacted: Sequence[str] = ()) -> bytes:
        """Write a `sync` for the answer to what was asked at `_asked_at`, before the store was read (P-SSE-2)."""
        clock_ms = max(math.floor(self._asked_at * 1000) - lag_ms, 0)
        compacted = (*dict.fromkeys((*self._unlisted, *compacted)),)
        synced = Synced(clock_ms, round(self._times.sync_s * 1000), compacted, self._denied, self._unreadable)
        self._denied = self._unreadable = self._unlisted = ()
        self._note_sync(position)
        return sync_event(position, synced)

    def _send_ahead(self, _outbox: Outbox, effect: SendFirst | SendAhead) -> None:
        # A lineage row that passed needs no event: the next `sync` is of it.
        if isinstance(effect.message, DeniedNames):
            names = effect.message.names
            self._denied = (*self._denied, *names)
            self._digest = (self._digest - sum(map(name_hash, names))) & MASK
            self._count -= len(names)
            if not self._holds_nothing():
                self._renew_at = trio.current_time()  # which tells it, and has beats go on

    def _holds_nothing(self) -> bool:
        """End the stream if no name is left that may be read (P-SSE-8); tell whether it was."""
        lease = self.machine.held_lease()
        if lease is not None and lease.names:
            return False
        self._end_as("denied")
        self._queue_close(CloseCode.UNAUTHENTICATED, "")
        return True

    def _failed_request(self, error: Error) -> None:
        if error.code == Rewound.code and self._to_list:
            return  # the welcome has told of it
        if error.code == Compacted.code and self._lists < LISTS_MAX:
            self._unlisted = [*self._request.topics, *self._request.prefixes]
            self._to_list = True
            return
        reason: Ending = "denied" if error.code == Unauthenticated.code else "overloaded"
        self._end_as(reason, error.retry_ms)
        if self.machine.state is not State.ENDED:
            self._queue_close(CloseCode.UNAVAILABLE, "")

    # Renewing, and the end -------------------------------------------------------------------------------------------

    def _look_at(self, at: float) -> None:
        self._watch = self._patience.sooner(self._watch, at)

    def _silent_until(self, now: float) -> float:
        del now
        return min(self._renew_at, self._ends_at)

    def _time_out(self) -> None:
        now = trio.current_time()
        if now >= self._ends_at:
            self._end_as(self._time_reason())
            self._queue_close(CloseCode.DRAINING, "")
        else:
            self._renew(now)

    def _renew(self, now: float) -> None:
        machine = self.machine
        lease = machine.held_lease()
        if machine.busy or self._turn is not None or self._held is not None or lease is None:
            self._renew_at = now + BUSY_S
            return
        self._renew_at = now + renew_ms(round(lease.ttl_s * 1000)) / 1000
        self._asked_at = self._parts.now()
        machine.passed(self._parts.hub.position.revision)
        renewal = Renew(0, digest_text(self._digest), self._count)
        self.carry_out(machine.received(renewal, self._asked_at))

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects, in order; a renewal may have become due by one."""
        super().carry_out(effects)
        if self._renew_at <= trio.current_time() and self.outbox is not None:
            self._look_at(trio.current_time())

    def _end_as(self, reason: Ending, retry_ms: int | None = None, spread_ms: int | None = None) -> None:
        least_ms, over_ms = ENDINGS[reason]
        spread_ms = over_ms if spread_ms is None else spread_ms
        self._farewell = self._farewell or Gone(reason, least_ms if retry_ms is None else retry_ms, spread_ms)

    def _close(self, code: int, reason: str) -> None:
        self._queue_close(code, reason)

    def _queue_close(self, code: int, reason: str) -> None:
        """Queue the last event behind all that waits, and end the reply behind it (P-SSE-6)."""
        del reason
        outbox = self.outbox
        if outbox is None or self._closing is not None:
            return
        self._closing = code
        self._drop_waits()
        if self._farewell is None:
            self._end_as("overloaded")
        gone = self._farewell
        assert gone is not None
        wait_ms = max(gone.retry_ms, self._times.uniform(0, gone.spread_ms))
        outbox.close(gone_event(gone, math.ceil(wait_ms)))
        self._close_by = min(self._close_by, trio.current_time() + CLOSE_S_MAX)
        self._watch = self._patience.sooner(self._watch, self._close_by)
        self._last = self._wire.shut
        outbox.flush()
        self._finish()

    def _ended(self) -> None:
        # Nobody will resume it: another node would not know it, and the client has its position.
        self.machine.end_lease()
        super()._ended()
