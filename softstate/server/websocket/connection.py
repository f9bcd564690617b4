"""One WebSocket connection: carries messages from the socket to the session machine, and carries out its effects.

It decides nothing: the machine knows what a message means, the outbox how much may wait.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import trio

from softstate.errors import Invalid, RequestError, Unsupported
from softstate.lease import GRACE, LeaseTable
from softstate.model import Record
from softstate.position import Position
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.outbox import Outbox, RawSocket
from softstate.server.fanout.pages import encode_in_turns
from softstate.server.fanout.turns import FREE_BYTES, Turns
from softstate.server.http.upgrade import Handshake
from softstate.server.storage.batcher import Ticket
from softstate.server.storage.heads import HeadReads, HeadTicket
from softstate.server.storage.reads import StoreReads
from softstate.server.storage.writes import CommitResult, StoreWrites, change_of, number_of
from softstate.server.websocket.message_stream import Ended, MessageStream, PeerGone
from softstate.server.websocket.refusals import Refusals, answer_error
from softstate.session import (
    Close,
    CloseOther,
    DropPending,
    Effect,
    MeasuredRequest,
    NodeTerms,
    Read,
    ReadHead,
    Replay,
    Send,
    SendFirst,
    ServiceRate,
    SessionMachine,
    State,
    Submit,
    Turn,
)
from softstate.store.base import Write
from softstate.wire import CBOR, CloseCode, Codec, frame, messages
from softstate.wire.messages import Farewell, Reason, Renewed, Subscribed
from softstate.wire.push import PushBatch

IDLE_LEASES = 2
"""A connection is closed when it was silent for this many times TTL plus grace (P-CONN-5)."""

_NOTHING: Mapping[int, bytes] = {}


class Connection:
    """The Trio shell of one session machine, for as long as its connection lasts."""

    __slots__ = (
        "_bulkhead", "_closing", "_config", "_draining", "_encoded", "_heads", "_hub", "_idle_at", "_inflight",
        "_measured", "_now", "_polls", "_publish_done", "_reads", "_receiving", "_refusals",
        "_request_done", "_turns", "_writes", "answered", "codec", "machine", "outbox", "peer",
    )  # fmt: skip

    def __init__(
        self,
        *,
        config: ServerConfig,
        table: LeaseTable,
        hub: Hub,
        reads: StoreReads,
        heads: HeadReads,
        writes: StoreWrites,
        turns: Turns,
        terms: Callable[[], NodeTerms],
        tokens: Callable[[], str],
        repairs: Counter[str],
        bulkhead: Bulkhead,
        now: Callable[[], float],
        codec: Codec,
        peer: str,
        handshake: MeasuredRequest,
        polls: ServiceRate,
    ) -> None:
        self.codec = codec
        self.peer = peer
        self.machine = SessionMachine(
            table, self, terms, tokens, repairs,
            gap_topics_max=config.pending_max, names_per_turn=config.turn_names_max,
        )  # fmt: skip
        self.outbox: Outbox | None = None
        self.answered = False
        """Whether the answer to the handshake went out."""
        self._bulkhead = bulkhead
        self._config = config
        self._hub = hub
        self._reads = reads
        self._heads = heads
        self._writes = writes
        self._turns = turns
        self._encoded = _NOTHING
        self._now = now
        # The request that is measured now: coming live, from handshake to first answered subscribe; later a poll.
        self._measured: MeasuredRequest | None = handshake
        self._polls = polls
        self._receiving = trio.CancelScope()
        # One scope for all that a connection waits for: a scope each would hold 0.6 KiB, and cost a renewal 50 us.
        self._idle_at = math.inf
        self._closing: Close | Ended | None = None
        self._draining = False
        self._inflight = 0
        self._refusals = Refusals()
        self._publish_done: trio.Event | None = None
        self._request_done: trio.Event | None = None

    # Called by the hub and the node: never waits ---------------------------------------------------------------------

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
                self._hub.flush_later(self)

    def _gap_buffer_takes(self, record: Record) -> bool:
        gap_buffer = self.machine.gap_buffer
        assert gap_buffer is not None
        if gap_buffer.takes(record):
            return True
        if gap_buffer.over(self._hub.position.revision):
            self.machine.gap_buffer = None
        return False

    def flush(self) -> None:
        """Write what was queued."""
        if self.outbox is not None:
            self.outbox.flush()

    def moved(self, position: Position) -> None:
        """Tell the peer that a lineage row passed."""
        self.carry_out(self.machine.moved(position))

    def revoked(self, reason: Reason) -> None:
        """Tell the peer that its lease is over."""
        self.carry_out(self.machine.revoked(reason, 0))

    def leave(self, reason: Farewell) -> None:
        """Tell the peer goodbye, and end the connection."""
        self.carry_out(self.machine.leave(reason))

    def drain(self) -> None:
        """Read no more requests; send `bye` once the publishes in flight are answered."""
        self._draining = True
        self._receiving.cancel()

    def fail(self) -> None:
        """End this connection, which has met a bug, with code 1011; its lease is given up (S18, P-CONN-12).

        From this call on nothing reaches the peer but what its socket has begun to take, and the close.
        """
        if not isinstance(self._closing, Close) or self._closing.code != CloseCode.BUG:
            self._closing = Close(CloseCode.BUG, "this node met an error of its own, and has logged it")
            # Without an outbox, nothing that the hub, the store or the machine still say has an effect.
            outbox, self.outbox = self.outbox, None
            self._bulkhead.attempt(self.machine.end_lease)
            if outbox is not None:
                self._bulkhead.attempt(outbox.drop)
        self._inflight = 0
        for waiting in (self._publish_done, self._request_done):
            if waiting is not None:
                waiting.set()
        self._receiving.cancel()

    def _overdue(self) -> None:
        self.carry_out(self.machine.revoked("slow_consumer", self._config.timeout_ms))

    # Effects --------------------------------------------------------------------------------------------------------

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects that need no waiting."""
        outbox = self.outbox
        if outbox is None:
            return
        for effect in effects:
            match effect:
                case Send(message, records):
                    data = frame(self.codec.encode(message, records, self._encoded), text=self.codec.text)
                    key = outbox.reply(data, droppable=isinstance(message, Renewed | Subscribed))
                    if self._measured is not None:
                        self._measure_answer(message)
                    if isinstance(message, messages.Welcome):
                        outbox.anchor = key
                case SendFirst(message):
                    outbox.first(frame(self.codec.encode(message), text=self.codec.text))
                case Replay(records):
                    for record in records:
                        data = self._encoded.get(id(record)) or self.codec.notify(record)
                        outbox.notify(record.topic, frame(data, text=self.codec.text))
                case DropPending():
                    outbox.drop()
                case CloseOther(sink):
                    sink.leave("replaced")
                case Close():
                    self._closing = effect
                    self._receiving.cancel()
                case _:
                    raise AssertionError(f"{effect} needs waiting")
        outbox.flush()

    async def _carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects, and those that follow from the answers of the store."""
        waiting = deque(effects)
        while waiting:
            effect = waiting.popleft()
            match effect:
                case Read(ticket, _) | ReadHead(ticket):
                    if not await self._replies_taken():
                        self.carry_out(self.machine.leave("idle"))
                    elif not self.machine.expects(ticket):
                        pass
                    elif isinstance(effect, Read):
                        waiting.extend(await self._ask(effect))
                    else:
                        self._catch_up(ticket)
                case Turn(ticket, names):
                    self._receiving.deadline = math.inf
                    await self._turns.spend(names)
                    waiting.extend(self.machine.turn_begun(ticket))
                case Submit(message):
                    self._submit(message)
                case _:
                    self.carry_out([effect])
        self._encoded = _NOTHING

    async def _replies_taken(self) -> bool:
        """Wait until the peer has taken all replies; return False if it does not in time."""
        outbox = self.outbox
        if outbox is None or not outbox.congested:
            return True
        if self._measured is not None:
            self._measured.waits(trio.current_time())
        with trio.move_on_after(self._idle_s_max()) as waited:
            await outbox.replies_taken()
        return not waited.cancelled_caught

    async def _ask(self, effect: Read) -> Sequence[Effect]:
        self._receiving.deadline = math.inf
        self._encoded = _NOTHING
        try:
            page = await self._reads.read(effect.query)
            if page.position.revision < effect.at_least:
                with trio.move_on_after(self._config.timeout_ms / 1000):
                    await self._hub.reached(effect.at_least)
                page = await self._reads.read(effect.query)
        except RequestError as error:
            return self._failed(effect.ticket, error)
        # Ahead of the answer, which is written in one turn. By identity: the page holds the records until then.
        encode = self.codec.notify if self.machine.state is State.GREETING else self.codec.change
        self._encoded = await encode_in_turns(self._turns, self.codec, page.records, encode)
        return self.machine.answered(effect.ticket, page, self._now())

    def _catch_up(self, ticket: int) -> None:
        """Ask for the head of the store. The effects run as a callback once the hub has reached it.

        Until then `_converse` reads at most one more message, and waits before it handles it.
        """
        try:
            self._heads.submit(lambda head: self._caught_up(ticket, head), self.fail)
        except RequestError as error:
            self.carry_out(self._failed(ticket, error))

    def _caught_up(self, ticket: int, head: HeadTicket) -> None:
        if head.error is not None:
            effects = self._failed(ticket, head.error)
        else:
            sent = self.outbox.sent if self.outbox is not None else 0
            effects = self.machine.caught_up(ticket, self._hub.position, sent, self._now())
        self.carry_out(effects)
        if self._request_done is not None:
            self._request_done.set()

    def _failed(self, ticket: int, error: RequestError) -> Sequence[Effect]:
        sent = self.outbox.sent if self.outbox is not None else 0
        return self.machine.failed(ticket, error, self._hub.position, sent, self._now())

    # Publishing: overlaps with everything else ----------------------------------------------------------------------

    def _submit(self, message: messages.Publish) -> None:
        if self._refusals.first is not None:
            self._reply(self._refusals.answer(message.id))
            return
        try:
            number = number_of(message, self._config.publisher_inflight_max)
            change = change_of(message, self._config, self.codec, number)
            self._writes.submit(change, lambda ticket: self._published(message, ticket), self.fail)
        except RequestError as error:
            self._refusals.note(error)
            self._reply(answer_error(error, message.id))
            return
        self._inflight += 1

    def _published(self, message: messages.Publish, ticket: Ticket[Write, CommitResult]) -> None:
        self._inflight -= 1
        self._refusals.end(self._inflight)
        if self._publish_done is not None:
            self._publish_done.set()
        if ticket.error is not None:
            if self._inflight or self._refusals.received():
                self._refusals.note(ticket.error)
            self._queue(answer_error(ticket.error, message.id))
        else:
            assert ticket.answer is not None
            applied, position = ticket.answer
            repeated = applied.repeated
            self._queue(messages.Published(message.id, message.topic, applied.version, position, repeated))

    def _queue(self, message: messages.Message) -> None:
        if self.outbox is not None:
            self.outbox.reply(frame(self.codec.encode(message), text=self.codec.text))
            self._hub.flush_later(self)

    def _reply(self, message: messages.Message) -> None:
        self._queue(message)
        self._hub.flush()

    # The task of the connection -------------------------------------------------------------------------------------

    async def serve(self, edge: RawSocket, handshake: Handshake) -> None:
        """Serve until the connection ends, from the answer to the handshake on; then only the lease remains."""
        config = self._config
        async with trio.open_nursery() as nursery:
            outbox = self.outbox = Outbox(
                edge,
                nursery,
                before=handshake.behind,
                pending_max=config.pending_max,
                pending_bytes_max=config.pending_bytes_max,
                congested_s_max=config.congested_s_max,
                overdue=self._overdue,
                contained=self._contained,
            )
            try:
                assert self._measured is not None
                self._measured.works(trio.current_time())
                socket = MessageStream(outbox, config.message_bytes_max)
                await socket.accept(handshake.answer)
                self.answered = True
                self._refusals.received = socket.waiting
                self._measured.waits(trio.current_time())
                with self._contained():
                    await self._converse(socket, outbox)
                    if self._closing is None:
                        await self._answered_down_to(0)
                        self.carry_out(self.machine.leave("draining", config.recover_base_ms))
                assert self._closing is not None
                await socket.close(self._closing.code, self._closing.reason)
            except PeerGone:
                pass
            finally:
                if self._measured is not None:
                    self._measured.left(trio.current_time())
                self.machine.disconnected()
                self.outbox = None
                nursery.cancel_scope.cancel()
                # Closed by the outbox, which writes to its descriptor: the number may be another socket's afterwards.
                await trio.aclose_forcefully(outbox)

    def _contained(self) -> AbstractContextManager[object]:
        """Return a block in which a bug ends this connection alone."""
        return self._bulkhead.contain("connection", self.fail, passing=PeerGone, peer=self.peer)

    async def _converse(self, socket: MessageStream, outbox: Outbox) -> None:
        while self._closing is None and not self._draining:
            with self._receiving as receiving:
                while self._closing is None:
                    # One deadline covers all of it: a peer that neither reads nor sends is disconnected.
                    self._idle_at = receiving.deadline = trio.current_time() + self._idle_s_max()
                    await outbox.replies_taken()
                    await self._answered_down_to(self._config.inflight_max - 1)
                    if self._refusals.first is not None:
                        self._refusals.end(self._inflight)
                    try:
                        data = await socket.receive()
                    except Ended as ended:
                        self._closing = self._closing or ended
                        break
                    await self._answered()
                    await self._carry_out(await self._take(data))
                    self._drop_gap_buffer()
            if self._closing is None and not self._draining:
                self._receiving = trio.CancelScope()
                await self._carry_out(self._timed_out())

    async def _answered(self) -> None:
        """Return when no request is under way: the next one has to wait for it."""
        if self.machine.busy:
            # A peer that has sent something is not idle.
            self._receiving.deadline = math.inf
        while self.machine.busy:
            self._request_done = trio.Event()
            await self._request_done.wait()
        self._request_done = None

    def _drop_gap_buffer(self) -> None:
        gap_buffer = self.machine.gap_buffer
        if gap_buffer is not None and gap_buffer.over(self._hub.position.revision):
            self.machine.gap_buffer = None

    async def _answered_down_to(self, inflight: int) -> None:
        while self._inflight > inflight:
            self._publish_done = trio.Event()
            await self._publish_done.wait()
        self._publish_done = None

    def _idle_s_max(self) -> float:
        lease = self.machine.lease
        if self.machine.state is State.NEW or lease is None:
            return self._config.hello_s_max
        return IDLE_LEASES * lease.ttl_s * (1 + GRACE)

    def _timed_out(self) -> Sequence[Effect]:
        if trio.current_time() < self._idle_at:
            return []
        if self.machine.state is State.NEW:
            return self.machine.refuse(
                Invalid(f"no hello within {self._config.hello_s_max} s"), code=CloseCode.SLOW_HELLO
            )
        return self.machine.leave("idle")

    async def _take(self, data: bytes | str) -> Sequence[Effect]:
        """Take a message: a large one in a turn whose budget covers it, and not before it was counted (P-WIRE-11)."""
        if len(data) > FREE_BYTES:
            self._receiving.deadline = math.inf
            turns = self._turns
            await turns.spend_bytes(len(data))
            try:
                for _ in self.codec.check_items(data, self._config.message_items_max):
                    await turns.spend(turns.names_max)
            except RequestError as error:
                return self.machine.unreadable(error, self.codec.request_id(data))
        return self._read(data)

    def _read(self, data: bytes | str) -> Sequence[Effect]:
        try:
            message = self.codec.request(data)
        except Unsupported as error:
            return self.machine.unreadable(error)
        except RequestError as error:
            return self.machine.unreadable(error, self.codec.request_id(data))
        if self._measured is not None or isinstance(message, messages.Poll):
            self._measure_request(message)
        return self.machine.received(message, self._now())

    def _measure_request(self, message: messages.Message) -> None:
        """Measure the work for a client that comes live, or polls; not what its client does meanwhile."""
        now = trio.current_time()
        measured = self._measured
        if measured is not None and not isinstance(message, messages.Hello | messages.Subscribe):
            measured.left(now)
            measured = self._measured = None
        if isinstance(message, messages.Poll):
            measured = self._measured = MeasuredRequest(self._polls)
        if measured is not None:
            measured.works(now)

    def _measure_answer(self, message: messages.Message) -> None:
        measured, now = self._measured, trio.current_time()
        assert measured is not None
        match message:
            case Subscribed(more=True) | messages.Polled(more=True):
                measured.works(now)
                return
            case Subscribed() | messages.Polled() | messages.Welcome(resumed=True):
                measured.served(now)
            case messages.Welcome():
                measured.waits(now)
                return
            case _:
                measured.left(now)
        self._measured = None
