"""Mutants: each takes one rule of the protocol out, by a patch of the product, or of the model where a shell has it.

No switch in the product does any of this. A rule of the session is taken out of its table by `change_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from msgspec import structs

from softstate.client.machine.certificate import Certificate
from softstate.client.machine.connection import Connection, Stage
from softstate.client.machine.events import Connected, ConnectFailed, Lost
from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.machine import Machine
from softstate.model import Change, Page, Record
from softstate.position import Position
from softstate.session import Effect, Send
from softstate.session.gap_buffer import GapBuffer
from softstate.session.greeting import join
from softstate.session.renewal import answer_renew
from softstate.session.request import PendingHello, PendingSubscribe
from softstate.session.state import SessionCore
from softstate.session.subscription import subscribe, subscribe_page
from softstate.session.table import TABLE, Act
from softstate.store.rules import history, paging
from softstate.wire.messages import Message, Notify, Renewed, Subscribe
from tests.exhaustive.node import ModelNode, ModelPeer
from tests.exhaustive.small_world import SmallWorld

Patch = pytest.MonkeyPatch

Mutation: TypeAlias = Callable[[Patch], None]


def change_rules(patch: Patch, act: Act, mutant: Act) -> None:
    """Put another function into every cell of the session's table that has `act`."""
    for cell, rule in list(TABLE.items()):
        if rule.act is act:
            patch.setitem(TABLE, cell, rule._replace(act=mutant))


def renewed_goes_first(patch: Patch) -> None:
    """`renewed` overtakes the pushes that wait."""
    say = ModelPeer.say

    def overtaking(self: ModelPeer, message: Message) -> None:
        if not isinstance(message, Renewed):
            say(self, message)
            return
        ahead = self.sent - sum(isinstance(waiting, Notify) for waiting in self.pending)
        self.say_first(structs.replace(message, sent=ahead))

    patch.setattr(ModelPeer, "say", overtaking)


def read_before_entry(patch: Patch) -> None:
    """The names of a subscribe enter the lease only when its read, begun before, is answered."""

    def early(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
        effects = subscribe(session, message, now)
        assert session.lease is not None
        session.leases.remove(session.lease, [*message.topics, *message.prefixes])
        return effects

    def late(session: SessionCore, pending: PendingSubscribe, page: Page) -> list[Effect]:
        lease = session.held_lease()
        if lease is not None:
            session.leases.add(lease, [*pending.request.topics, *pending.request.prefixes])
        return subscribe_page(session, pending, page)

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


def hub_not_awaited(patch: Patch) -> None:
    """A renewal is answered before the hub has reached the head that was read for it."""
    patch.setattr(SmallWorld, "awaits_hub", lambda *_: False)
