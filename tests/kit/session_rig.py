"""A node around session machines, driven by hand: a store, a hub that may lag, and connections that record all.

Every store read is two steps: `begin` takes the snapshot, `deliver` hands its page to the machine, and anything may
happen in between. A connection (`Peer`) writes at once unless `stalled`; then it queues as an outbox does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from softstate.errors import RequestError
from softstate.lease import LeaseTable
from softstate.model import Change, Durability, Page, Record
from softstate.position import Position
from softstate.session import (
    Close,
    CloseOther,
    DropPending,
    Effect,
    NodeTerms,
    Read,
    ReadHead,
    Replay,
    Send,
    SendFirst,
    SessionMachine,
    Submit,
)
from softstate.store.base import Write
from softstate.store.memory.store import MemoryImage
from softstate.store.rules.paging import answer
from softstate.wire.messages import (
    ClientMessage,
    Error,
    Hello,
    Limits,
    Message,
    Notify,
    PollAdvice,
    Polled,
    RecoverAdvice,
    Renew,
    Renewed,
    Subscribe,
    Subscribed,
)
from softstate.wire.push import EncodedChange, PushBatch
from softstate.wire.subscription_digest import digest_of, digest_text

TTL_S = 10.0
TERMS = NodeTerms(
    node="n1",
    ttl_ms=round(TTL_S * 1000),
    timeout_ms=2_000,
    poll=PollAdvice(every_ms=15_000, spread_ms=100),
    recover=RecoverAdvice(spread_ms=700, base_ms=500, cap_ms=30_000),
    limits=Limits(8, 65_536, 131_072, 4, 100, 600_000),
    durability=Durability.NONE,
)


class Peer:
    """One connection: its machine, what it wrote, and the store request that its machine waits for."""

    def __init__(self, world: World, held_max: int) -> None:
        self.world = world
        self.machine = SessionMachine(world.table, self, lambda: TERMS, world.token, world.repairs, held_max)
        self.inbox: deque[ClientMessage] = deque()
        self.pending: list[Message] = []
        self.written: list[Message] = []
        self.taken = 0
        self.sent = 0
        self.stalled = False
        self.asking: Read | ReadHead | None = None
        self.snapshot: Page | RequestError | int | None = None
        self.submitted: list[Message] = []
        self.parted: Close | None = None

    def offer(self, batch: PushBatch) -> None:
        """Queue pushes, but for those that the hold takes, as the shell does."""
        for change in batch.changes:
            self._offer(change.record)

    def _offer(self, record: Record) -> None:
        gap_buffer = self.machine.gap_buffer
        if gap_buffer is not None:
            if gap_buffer.takes(record):
                return
            if gap_buffer.over(self.world.hub):
                self.machine.gap_buffer = None
        self._notify(record)

    def hear(self, *spoken: ClientMessage) -> list[Message]:
        """Take messages from the client; return what has been written for them so far."""
        self.inbox.extend(spoken)
        self.pump()
        return self.take()

    def pump(self) -> None:
        """Feed what may be fed."""
        while self.inbox and not self.machine.busy and self.parted is None:
            self.carry_out(self.machine.received(self.inbox.popleft(), self.world.now))

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in order."""
        for effect in effects:
            match effect:
                case Send(message, records):
                    if isinstance(message, Subscribed | Polled):
                        message = structs.replace(message, changes=[change(record) for record in records])
                    self.pending.append(message)
                case SendFirst(message):
                    self.pending.insert(0, message)
                case Replay(records):
                    for record in records:
                        self._notify(record)
                case Read() | ReadHead():
                    self.asking, self.snapshot = effect, None
                case Submit(message):
                    self.submitted.append(message)
                case DropPending():
                    self.sent -= sum(isinstance(message, Notify) for message in self.pending)
                    self.pending = [m for m in self.pending if not isinstance(m, Notify | Renewed | Subscribed)]
                case CloseOther(sink):
                    assert isinstance(sink, Peer)
                    assert sink is not self
                    sink.carry_out(sink.machine.replaced())
                case Close():
                    self.parted = effect
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
        assert self.asking is not None
        if isinstance(self.asking, ReadHead):
            self.snapshot = self.world.image.head
            return
        query = self.asking.query
        query = replace(query, limit=min(query.limit, self.world.page_limit))
        self.snapshot = answer(query, self.world.image)

    def deliver(self) -> None:
        """Hand over what the read found; for a head, the hub reaches it first."""
        asking, snapshot = self.asking, self.snapshot
        assert asking is not None
        assert snapshot is not None
        if isinstance(snapshot, RequestError):
            self.fail(snapshot)
            return
        self.asking = self.snapshot = None
        world = self.world
        if isinstance(snapshot, int):
            world.feed(snapshot)
            self.carry_out(self.machine.caught_up(asking.ticket, world.hub_position, self.sent, world.now))
        else:
            self.carry_out(self.machine.answered(asking.ticket, snapshot, world.now))
        self.pump()

    def fail(self, error: RequestError) -> None:
        """Let the read fail."""
        asking, world = self.asking, self.world
        assert asking is not None
        self.asking = self.snapshot = None
        self.carry_out(self.machine.failed(asking.ticket, error, world.hub_position, self.sent, world.now))
        self.pump()

    def serve(self) -> list[Message]:
        """Answer reads until the machine waits for none; return what was written meanwhile."""
        while self.asking is not None:
            self.begin()
            self.deliver()
        return self.take()

    def ask(self, *spoken: ClientMessage) -> list[Message]:
        """Take messages and serve them."""
        self.inbox.extend(spoken)
        self.pump()
        return self.serve()

    def lose(self) -> None:
        """Lose the connection."""
        self.machine.disconnected()
        self.parted = Close(0, "lost")  # type: ignore[arg-type]
        self.world.peers.remove(self)


class World:
    """One node, its store and its clock."""

    def __init__(self, *, held_max: int = 4, page_limit: int = 1024, sessions_max: int = 100) -> None:
        self.now = 100.0
        self.image = MemoryImage("e")
        self.table = LeaseTable(self.now, sessions_max=sessions_max, subscriptions_max=8)
        self.repairs: Counter[str] = Counter()
        self.page_limit = page_limit
        self.held_max = held_max
        self.peers: list[Peer] = []
        self.log: list[Record | Position] = []
        self.hub = 0
        self.tokens = 0
        self.row()
        self.feed()

    def token(self) -> str:
        """Make a session token."""
        self.tokens += 1
        return f"t{self.tokens}"

    def connect(self) -> Peer:
        """Open a connection."""
        peer = Peer(self, self.held_max)
        self.peers.append(peer)
        return peer

    def opened(self, *names: str) -> Peer:
        """Open a session that holds `names`; forget what was written for that."""
        peer = self.connect()
        peer.ask(Hello())
        if names:
            peer.ask(subscribe(0, *names))
        return peer

    def commit(self, *topics: str, cbor: bytes | None = b"\x01") -> int:
        """Commit a change of each topic; return the last revision. The hub does not know yet."""
        for topic in topics:
            _, record = self.image.apply(Write(topic, cbor), 0)
            assert record is not None
            self.log.append(record)
        return self.image.head

    def push(self, *topics: str, cbor: bytes | None = b"\x01") -> int:
        """Commit, and let the hub apply everything."""
        self.commit(*topics, cbor=cbor)
        self.feed()
        return self.hub

    def row(self) -> Position:
        """Commit a lineage row."""
        row = self.image.open(f"l{len(self.image.rows) + 1}")
        self.log.append(row)
        return row

    def feed(self, upto: int | None = None) -> None:
        """Let the hub apply what is committed, one revision after the other."""
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
        """Where the hub is."""
        return self.position(self.hub)

    def position(self, revision: int | None = None) -> Position:
        """Name a revision, the head unless told, with its lineage."""
        revision = self.image.head if revision is None else revision
        lineage = self.image.lineage_at(revision)
        assert lineage is not None
        return Position("e", lineage, revision)

    def sweep(self) -> None:
        """Expire leases, and tell their connections."""
        for lease in self.table.expire(self.now):
            if isinstance(lease.sink, Peer):
                lease.sink.carry_out(lease.sink.machine.revoked("expired", 0))

    def amnesia(self, peer: Peer) -> None:
        """Erase a connection's lease, telling nobody."""
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
    """Make a subscribe to names of which nothing is known, and to some that are `known`."""
    topics, prefixes = split_known({**dict.fromkeys(names, 0), **(known or {})})
    return Subscribe(number, topics, prefixes, replace)


def renew(number: int, *names: str, ttl_ms: int | None = None) -> Renew:
    """Make a renew of a set."""
    return Renew(number, digest_text(digest_of(names)), len(set(names)), ttl_ms)


def kinds(messages: list[Message]) -> list[str]:
    """Name each message: an error by its code."""
    return [m.code if isinstance(m, Error) else type(m).__name__ for m in messages]


def pushed(*changes: tuple[str, int]) -> list[Message]:
    """Return pushes of live values."""
    return [Notify(topic, version) for topic, version in changes]
