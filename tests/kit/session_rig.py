"""The rig of the node's side, without I/O: session machines on a store, driven step by step.

A `SessionRig` is one node: a memory image as its store, a lease table, a clock (`now`), and a hub that lags the store
until `feed` is called. `connect` opens a `Peer`: one connection with its machine. It carries out effects as the shell
does, and keeps what a client would read::

    rig = SessionRig()
    peer = rig.open_session("a")                                  # hello, welcome, subscribe to "a"
    rig.push("a")                                                 # committed, and applied by the hub
    assert peer.take() == pushed(("a", 2))
    assert kinds(peer.ask(renew(1, "a"))) == ["Renewed"]          # with every store read answered at once

A store read is two steps, and anything may be done in between: `begin` takes the snapshot, `deliver` hands its page to
the machine; `fail_read` ends it in an error instead. `take_turn` begins a turn of the loop that the machine asks for.
`receive` leaves reads and turns to the test, `ask` serves them. A peer writes at once unless it is `stalled`; then
messages queue, and a newer push of a topic replaces the waiting one in its place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import replace

from msgspec import structs

from softstate.errors import RequestError
from softstate.lease import Lease, LeaseTable
from softstate.model import READ_COST_MAX, Change, Durability, Page, Record
from softstate.names import covered, covers
from softstate.position import Position
from softstate.session import (
    OPEN_GATE,
    Close,
    CloseOther,
    DropPending,
    DropUncovered,
    Effect,
    Gate,
    Inquire,
    NodeTerms,
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
from softstate.session.request import NAMES_PER_TURN
from softstate.store.base import Write
from softstate.store.memory.store import MemoryImage
from softstate.store.rules.paging import answer
from softstate.wire.messages import (
    ClientMessage,
    Error,
    Farewell,
    Hello,
    Limits,
    Message,
    Notify,
    PollAdvice,
    Polled,
    Reason,
    RecoverAdvice,
    Renew,
    Renewed,
    Subscribe,
    Subscribed,
    Welcome,
)
from softstate.wire.push import EncodedChange, PushBatch
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.silent_sink import SilentSink

TTL_S = 10.0
TERMS = NodeTerms(
    node="n1",
    ttl_ms=round(TTL_S * 1000),
    timeout_ms=2_000,
    poll=PollAdvice(every_ms=15_000, spread_ms=100),
    recover=RecoverAdvice(spread_ms=700, base_ms=500, cap_ms=30_000),
    limits=Limits(8, 65_536, 131_072, 4, 100, 600_000, 1_024, 4_096, 16_384),
    durability=Durability.NONE,
)


class Peer(SilentSink):
    """One connection, and its shell.

    `inbox` holds messages that wait while the machine is busy, `pending` those that wait to be written, `written` all
    that were. `sent` counts pushes as the outbox does. No push may go out that all answers to names which cover it have
    told (P-SUB-5). `reading` is the read that the machine waits for, `snapshot` its outcome once begun; `turn` is the
    turn of the loop that it waits for, and `inquiry` what it wants to have asked. `submitted` are publishes, `beats`
    what was said of beats; `closed` is the effect that closed the connection.
    """

    def __init__(self, rig: SessionRig, gap_topics_max: int) -> None:
        self.rig = rig
        self.machine = SessionMachine(
            rig.table, self, lambda: TERMS, rig.token, rig.repairs, gap_topics_max, rig.names_per_turn, rig.gate
        )
        self.inbox: deque[ClientMessage] = deque()
        self.first: Message | None = None
        self.pending: list[Message] = []
        self.written: list[Message] = []
        self.taken = 0
        self.sent = 0
        self.stalled = False
        self.reading: Read | ReadHead | None = None
        self.snapshot: Page | RequestError | int | None = None
        self.turn: Turn | None = None
        self.inquiry: Inquire | None = None
        self.submitted: list[Message] = []
        self.beats: list[SetBeat] = []
        self.closed: Close | None = None
        self._lease: Lease | None = None
        # The revision of the first answer to each name of the lease since it entered.
        self._answers: dict[str, int] = {}

    def offer(self, batch: PushBatch) -> None:
        """Queue pushes, but for those that the gap buffer takes, as the shell does."""
        for change in batch.changes:
            self._offer(change.record)

    def _offer(self, record: Record) -> None:
        gap_buffer = self.machine.gap_buffer
        if gap_buffer is not None:
            if gap_buffer.takes(record):
                return
            self._drop_gap_buffer()
        answers = [self._answers.get(name, 0) for name in self._names() if covers(name, record.topic)]
        assert record.version > min(answers, default=0), f"{record} behind the answers {self._answers}"
        self._notify(record)

    def _drop_gap_buffer(self) -> None:
        gap_buffer = self.machine.gap_buffer
        if gap_buffer is not None and gap_buffer.over(self.rig.hub):
            self.machine.gap_buffer = None

    def _names(self) -> Collection[str]:
        lease = self.machine.held_lease()
        return () if lease is None else lease.names

    def _forget_answers(self) -> None:
        """Forget the answers to names that have left the lease."""
        lease, self._lease = self._lease, self.machine.lease
        names = self._names() if lease is self._lease else ()
        self._answers = {name: revision for name, revision in self._answers.items() if name in names}

    def _note_answer(self, message: Message) -> None:
        if (isinstance(message, Subscribed) and not message.more) or (isinstance(message, Welcome) and message.resumed):
            self._answers = dict.fromkeys(self._names(), message.position.revision) | self._answers

    def revoked(self, reason: Reason, retry_ms: int = 0) -> None:
        """Let the node revoke the lease."""
        self.carry_out(self.machine.revoked(reason, retry_ms))

    def leave(self, reason: Farewell) -> None:
        """Let the node end the connection."""
        self.carry_out(self.machine.leave(reason))

    def receive(self, *messages: ClientMessage) -> list[Message]:
        """Take messages from the client, and answer no read; return what was written since the last `take`."""
        self.inbox.extend(messages)
        self.pump()
        return self.take()

    def pump(self) -> None:
        """Feed the machine from the inbox while it is not busy."""
        while self.inbox and not self.machine.busy and self.closed is None:
            self._drop_gap_buffer()
            self.carry_out(self.machine.received(self.inbox.popleft(), self.rig.now))

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in order."""
        self._forget_answers()
        for effect in effects:
            match effect:
                case Send(message, records):
                    self._note_answer(message)
                    if isinstance(message, Subscribed | Polled):
                        message = structs.replace(message, changes=[change(record) for record in records])
                    self.pending.append(message)
                case SendFirst(message):
                    self.pending = [m for m in self.pending if m is not self.first]
                    self.first = message
                    kinds = list(map(type, self.pending))
                    self.pending.insert(kinds.index(Welcome) + 1 if Welcome in kinds else 0, message)
                case SendAhead(message):
                    kinds = list(map(type, self.pending))
                    self.pending.insert(kinds.index(Welcome) + 1 if Welcome in kinds else 0, message)
                case Replay(records):
                    for record in records:
                        self._notify(record)
                case Read() | ReadHead():
                    self.reading, self.snapshot = effect, None
                case Turn():
                    self.turn = effect
                case Inquire():
                    self.inquiry = effect
                case Submit(message):
                    self.submitted.append(message)
                case SetBeat():
                    self.beats.append(effect)
                case DropPending():
                    self.sent -= sum(isinstance(message, Notify) for message in self.pending)
                    self.pending = [m for m in self.pending if not isinstance(m, Notify | Renewed | Subscribed)]
                case DropUncovered(names):
                    dropped = [m for m in self.pending if isinstance(m, Notify) and not covered(names, m.topic)]
                    self.sent -= len(dropped)
                    self.pending = [m for m in self.pending if m not in dropped]
                case CloseOther(sink):
                    assert isinstance(sink, Peer)
                    assert sink is not self
                    sink.leave("replaced")
                case Close():
                    self.closed = effect
        self.flush()

    def _notify(self, record: Record) -> None:
        push = Notify(record.topic, record.version, deleted=record.deleted)
        for at, message in enumerate(self.pending):
            if isinstance(message, Notify) and message.topic == record.topic:
                self.pending[at] = push
                return
        self.sent += 1
        self.pending.append(push)
        self.flush()

    def flush(self) -> None:
        """Write what is pending, unless stalled."""
        if not self.stalled:
            self.written += self.pending
            self.pending.clear()

    def take(self) -> list[Message]:
        """Return what has been written since the last call."""
        fresh = self.written[self.taken :]
        self.taken = len(self.written)
        return fresh

    # The store, for this connection ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin the read that the machine waits for."""
        assert self.reading is not None
        if isinstance(self.reading, ReadHead):
            self.snapshot = self.rig.image.head
            return
        query = self.reading.query
        query = replace(query, limit=min(query.limit, self.rig.page_limit), limit_cost=self.rig.page_cost)
        self.snapshot = answer(query, self.rig.image)

    def deliver(self) -> None:
        """Hand the machine what the read found; for a head, once the hub has reached it."""
        reading, snapshot = self.reading, self.snapshot
        assert reading is not None
        assert snapshot is not None
        if isinstance(snapshot, RequestError):
            self.fail_read(snapshot)
            return
        self.reading = self.snapshot = None
        rig = self.rig
        if isinstance(snapshot, int):
            rig.feed(snapshot)
            self.carry_out(self.machine.caught_up(reading.ticket, rig.hub_position, self.sent, rig.now))
        else:
            self.carry_out(self.machine.answered(reading.ticket, snapshot, rig.now))
        self.pump()

    def fail_read(self, error: RequestError) -> None:
        """End the read in an error."""
        reading, rig = self.reading, self.rig
        assert reading is not None
        self.reading = self.snapshot = None
        self.carry_out(self.machine.failed(reading.ticket, error, rig.hub_position, self.sent, rig.now))
        self.pump()

    def inquire(self, error: RequestError | None = None) -> None:
        """Answer an inquiry: the gate knows now, or nobody can tell."""
        inquiry, self.inquiry = self.inquiry, None
        assert inquiry is not None
        self.carry_out(self.machine.inquired(inquiry.ticket, error, self.rig.now))
        self.pump()

    def take_turn(self) -> None:
        """Begin the turn of the loop that the machine waits for."""
        turn, self.turn = self.turn, None
        assert turn is not None
        self.carry_out(self.machine.turn_begun(turn.ticket))
        self.pump()

    def serve(self) -> list[Message]:
        """Answer reads, and begin turns, until the machine waits for none; return what was written since `take`."""
        while self.reading is not None or self.turn is not None:
            if self.turn is not None:
                self.take_turn()
            else:
                self.begin()
                self.deliver()
        return self.take()

    def ask(self, *messages: ClientMessage) -> list[Message]:
        """Take messages, and answer every read for them; return what was written since the last `take`."""
        self.inbox.extend(messages)
        self.pump()
        return self.serve()

    def lose(self) -> None:
        """Lose the connection."""
        self.machine.disconnected()
        self.closed = Close(0, "lost")  # type: ignore[arg-type]
        self.rig.peers.remove(self)


class SessionRig:
    """One node with its store, hub, lease table and clock.

    A gap buffer holds `gap_topics_max` topics; a page has at most `page_limit` changes and costs `page_cost`, the lease
    table `sessions_max` leases of at most `names_max` names; a turn deals with `names_per_turn` names. `gate` knows who
    presents credentials: all that connect from then on.
    """

    def __init__(
        self,
        *,
        gap_topics_max: int = 4,
        page_limit: int = 1024,
        page_cost: int = READ_COST_MAX,
        sessions_max: int = 100,
        names_max: int = 8,
        names_per_turn: int = NAMES_PER_TURN,
    ) -> None:
        self.gate: Gate = OPEN_GATE
        self.now = 100.0
        self.image = MemoryImage("e")
        self.table = LeaseTable(self.now, sessions_max=sessions_max, subscriptions_max=names_max, reaped_max=1)
        self.names_per_turn = names_per_turn
        self.repairs: Counter[str] = Counter()
        self.page_limit = page_limit
        self.page_cost = page_cost
        self.gap_topics_max = gap_topics_max
        self.peers: list[Peer] = []
        self.log: list[Record | Position] = []
        self.hub = 0
        self.tokens = 0
        self.commit_lineage_row()
        self.feed()

    def token(self) -> str:
        """Make a session token."""
        self.tokens += 1
        return f"t{self.tokens}"

    def connect(self) -> Peer:
        """Open a connection, on which nothing was said."""
        peer = Peer(self, self.gap_topics_max)
        self.peers.append(peer)
        return peer

    def open_session(self, *names: str) -> Peer:
        """Open a connection with a session that holds `names`; what was written for that is not kept."""
        peer = self.connect()
        peer.ask(Hello())
        if names:
            peer.ask(subscribe(0, *names))
        return peer

    def commit(self, *topics: str, cbor: bytes | None = b"\x01") -> int:
        """Commit a change of each topic, `cbor` None to delete; return the last revision. The hub does not know yet.

        A topic without a value is given one before it is deleted, so that the deletion is a change.
        """
        for topic in topics:
            version = self.image.latest.get(topic)
            if cbor is None and (version is None or self.image.records[version].deleted):
                self.commit(topic)
            _, record = self.image.apply(Write(topic, cbor), 0)
            assert record is not None
            self.log.append(record)
        return self.image.head

    def push(self, *topics: str, cbor: bytes | None = b"\x01") -> int:
        """Commit, and let the hub apply everything."""
        self.commit(*topics, cbor=cbor)
        self.feed()
        return self.hub

    def commit_lineage_row(self) -> Position:
        """Commit a lineage row, as when a node opens the store."""
        row = self.image.open(f"l{len(self.image.rows) + 1}")
        self.log.append(row)
        return row

    def feed(self, upto: int | None = None) -> None:
        """Let the hub apply what is committed, up to the revision `upto` or the head, and push it."""
        upto = self.image.head if upto is None else upto
        while self.hub < upto:
            entry = self.log[self.hub]
            if isinstance(entry, Position):
                for peer in self.peers:
                    peer.carry_out(peer.machine.moved(entry))
            else:
                for lease in list(self.table.members(entry.topic)):
                    if lease.sink is not None and lease.deadline >= self.now:
                        lease.sink.offer(PushBatch([EncodedChange(entry)]))
            self.hub += 1

    @property
    def hub_position(self) -> Position:
        """The position of the hub."""
        return self.position(self.hub)

    def position(self, revision: int | None = None) -> Position:
        """Return the position of a revision, by default of the head."""
        revision = self.image.head if revision is None else revision
        lineage = self.image.lineage_at(revision)
        assert lineage is not None
        return Position("e", lineage, revision)

    def sweep(self) -> None:
        """Expire leases, reap a name, and tell their connections."""
        self.table.reap(1)
        for lease in self.table.expire(self.now):
            if isinstance(lease.sink, Peer):
                lease.sink.revoked("expired")

    def forget_lease(self, peer: Peer) -> None:
        """Release a connection's lease without telling the connection (S11)."""
        if peer.machine.lease is not None:
            self.table.release(peer.machine.lease)


def change(record: Record) -> Change:
    """Return a record as clients see it, without its value."""
    return Change(record.topic, record.version, deleted=record.deleted)


def split_known(known: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Sort names into topics and prefixes."""
    topics = {name: version for name, version in known.items() if not name.endswith("/")}
    return topics, {name: version for name, version in known.items() if name.endswith("/")}


def subscribe(number: int, *names: str, replace: bool = False, known: dict[str, int] | None = None) -> Subscribe:
    """Make a subscribe to names of which nothing is known, and to `known` ones with their versions."""
    topics, prefixes = split_known({**dict.fromkeys(names, 0), **(known or {})})
    return Subscribe(number, topics, prefixes, replace)


def renew(number: int, *names: str, ttl_ms: int | None = None) -> Renew:
    """Make a renew of a set of names."""
    return Renew(number, digest_text(digest_of(names)), len(set(names)), ttl_ms)


def kinds(messages: list[Message]) -> list[str]:
    """Return the kind of each message: its class, or the code of an error."""
    return [m.code if isinstance(m, Error) else type(m).__name__ for m in messages]


def pushed(*changes: tuple[str, int]) -> list[Message]:
    """Return the pushes of changes that are not deletions."""
    return [Notify(topic, version) for topic, version in changes]


def opened(rig: SessionRig, *names: str, token: str = "token") -> Peer:
    """Return a peer that has said hello with a token, and holds names."""
    peer = rig.connect()
    peer.ask(Hello(token=token))
    if names:
        peer.ask(subscribe(0, *names))
    return peer


def only(messages: Sequence[Message]) -> Message:
    """Return the one message that there is."""
    (message,) = messages
    return message
