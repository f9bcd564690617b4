"""The node of a small world: real session machines and a real lease table, with a simple hub and simple outboxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from softstate.auth.asked import NameAction
from softstate.auth.identity import Identity
from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.auth.presented import Credentials
from softstate.auth.rules import Action
from softstate.errors import RequestError
from softstate.lease import LeaseTable
from softstate.model import Change, Durability, Page, Record
from softstate.names import covered
from softstate.position import Position
from softstate.session import (
    Close,
    CloseOther,
    DropPending,
    DropUncovered,
    Effect,
    NodeTerms,
    Read,
    ReadHead,
    Replay,
    Send,
    SendAhead,
    SendFirst,
    SessionMachine,
    SetBeat,
    State,
)
from softstate.wire.messages import (
    Beat,
    Farewell,
    Limits,
    Message,
    Notify,
    PollAdvice,
    Polled,
    RecoverAdvice,
    Renewed,
    Subscribed,
    Welcome,
)
from softstate.wire.push import EncodedChange, PushBatch
from tests.exhaustive.copies import Freezer, Shared
from tests.exhaustive.parts import Interner, Output
from tests.kit.rules_gate import grant_of
from tests.kit.silent_sink import SilentSink

Conn = tuple[int, int]
"""A connection: the client, and how many it has opened by then."""

TERMS = NodeTerms(
    node="n",
    ttl_ms=60_000,
    timeout_ms=5_000,
    poll=PollAdvice(every_ms=15_000, spread_ms=1_000),
    recover=RecoverAdvice(spread_ms=2_000, base_ms=500, cap_ms=30_000),
    limits=Limits(100, 65_536, 131_072, 100, 100, 600_000, 1_024, 4_096, 16_384),
    durability=Durability.NONE,
)
EPOCH = "e"


class _NoWheel(Shared):
    """A timer wheel that does nothing: leases end in steps of the small world."""

    def __len__(self) -> int:
        return 0

    def add(self, item: object, deadline: float) -> None:
        """Ignore the item."""


class ModelGate:
    """Lets everybody do everything, until a name is denied."""

    def __init__(self, names: Sequence[str]) -> None:
        self.generation = 0
        self.present = EVERYBODY_MAY_ALL.identify(None, 0.0, 0.0)
        self._names = names

    def deny(self, denied: str) -> None:
        """Let nobody read a name any more."""
        self.generation += 1
        self.present = Identity(
            "", "", grant_of([name for name in self._names if name != denied]), generation=self.generation
        )

    def identify(self, token: Credentials, now: float, address: str) -> Identity:
        """Return the one identity that there is."""
        return self.present

    def again(self, identity: Identity, now: float, peer: str = "") -> Identity:
        """Return the one identity that there is."""
        return self.present

    def denied(self, identity: Identity, action: Action, names: Sequence[str], peer: str = "") -> None:
        """Note nothing."""

    def check_asked(self, identity: Identity, action: NameAction, names: Iterable[str]) -> None:
        """Ask nobody about names."""

    def accountable(self, identity: Identity, address: str) -> str:
        """Return nobody."""
        return ""

    def check_poll(self, identity: Identity, address: str) -> None:
        """Count nothing."""


def terms() -> NodeTerms:
    """Return the node's terms."""
    return TERMS


def change(record: Record) -> Change:
    """Return a record as clients see it."""
    return Change(record.topic, record.version, record.cbor.decode() if record.cbor else None, record.deleted)


class ModelPeer(SilentSink):
    """One connection, and its shell. A message is on its way at once or, if the node conflates, waits in `pending`."""

    def __init__(self, node: ModelNode, conn: Conn) -> None:
        self.node = node
        self.conn = conn
        self.machine = SessionMachine(node.table, self, terms, node.token, Counter(), gate=node.gate)
        self.pending: list[Message] = []
        self.sent = 0
        self.asking: Read | ReadHead | None = None
        self.snapshot: Page | RequestError | Position | None = None

    def offer(self, batch: PushBatch) -> None:
        """Queue pushes, but for those that the gap buffer takes, as the shell does."""
        for change in batch.changes:
            self._offer(change.record)

    def _offer(self, record: Record) -> None:
        gap_buffer = self.machine.gap_buffer
        if gap_buffer is not None:
            if gap_buffer.takes(record):
                return
            self.drop_gap_buffer()
        self._notify(record)

    def drop_gap_buffer(self) -> None:
        """Drop a gap buffer that is of no more use, as the shell does ahead of each message."""
        gap_buffer = self.machine.gap_buffer
        if gap_buffer is not None and gap_buffer.over(self.node.hub.revision):
            self.machine.gap_buffer = None

    def leave(self, reason: Farewell) -> None:
        """End the connection from the node's side."""
        self.carry_out(self.machine.leave(reason))

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in order."""
        for effect in effects:
            match effect:
                case Send(message, records):
                    if isinstance(message, Subscribed | Polled):
                        message = structs.replace(message, changes=[change(record) for record in records])
                    self.say(message)
                case SendFirst(message) | SendAhead(message):
                    self.say_first(message)
                case DropUncovered(names):
                    self._discard(names)
                case Replay(records):
                    for record in records:
                        self._notify(record)
                case Read() | ReadHead():
                    self.asking, self.snapshot = effect, None
                case DropPending():
                    self.sent -= sum(isinstance(message, Notify) for message in self.pending)
                    self.pending = [m for m in self.pending if not isinstance(m, Notify | Renewed | Subscribed | Beat)]
                case SetBeat():
                    pass  # the machine knows, too
                case CloseOther(sink):
                    assert isinstance(sink, ModelPeer)
                    sink.leave("replaced")
                case Close(code):
                    self.node.part(self, int(code))
                case _:
                    raise AssertionError(f"the model does not know {effect}")

    def _discard(self, kept: Collection[str]) -> None:
        """Drop pending pushes of names that are not kept, and a beat, which counts them."""
        lost = [m for m in self.pending if isinstance(m, Notify) and not covered(kept, m.topic)]
        self.sent -= len(lost)
        self.pending = [m for m in self.pending if not (isinstance(m, Beat) or m in lost)]

    def say(self, message: Message) -> None:
        """Queue a message."""
        if self.node.conflates:
            self.pending.append(message)
        else:
            self.node.write(self.conn, message)

    def say_first(self, message: Message) -> None:
        """Queue a message ahead of everything but the welcome."""
        if self.node.conflates:
            at = next((i + 1 for i, m in enumerate(self.pending) if isinstance(m, Welcome)), 0)
            self.pending.insert(at, message)
        else:
            self.node.write(self.conn, message)

    def _notify(self, record: Record) -> None:
        told = change(record)
        push = Notify(told.topic, told.version, told.value, told.deleted)
        for at, message in enumerate(self.pending):
            if isinstance(message, Notify) and message.topic == record.topic:
                self.pending[at] = push
                return
        self.sent += 1
        self.say(push)


class ModelNode:
    """One incarnation of the node. An input is a word and what belongs to it; an output names the connection."""

    def __init__(
        self, messages: Interner, incarnation: int, row: Position, gate: ModelGate, *, conflates: bool
    ) -> None:
        self.messages = messages
        self.incarnation = incarnation
        self.hub = row
        self.gate = gate
        self.conflates = conflates
        self.table = LeaseTable(0.0)
        self.table._wheel = _NoWheel()  # type: ignore[assignment]
        self.tokens = 0
        self.peers: dict[Conn, ModelPeer] = {}
        self.head: Position | None = None
        self.level: Position | None = None
        self.out: list[Output] = []

    def token(self) -> str:
        """Make a session token."""
        self.tokens += 1
        return f"s{self.incarnation}.{self.tokens}"

    def write(self, conn: Conn, message: Message) -> None:
        """Put a message on its way."""
        self.out.append(("write", conn, self.messages.number(message)))

    def part(self, peer: ModelPeer, code: int) -> None:
        """Close a connection, once what waits is written."""
        for message in peer.pending:
            self.write(peer.conn, message)
        self.out.append(("close", peer.conn, code))
        peer.machine.disconnected()
        self.peers.pop(peer.conn, None)

    def take(self, word: str, *given: Any) -> list[Output]:
        """Take an input."""
        getattr(self, f"_{word}")(*given)
        out, self.out = self.out, []
        return out

    def _accept(self, conn: Conn) -> None:
        self.peers[conn] = ModelPeer(self, conn)

    def _hear(self, conn: Conn, number: int) -> None:
        peer = self.peers[conn]
        peer.drop_gap_buffer()
        peer.carry_out(peer.machine.received(self.messages.things[number], 0.0))

    def _hang_up(self, conn: Conn) -> None:
        peer = self.peers.pop(conn, None)
        if peer is not None:
            peer.machine.disconnected()

    def _begin(self, conn: Conn, number: int) -> None:
        self.peers[conn].snapshot = self.messages.things[number]

    def _answer(self, conn: Conn) -> None:
        peer = self.peers[conn]
        asking, found = peer.asking, peer.snapshot
        assert asking is not None
        peer.asking = peer.snapshot = None
        machine = peer.machine
        match found:
            case Position():
                effects = machine.caught_up(asking.ticket, self.hub, peer.sent, 0.0)
            case Page():
                effects = machine.answered(asking.ticket, found, 0.0)
            case _:
                assert isinstance(found, RequestError)
                effects = machine.failed(asking.ticket, found, self.hub, peer.sent, 0.0)
        peer.carry_out(effects)

    def _apply(self, number: int) -> None:
        entry = self.messages.things[number]
        if isinstance(entry, Position):
            for peer in list(self.peers.values()):
                peer.carry_out(peer.machine.moved(entry))
            self.hub = entry
            return
        for lease in sorted(self.table.members(entry.topic), key=lambda lease: lease.token):
            if lease.sink is not None:
                lease.sink.offer(PushBatch([EncodedChange(entry)]))
        self.hub = self.hub.at(entry.version)

    def _read_head(self, head: Position) -> None:
        self.head = head

    def _level(self) -> None:
        assert self.head is not None
        if self.head.same_lineage(self.hub):
            self.level = self.hub
        self.head = None

    def _beat(self, conn: Conn) -> None:
        peer = self.peers[conn]
        assert self.level is not None
        if peer.machine.vouches(self.level, 0.0) and not any(isinstance(waiting, Beat) for waiting in peer.pending):
            peer.say(Beat(1_000, peer.sent, self.level))

    def _pop(self, conn: Conn) -> None:
        self.write(conn, self.peers[conn].pending.pop(0))

    def _expire(self, conn: Conn) -> None:
        peer = self.peers[conn]
        assert peer.machine.lease is not None
        self.table.release(peer.machine.lease)
        peer.carry_out(peer.machine.revoked("expired", 0))

    def _forget(self, conn: Conn, whole: bool) -> None:
        lease = self.peers[conn].machine.lease
        assert lease is not None
        if whole:
            self.table.release(lease)
        else:
            self.table.remove(lease, list(lease.names))

    def _deny(self, name: str) -> None:
        self.gate.deny(name)

    def _rewound(self, row: Position) -> None:
        self.hub = row
        self.head = self.level = None
        for peer in list(self.peers.values()):
            peer.leave("rewound")
        self.table.clear()

    def beats(self, conn: Conn) -> bool:
        """Tell whether a beat may be due to a connection."""
        peer = self.peers.get(conn)
        return self.level is not None and peer is not None and peer.machine.beat_ms > 0

    # Looking ---------------------------------------------------------------------------------------------------------

    def leased(self, conn: Conn) -> bool:
        """Tell whether a connection has a lease that could end."""
        peer = self.peers.get(conn)
        if peer is None or peer.machine.state not in (State.OPEN, State.GREETING):
            return False
        return peer.machine.held_lease() is not None


def node_key(node: ModelNode) -> Hashable:
    """Return a key that is equal for nodes in the same state."""
    leases = sorted(
        (
            lease.token,
            tuple(sorted(lease.names)),
            lease.sink.conn if isinstance(lease.sink, ModelPeer) else None,
            lease.identity and lease.identity.generation,
        )
        for lease in node.table._leases.values()
    )
    peers = tuple(_peer_key(peer) for _, peer in sorted(node.peers.items()))
    hub = (str(node.hub), node.gate.generation)
    return node.incarnation, hub, str(node.head), str(node.level), node.tokens, tuple(map(str, leases)), peers


def _peer_key(peer: ModelPeer) -> Hashable:
    machine = peer.machine
    gap_buffer: Hashable = None
    if machine.gap_buffer is not None:  # what it holds is released in order, which is not frozen
        gap_buffer = (Freezer(machine.gap_buffer, 0.0).frozen, tuple(machine.gap_buffer._held))
    lease = None if machine.lease is None else (machine.lease.token, machine.held_lease() is not None)
    said = (machine.state, machine.token, lease, machine.denied, str(machine.moved_to), machine.busy)
    if machine.gate.generation:
        said = (*said, machine.identity.generation, machine.unaware)  # type: ignore[assignment]
    if machine.beat_ms:
        said = (*said, machine.agreed, machine.named and machine.named.lineage)  # type: ignore[assignment]
    # Tickets are compared with each other and nothing else.
    asked = None if machine.pending is None else repr(replace(machine.pending, ticket=0))
    asking = (
        None if peer.asking is None else (repr(replace(peer.asking, ticket=0)), machine.expects(peer.asking.ticket))
    )
    waits = (asked, asking, repr(peer.snapshot))
    return peer.conn, said, gap_buffer, waits, repr(peer.pending), peer.sent
