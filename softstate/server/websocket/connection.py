"""One WebSocket connection: carries messages from the socket to the session machine, and carries out its effects.

It decides nothing: the machine knows what a message means, the outbox how much may wait. It never waits: it goes on
when it is called, by the edge, by an answer of the store, or in a turn that has a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial

import trio

from softstate.auth.presented import NOTHING_PRESENTED, Presented
from softstate.errors import RequestError, Unsupported
from softstate.model import Page, Record
from softstate.position import Position
from softstate.server.edge.wire import Wire
from softstate.server.fanout.outbox import Outbox
from softstate.server.fanout.pages import encode_in_portions
from softstate.server.fanout.turns import BYTES_PER_NAME, FREE_BYTES, Waiting
from softstate.server.storage.asker import PATIENT
from softstate.server.storage.heads import HeadTicket
from softstate.server.storage.level import Reading
from softstate.server.storage.read_queue import ReadTicket
from softstate.server.websocket.beats import SharedBeat, Slot
from softstate.server.websocket.channel import Channel
from softstate.server.websocket.measuring import after_effects, after_renewal, after_request
from softstate.server.websocket.others import end_others
from softstate.server.websocket.parts import Parts, Work
from softstate.server.websocket.publishes import Publishes
from softstate.server.websocket.remembering import CLOSED, ENDED, remember, remember_message, remember_slow
from softstate.server.websocket.session_log import note_end, note_welcome
from softstate.server.websocket.shared_frames import replay, send_ahead
from softstate.server.websocket.silence import end_silent, silence_s_max
from softstate.session import (
    Close,
    CloseOther,
    DropPending,
    DropUncovered,
    Effect,
    Inquire,
    MeasuredRequest,
    Read,
    ReadHead,
    Replay,
    Send,
    SendAhead,
    SendFirst,
    SessionMachine,
    SetBeat,
    Submit,
    Turn,
)
from softstate.wire import CBOR, CloseCode, Codec, messages
from softstate.wire.messages import Farewell, Reason, Renewed, Subscribed
from softstate.wire.push import PushBatch
from softstate.wire.websocket import Received

_NOTHING: Mapping[int, bytes] = {}


class Connection(Channel):
    """The shell of one session machine, from the answer to its handshake until the connection ends."""

    __slots__ = (
        "_draining", "_encoded", "_held", "_measured", "_over", "_parts", "_publishes", "_report", "_ticket",
        "_turn", "beat_every", "beat_slot", "codec", "machine",
    )  # fmt: skip

    def __init__(
        self,
        parts: Parts,
        codec: Codec,
        wire: Wire,
        measured: MeasuredRequest,
        over: Callable[[Connection], None],
        presented: Presented = NOTHING_PRESENTED,
    ) -> None:
        config = parts.config
        self.codec = codec
        self.machine = SessionMachine(
            parts.leases, self, parts.terms, parts.tokens, parts.repairs,
            gap_topics_max=config.pending_max, names_per_turn=config.turn_names_max, gate=parts.gate,
            presented=presented,
        )  # fmt: skip
        self._parts = parts
        self._over = over
        # The request that is measured now: coming live, from handshake to first answered subscribe; later a poll.
        self._measured: MeasuredRequest | None = measured
        self._publishes: Publishes | None = None
        # A read and work under way, and a read that waits for replies to be taken, or for what was received with it.
        self._ticket: ReadTicket | None = None
        self._turn: Waiting | None = None
        self._held: Read | ReadHead | None = None
        self._encoded = _NOTHING
        self.beat_slot: Slot | None = None
        self._draining, self.beat_every, self._report = False, 0, 0
        # Last: from then on the node's patience has it.
        super().__init__(wire, parts.patience, parts.bounds, config.message_bytes_max, config.hello_s_max)

    def begin(self, answer: bytes) -> None:
        """Send the answer to the handshake."""
        outbox, measured = self.outbox, self._measured
        assert outbox is not None
        assert measured is not None
        measured.works(trio.current_time())
        outbox.reply(answer)
        outbox.flush()
        measured.waits(trio.current_time())

    def _ended(self) -> None:
        if self._measured is not None:
            self._measured.left(trio.current_time())
        self._parts.beats.drop(self)
        self._parts.reports.forget(self._report)
        note_end(self._parts, self.machine, self._closing)
        self._over(self)
        remember(self.machine.lease, self._parts.now(), ENDED)
        self.machine.disconnected()

    # Called by the hub and the node ---------------------------------------------------------------------------------

    def offer(self, batch: PushBatch) -> None:
        """Queue pushes, except those that the gap buffer of a subscribe takes."""
        outbox = self.outbox
        if self.machine.gap_buffer is not None or outbox is None or not outbox.idle:
            self._offer_each(batch)
            return
        # One call and one write: nearly all the work of a node passes here.
        data = batch.cbor if self.codec is CBOR else batch.json
        outbox.push(data or batch.frames(self.codec), batch, self.codec)

    def _offer_each(self, batch: PushBatch) -> None:
        outbox = self.outbox
        for change in batch.changes:
            if self.machine.gap_buffer is not None and self._gap_buffer_takes(change.record):
                continue
            if outbox is not None:
                outbox.notify(change.record.topic, change.frame(self.codec))
                self._parts.hub.flush_later(self)

    def _gap_buffer_takes(self, record: Record) -> bool:
        gap_buffer = self.machine.gap_buffer
        assert gap_buffer is not None
        if gap_buffer.takes(record):
            return True
        self.machine.passed(self._parts.hub.position.revision)
        return False

    def flush(self) -> None:
        """Write what was queued."""
        if self.outbox is not None:
            self.outbox.flush()

    def beat(self, beat: SharedBeat) -> None:
        """Queue a beat, unless it is not true of this session."""
        if self.outbox is not None and self.machine.vouches(beat.position, beat.now):
            self.outbox.beat(beat.frame(self.codec, self.outbox.sent))

    def moved(self, position: Position) -> None:
        """Tell the peer that a lineage row passed."""
        self.carry_out(self.machine.moved(position))

    def revoked(self, reason: Reason, retry_ms: int = 0) -> None:
        """Tell the peer that its lease is over."""
        if reason == "overloaded" and not retry_ms:
            retry_ms = self._parts.leases.retry_ms
        self._tell(self.machine.revoked(reason, retry_ms))

    def judge(self) -> bool:
        """Judge the lease by rules that have changed, and tell the peer what it has lost; False if that has to wait."""
        if self.machine.pending is not None or self._turn is not None:
            return not self.machine.outdated
        if self.outbox is not None and self._closing is None and self.machine.outdated:
            self._tell(self.machine.rules_changed(self._parts.now()))
        return True

    def _tell(self, effects: Sequence[Effect]) -> None:
        self.carry_out(effects)
        if self.machine.denied:
            self._expect_soon(self._idle_s_max())

    def leave(self, reason: Farewell) -> None:
        """Tell the peer goodbye, and end the connection."""
        self.carry_out(self.machine.leave(reason))

    def drain(self) -> None:
        """Take no more messages; send `bye` once the publishes in flight are answered."""
        self._draining = True
        self._inbox = []
        self._drop_waits()
        self._leave_drained()

    def _leave_drained(self) -> None:
        if self._draining and (self._publishes is None or not self._publishes.inflight):
            self.carry_out(self.machine.leave("draining", self._parts.config.recover_base_ms))

    def fail(self) -> None:
        """End this connection, which has met a bug, with code 1011; its lease is given up (S18, P-CONN-12).

        From this call on nothing reaches the peer but what its socket has begun to take, and the close.
        """
        outbox, attempt = self.outbox, self._parts.bulkhead.attempt
        failed = self._closing == CloseCode.BUG
        if outbox is not None and not failed:
            for step in (self.machine.end_lease, outbox.drop, self._drop_waits):
                attempt(step)
            why = "this node met an error of its own, and has logged it"
            failed = attempt(self._close, CloseCode.BUG, why) is not None
        if failed:
            attempt(self.end)

    def _overdue(self) -> None:
        remember_slow(self.machine.lease, self._parts.now(), self.outbox)
        self.carry_out(self.machine.revoked("slow_consumer", self._parts.config.timeout_ms))

    # Effects --------------------------------------------------------------------------------------------------------

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects, in order."""
        outbox = self.outbox
        if outbox is None:
            return
        for effect in effects:
            match effect:
                case Send(message, records):
                    remember_message(self.machine.lease, self._parts.now, message)
                    self._send(outbox, message, records)
                case Read() | ReadHead() | Turn() | Submit() | Inquire():
                    self._begin(outbox, effect)
                case SendFirst(message) | SendAhead(message):
                    remember_message(self.machine.lease, self._parts.now, message)
                    self._send_ahead(outbox, effect)
                case Replay(records):
                    replay(outbox, self.codec, records, self._encoded)
                case SetBeat(every_ms) if self.outbox is not None:  # else it ended just now
                    self._parts.beats.set(self, every_ms)
                case DropPending():
                    outbox.drop()
                case DropUncovered() | CloseOther():
                    end_others(outbox, effect)
                case Close(code, reason):
                    self._close(code, reason)
        outbox.flush()
        if self._measured is not None:
            self._measured = after_effects(self._measured, effects, trio.current_time())

    def _close(self, code: int, reason: str) -> None:
        self._parts.closes[code] += 1
        remember(self.machine.lease, self._parts.now(), CLOSED, code)
        super()._close(code, reason)

    def _begin(self, outbox: Outbox, effect: Read | ReadHead | Turn | Submit | Inquire) -> None:
        """Begin what is answered later. What was queued before is written first: it tells whether replies are taken."""
        match effect:
            case Submit():
                self._submit(effect)
            case Inquire(ticket, about):
                address = self.machine.presented.address
                self._parts.gate.ask(about, address, partial(self._inquired, ticket), self.fail)
            case Turn(ticket, names):
                outbox.flush()
                self._work_on(self._portion(ticket, names))
            case _:
                outbox.flush()
                if self.machine.busy:
                    self._ask(effect)
                else:  # hello, whose subscribe may have been received already: one read for both
                    self._held = effect

    def _send_ahead(self, outbox: Outbox, effect: SendFirst | SendAhead) -> None:
        """Send ahead of all that waits; a stream of events does so in its own way."""
        send_ahead(outbox, self.codec, effect)

    def _send(self, outbox: Outbox, message: messages.Message, records: Sequence[Record]) -> None:
        data = self.codec.frame(self.codec.encode(message, records, self._encoded))
        key = outbox.reply(data, droppable=isinstance(message, Renewed | Subscribed))
        if isinstance(message, messages.Welcome):
            outbox.anchor = key
            note_welcome(self._parts, self.machine, self.codec, message)

    def _drop_waits(self) -> None:
        """Wait no longer for the store or a turn."""
        if self._ticket is not None:
            self._ticket.abandon()
        if self._turn is not None:
            self._turn.abandon()
        self._ticket = self._turn = self._held = None

    # The store ------------------------------------------------------------------------------------------------------

    def _ask(self, effect: Read | ReadHead) -> None:
        """Ask the store, once the peer has taken all replies; the effects of its answer run as a callback."""
        outbox, access, ticket = self.outbox, self._parts.access, effect.ticket
        if outbox is None or self._closing is not None or not self.machine.expects(ticket):
            return
        if not outbox.replies_taken():
            self._held, self._heard_at = effect, trio.current_time()
            if self._measured is not None:
                self._measured.waits(self._heard_at)
            return
        try:
            if isinstance(effect, ReadHead):
                lag_s = access.heads.renewal_lag_s()
                if lag_s is None or not self.machine.names_history_of(self._parts.hub.position):
                    access.heads.submit(partial(self._caught_up, ticket), self.fail)
                else:
                    self.carry_out(self._renewed(ticket, lag_s))
            else:
                self._drop_waits()
                # P-SUB-17: a read is a sixth of what a connect costs.
                page = access.unchanged.answer(effect.query, effect.at_least)
                if page is not None:
                    self._take_page(effect, page)
                else:
                    answered = partial(self._answered, effect, access.unchanged.begin())
                    self._ticket = access.reads.submit(effect.query, PATIENT, answered, self.fail)
        except RequestError as error:
            self.carry_out(self._failed(ticket, error))

    def _answered(self, effect: Read, reading: Reading, read: ReadTicket) -> None:
        self._ticket = None
        if read.error is not None:
            self.carry_out(self._failed(effect.ticket, read.error))
        else:
            assert read.answer is not None
            self._parts.access.unchanged.learn(effect.query, read.answer, reading)
            self._take_page(effect, read.answer)
        self._resume()

    def _take_page(self, effect: Read, page: Page) -> None:
        heads = self._parts.access.heads
        if page.position.revision < effect.at_least:
            trio.lowlevel.spawn_system_task(self._reach, effect, context=copy_context())
        elif self._parts.gate.open or heads.heard:
            self._work_on(self._page(effect.ticket, page))
        else:
            heads.when_heard(partial(self._heard, effect.ticket, page), self.fail)

    def _heard(self, ticket: int, page: Page, error: RequestError | None) -> None:
        if error is not None:
            self.carry_out(self._failed(ticket, error))
        else:
            self._work_on(self._page(ticket, page))
        self._resume()

    async def _reach(self, effect: Read) -> None:
        """Read again once the hub has reached a revision, or the time for that is over: seldom, so by a task."""
        with self._parts.bulkhead.contain("connection", self.fail):
            with trio.move_on_after(self._parts.config.timeout_ms / 1000):
                await self._parts.hub.reached(effect.at_least)
            self._ask(replace(effect, at_least=0))
            # It may have been refused at once.
            self._resume()

    def _caught_up(self, ticket: int, head: HeadTicket) -> None:
        self.carry_out(self._renewed(ticket, 0.0) if head.error is None else self._failed(ticket, head.error))
        self._go_on()

    def _renewed(self, ticket: int, lag_s: float) -> Sequence[Effect]:
        now = self._parts.now()
        self._report = after_renewal(self._parts, self.machine, self._report, now)
        return self.machine.caught_up(ticket, self._parts.hub.position, self._sent(), now, lag_s)

    def _failed(self, ticket: int, error: RequestError) -> Sequence[Effect]:
        now = self._parts.now()
        self._report = after_renewal(self._parts, self.machine, self._report, now)
        return self.machine.failed(ticket, error, self._parts.hub.position, self._sent(), now)

    def _inquired(self, ticket: int, error: RequestError | None) -> None:
        self.carry_out(self.machine.inquired(ticket, error, self._parts.now()))
        self._resume()

    # Work in portions, each in a turn that has a budget for it -------------------------------------------------------

    def _work_on(self, work: Work) -> None:
        """Do the portions for which there is a budget now, and the rest in later turns; then carry out the effects."""
        turns = self._parts.turns
        try:
            while turns.take(names := next(work)):
                pass
        except StopIteration as done:
            self.carry_out(done.value)
            self._encoded = _NOTHING
            return
        assert self._turn is None  # else messages would be taken ahead of what waits for that turn
        self._turn = turns.wait(names, partial(self._turn_begun, work), self.fail)

    def _turn_begun(self, work: Work) -> None:
        self._turn = None
        self._work_on(work)
        self._resume()

    def _portion(self, ticket: int, names: int) -> Work:
        yield names
        return self.machine.turn_begun(ticket)

    def _page(self, ticket: int, page: Page) -> Work:
        """Encode the records ahead of the answer, which is written in one turn; nothing if its lease has ended."""
        if not self.machine.expects(ticket):
            return ()
        # By identity: the page holds the records until then.
        encode = self.codec.notify if self.machine.replays else self.codec.change
        self._encoded = yield from encode_in_portions(self._parts.turns, self.codec, page.records, encode)
        return self.machine.answered(ticket, page, self._parts.now())

    def _large(self, data: bytes | str) -> Work:
        """Take a large message in a turn with a budget for it, and not before it was counted (P-WIRE-11)."""
        yield len(data) // BYTES_PER_NAME
        try:
            for _ in self.codec.check_items(data, self._parts.config.message_items_max):
                yield self._parts.turns.names_max
        except RequestError as error:
            return self.machine.unreadable(error, self.codec.request_id(data))
        return self._read(data)

    # Publishing -----------------------------------------------------------------------------------------------------

    def _sent(self) -> int:
        return self.outbox.sent if self.outbox is not None else 0

    def _submit(self, effect: Submit) -> None:
        if self._publishes is None:
            self._publishes = Publishes(
                self._parts, self.codec, self.machine, self._queue, self._publish_settled, self.fail
            )
        self._publishes.submit(effect.message, reads=effect.reads, refused=effect.refused)

    def _queue(self, message: messages.Message) -> None:
        if self.outbox is not None:
            self.outbox.reply(self.codec.frame(self.codec.encode(message)))

    def _publish_settled(self) -> None:
        if self.outbox is not None:
            # Written with the answers to others of this batch.
            self._parts.hub.flush_later(self)
            self._go_on()
            self._leave_drained()

    # Messages -------------------------------------------------------------------------------------------------------

    def _held_up(self, item: Received) -> bool:
        # P-CONN-4, P-CONN-5: while a request is under way, while the peer does not take its replies, and while as many
        # publishes as may be are not answered.
        outbox = self.outbox
        return (
            (self.machine.pending is not None and (self.machine.busy or not isinstance(item, bytes | str)))
            or self._turn is not None
            or self._draining
            or (outbox is not None and not outbox.replies_taken())
            or (self._publishes is not None and self._publishes.inflight >= self._parts.config.inflight_max)
        )

    def _take(self, data: bytes | str) -> None:
        self._heard_at = trio.current_time()
        if self._measured is not None:
            self._measured.works(self._heard_at)
        self.machine.passed(self._parts.hub.position.revision)
        if len(data) > FREE_BYTES:
            self._work_on(self._large(data))
        else:
            self.carry_out(self._read(data))

    def _read(self, data: bytes | str) -> Sequence[Effect]:
        try:
            message = self.codec.request(data)
        except RequestError as error:
            request = None if isinstance(error, Unsupported) else self.codec.request_id(data)
            return self.machine.unreadable(error, request)
        if self._measured is not None or isinstance(message, messages.Poll):
            self._measured = after_request(self._measured, message, self._parts.polls, trio.current_time())
        return self.machine.received(message, self._parts.now())

    # Patience -------------------------------------------------------------------------------------------------------

    def _is_at_work(self) -> bool:
        return self._held is None and (self.machine.pending is not None or self._turn is not None)

    def _all_taken(self, *, received: bool) -> None:
        if self._publishes is not None:
            self._publishes.end_refusals(received=received or self.machine.inquires)
        if self._held is not None and self._turn is None and self.outbox is not None and self.outbox.replies_taken():
            self._replies_taken()

    def _replies_taken(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            if self._measured is not None:
                self._measured.works(trio.current_time())
            self._ask(held)

    def _idle_s_max(self) -> float:
        return silence_s_max(self.machine, self._parts.config)

    def _time_out(self) -> None:
        self.carry_out(end_silent(self.machine, self._parts.config))
