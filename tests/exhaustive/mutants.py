"""Mutants: each takes one rule of the protocol out, by a patch of the product, or of the model where a shell has it.

No switch in the product does any of this. A rule of the session is taken out of its table by `change_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import pytest
from msgspec import structs

from softstate.client.machine.certificate import Certificate
from softstate.client.machine.connection import Connection, Stage
from softstate.client.machine.events import Connected, ConnectFailed, Lost
from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.machine import Machine
from softstate.client.machine.push_messages import PushMessages
from softstate.model import Change, Page, Record
from softstate.position import Position
from softstate.session import DropPending, Effect, Send, beats, machine
from softstate.session.gap_buffer import GapBuffer
from softstate.session.greeting import join, welcome
from softstate.session.renewal import answer_renew
from softstate.session.request import PendingHello, PendingSubscribe
from softstate.session.state import SessionCore
from softstate.session.subscription import subscribe, subscribe_page
from softstate.session.table import TABLE, Act
from softstate.store.rules import history, paging
from softstate.wire.messages import Beat, DeniedNames, Message, Notify, Renewed, Subscribe
from tests.exhaustive.node import Conn, ModelNode, ModelPeer
from tests.exhaustive.small_world import SmallWorld

Patch = pytest.MonkeyPatch

Mutation: TypeAlias = Callable[[Patch], None]


def change_rules(patch: Patch, act: Act, mutant: Act) -> None:
    """Put another function into every cell of the session's table that has `act`."""
    for cell, rule in list(TABLE.items()):
        if rule.act is act:
            patch.setitem(TABLE, cell, rule._replace(act=mutant))


def written(peer: ModelPeer) -> int:
    """Count the pushes that a connection has written."""
    return peer.sent - sum(isinstance(waiting, Notify) for waiting in peer.pending)


def renewed_goes_first(patch: Patch) -> None:
    """`renewed` overtakes the pushes that wait."""
    say = ModelPeer.say

    def overtaking(self: ModelPeer, message: Message) -> None:
        if not isinstance(message, Renewed):
            say(self, message)
            return
        self.say_first(structs.replace(message, sent=written(self)))

    patch.setattr(ModelPeer, "say", overtaking)


def read_before_entry(patch: Patch) -> None:
    """The names of a subscribe enter the lease only when its read, begun before, is answered."""

    def early(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
        effects = subscribe(session, message, now)
        assert session.lease is not None
        session.leases.remove(session.lease, [*message.topics, *message.prefixes])
        return effects

    def late(session: SessionCore, pending: PendingSubscribe, page: Page, now: float) -> list[Effect]:
        lease = session.held_lease()
        if lease is not None:
            session.leases.add(lease, [*pending.request.topics, *pending.request.prefixes])
        return subscribe_page(session, pending, page, now)

    change_rules(patch, subscribe, early)
    change_rules(patch, subscribe_page, late)


def joined_by_the_read_before(patch: Patch) -> None:
    """A subscribe behind hello is answered by the read that was asked for ahead of it."""

    def early(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
        hello = session.pending
        assert isinstance(hello, PendingHello)
        ticket = hello.ticket
        join(session, message, now)
        assert isinstance(session.pending, PendingHello)
        session.pending.ticket = ticket
        return []

    change_rules(patch, join, early)


def void_answers_believed(patch: Patch) -> None:
    """A reset by the welcome leaves what was sent with hello in force."""
    reset = Knowledge.reset

    def forgetful(self: Knowledge, position: Position) -> None:
        reset(self, position)
        self._reset_serial = 0

    patch.setattr(Knowledge, "reset", forgetful)
    patch.setattr(Connection, "void_requests", lambda _: None)


def nothing_held(patch: Patch) -> None:
    """The pushes held back while a subscribe's read is under way are dropped."""
    release = GapBuffer.release

    def forgetful(self: GapBuffer, revision: int) -> list[Record]:
        release(self, revision)
        return []

    patch.setattr(GapBuffer, "release", forgetful)


def no_lineage_check(patch: Patch) -> None:
    """A position is on the history if its revision is."""

    def naive(position: Position, image: history.Snapshot) -> bool:
        return position.revision <= image.position.revision

    patch.setattr(paging, "on_history", naive)


def anything_usable(patch: Patch) -> None:
    """An answer is used whichever history its path belongs to."""
    patch.setattr(Knowledge, "usable", lambda *_: True)


def older_applied(patch: Patch) -> None:
    """A change is applied if its version is another, not greater."""

    def careless(self: Knowledge, change: Change, covering: Sequence[Certificate], _: bool) -> bool:
        known = self._known.states.get(change.topic)
        if not covering or (known is not None and known.version == change.version):
            return False
        self._keep(change)
        return True

    patch.setattr(Knowledge, "_apply", careless)


def certified_applied(patch: Patch) -> None:
    """A change is applied though a certificate covers it, and tombstones are forgotten."""

    def careless(self: Knowledge, change: Change, covering: Sequence[Certificate], _: bool) -> bool:
        known = self._known.states.get(change.topic)
        if not covering or (known is not None and known.version >= change.version):
            return False
        self._keep(change)
        return True

    patch.setattr(Knowledge, "_apply", careless)


def no_sweep(patch: Patch) -> None:
    """A topic that a full answer does not list is kept."""
    patch.setattr(Knowledge, "_sweep", lambda *_: [])


def left_connection_heard(patch: Patch) -> None:
    """A client listens to a connection that it left."""

    def credulous(self: Machine, event: Any) -> None:
        connection = self._push.connection
        if connection is None:
            return
        match event:
            case Connected():
                if connection.stage is Stage.OPENING:
                    self._push.hello(connection)
            case ConnectFailed():
                self._connect_failed(event)
            case Lost():
                self._lost(event)
            case _:
                self._messages.read(connection, event.message)

    patch.setattr(Machine, "_read_connection", credulous)


def digest_ignored(patch: Patch) -> None:
    """A mismatch is called a match."""

    def agreeing(*given: Any) -> list[Effect]:
        (say,) = answer_renew(*given)
        assert isinstance(say, Send)
        if not isinstance(say.message, Renewed):
            return [say]
        return [Send(structs.replace(say.message, match=True))]

    change_rules(patch, answer_renew, agreeing)


def replay_begins_late(patch: Patch) -> None:
    """A resumed session is replayed from the client's position instead of what it has certified."""
    patch.setattr(Knowledge, "lowest_revision", lambda self: self.position.revision if self.position else None)


def reset_keeps_versions(patch: Patch) -> None:
    """A reset forgets nothing."""

    def keep(self: Knowledge, position: Position) -> None:
        self.position = position

    patch.setattr(Knowledge, "reset", keep)


def connections_survive_a_rewind(patch: Patch) -> None:
    """No connection is ended when the store was rewound."""

    def quietly(self: ModelNode, row: Position) -> None:
        self.hub = row

    patch.setattr(ModelNode, "_rewound", quietly)


def beats_go_first(patch: Patch) -> None:
    """A beat overtakes what waits."""
    say = ModelPeer.say

    def overtaking(self: ModelPeer, message: Message) -> None:
        if isinstance(message, Beat):
            self.say_first(structs.replace(message, sent=written(self)))
        else:
            say(self, message)

    patch.setattr(ModelPeer, "say", overtaking)


def newer_beats_take_the_place(patch: Patch) -> None:
    """A beat takes the place of one that waits, ahead of what came in between."""
    beat = ModelNode._beat

    def replacing(self: ModelNode, conn: Conn) -> None:
        pending, level = self.peers[conn].pending, self.level
        at = next((at for at, waiting in enumerate(pending) if isinstance(waiting, Beat)), None)
        if at is None or level is None:
            beat(self, conn)
        else:
            behind = sum(isinstance(waiting, Notify) for waiting in pending[at:])
            pending[at] = Beat(1_000, self.peers[conn].sent - behind, level)

    patch.setattr(ModelNode, "_beat", replacing)


def beats_survive_a_drop(patch: Patch) -> None:
    """All that is pending is dropped, but for the beat."""
    carry_out = ModelPeer.carry_out

    def keeping(self: ModelPeer, effects: Sequence[Effect]) -> None:
        beats = [waiting for waiting in self.pending if isinstance(waiting, Beat)]
        carry_out(self, effects)
        if any(isinstance(effect, DropPending) for effect in effects):
            self.pending[:0] = [structs.replace(beat, sent=written(self)) for beat in beats]

    patch.setattr(ModelPeer, "carry_out", keeping)


def level_not_reached(patch: Patch) -> None:
    """A head makes a level before the hub has reached it."""

    def hasty(self: ModelNode, head: Position) -> None:
        self.level = head

    patch.setattr(ModelNode, "_read_head", hasty)


def agreement_is_a_flag(patch: Patch) -> None:
    """An agreement stays, though the lease holds another set by now."""

    def blind(session: SessionCore, position: Position, now: float) -> bool:
        return session.living_lease(now) is not None and session.agreed is not None and names(session, position)

    names = beats.names_history_of
    patch.setattr(machine, "vouches", blind)


def leases_begin_again(patch: Patch) -> None:
    """A subscribe to a lease that is over begins another in silence, and what was agreed on stays."""
    agreement_is_a_flag(patch)
    end_lease, forget = SessionCore.end_lease, ModelNode._forget

    def agreed(self: SessionCore) -> None:
        kept = self.agreed
        end_lease(self)
        self.agreed = kept

    def regranting(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
        if session.living_lease(now) is None:
            session.lapse()
            session.begin_lease(now, session.ttl_s)
        return subscribe(session, message, now)

    patch.setattr(SessionCore, "end_lease", agreed)
    patch.setattr(ModelNode, "_forget", lambda self, conn, _whole: forget(self, conn, True))
    change_rules(patch, subscribe, regranting)


def resumption_is_agreement(patch: Patch) -> None:
    """Either side takes a resumption for an agreement, though the lease may have lost names meanwhile."""

    def trusting(session: SessionCore, pending: PendingHello, page: Page, now: float) -> list[Effect]:
        effects = welcome(session, pending, page, now)
        if pending.gap_buffer is not None and session.lease is not None:
            session.agreed = session.lease.digest
        return effects

    def resumed(self: Certificate, serial: int, lease: int) -> None:
        resume(self, serial, lease)
        self.vouched = lease

    resume = Certificate.resumed
    change_rules(patch, welcome, trusting)
    patch.setattr(Certificate, "resumed", resumed)


def beats_of_any_history(patch: Patch) -> None:
    """A beat may be of another history than the connection has named last, and the client takes it."""
    beat = PushMessages._beat

    def credulous(self: PushMessages, connection: Connection, message: Beat) -> None:
        position, known = message.position, self._core.knowledge.position
        if position is not None and known is not None and not position.same_lineage(known):
            connection.latest = position
            self._move(connection, position)
            message = structs.replace(message, position=position)
        beat(self, connection, message)

    patch.setattr(beats, "names_history_of", lambda _session, _position: True)
    patch.setattr(PushMessages, "_beat", credulous)


def hub_not_awaited(patch: Patch) -> None:
    """A renewal is answered before the hub has reached the head that was read for it."""
    patch.setattr(SmallWorld, "awaits_hub", lambda *_: False)


def denied_goes_last(patch: Patch) -> None:
    """`denied` is queued behind what waits, on a node that tells in `renewed` how many pushes were written."""
    discard, say_first = ModelPeer._discard, ModelPeer.say_first

    def recounting(self: ModelPeer, kept: Collection[str]) -> None:
        before = self.sent
        discard(self, kept)
        lost = before - self.sent
        self.pending = [structs.replace(m, sent=m.sent - lost) if isinstance(m, Renewed) else m for m in self.pending]

    def last(self: ModelPeer, message: Message) -> None:
        if isinstance(message, DeniedNames):
            self.say(message)
        else:
            say_first(self, message)

    patch.setattr(ModelPeer, "_discard", recounting)
    patch.setattr(ModelPeer, "say_first", last)
