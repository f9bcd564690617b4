"""Mutants of beats: each takes a rule of P-BEAT out of the product by a patch. The product has no switch for any.

`test_beat_mutants.py` lists where each is caught. Where node and client each keep a rule by themselves, both are
patched; the docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import trio
from msgspec import structs

from softstate.client.machine import beat_watch
from softstate.client.machine.beat_watch import BeatWatch
from softstate.client.machine.certificate import Certificate
from softstate.client.machine.connection import Connection as ClientConnection
from softstate.client.machine.knowledge import Knowledge, Question
from softstate.client.machine.push_messages import PushMessages
from softstate.client.machine.push_path import PushPath
from softstate.lease.table import Lease
from softstate.model import Change
from softstate.position import Position
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.outbox import _BEAT, Outbox
from softstate.server.node import Node
from softstate.server.storage.level import Level, Reading
from softstate.server.websocket.beats import SharedBeat
from softstate.server.websocket.connection import Connection
from softstate.session import Effect, Send, beats, greeting, machine, renewal, subscription
from softstate.session.renewal import answer_renew
from softstate.session.request import PendingRenew, clock_ms
from softstate.session.state import SessionCore
from softstate.testing.simulation.faults import Faults
from softstate.wire import Codec
from softstate.wire.messages import Polled, Renewed, Subscribed
from tests.exhaustive.mutants import beats_of_any_history, change_rules

Patch = pytest.MonkeyPatch

# Of the node ----------------------------------------------------------------------------------------------------------


def clock_read_behind_the_head(patch: Patch) -> None:
    """A beat tells what the clock read when the hub had reached the head, not when the read of it began."""
    reached, certified = Level.reached, Level.certified
    ended: dict[Level, float] = {}

    def noting(self: Level, reading: Reading) -> None:
        reached(self, reading)
        ended[self] = self.begin().began

    def late(self: Level) -> tuple[Position, float] | None:
        found = certified(self)
        return None if found is None else (found[0], ended[self])

    patch.setattr(Level, "reached", noting)
    patch.setattr(Level, "certified", late)


def head_told_at_once(patch: Patch) -> None:
    """A beat tells the head that was read, though the hub has not reached it."""
    reached = Level.reached
    heads: dict[Hub, int] = {}

    async def at_once(self: Hub, revision: int) -> None:
        heads[self] = revision

    def ahead(self: Level, reading: Reading) -> None:
        reached(self, reading)
        self._position = self._position.at(max(heads.get(self._hub, 0), self._position.revision))

    patch.setattr(Hub, "reached", at_once)
    patch.setattr(Level, "reached", ahead)


def answers_tell_the_clock_of_the_level(patch: Patch) -> None:
    """A renewal that is answered from the level tells what the clock read when that began, not when `renew` came."""

    def early(
        session: SessionCore, pending: PendingRenew, position: Position, sent: int, now: float, lag_s: float
    ) -> list[Effect]:
        effects = answer_renew(session, pending, position, sent, now, lag_s)
        return [
            Send(structs.replace(effect.message, clock_ms=clock_ms(now - lag_s)))
            if isinstance(effect, Send) and isinstance(effect.message, Renewed)
            else effect
            for effect in effects
        ]

    change_rules(patch, answer_renew, early)


def answers_tell_a_time_of_before(patch: Patch) -> None:
    """Answers tell what the clock read a quarter of a second before they were made, as at the start of a long turn.

    No time passes during a turn of a simulated node, so the mutant has to make it up.
    """
    for module in (greeting, renewal, subscription):
        patch.setattr(module, "clock_ms", lambda now: clock_ms(max(now - 0.25, 0.0)))


def beats_outlive_leases(patch: Patch) -> None:
    """A lease that is past its deadline, and not swept yet, gets beats; its client does not look at the end either."""

    def undated(session: SessionCore, position: Position | None, _now: float) -> bool:
        lease = session.held_lease()
        agreed = lease is not None and session.agreed == lease.digest
        return agreed and (position is None or beats.names_history_of(session, position))

    async def never(_self: Node) -> None:
        await trio.sleep_forever()

    patch.setattr(machine, "vouches", undated)
    patch.setattr(Node, "_sweep", never)
    patch.setattr(ClientConnection, "lease_end", lambda _self, _sent: math.inf)


def levels_outlive_a_rewind(patch: Patch) -> None:
    """A level of a lost history stays, a node tells it to those of the new one, and clients take it: three guards."""
    beats_of_any_history(patch)
    patch.setattr(Level, "is_of_this_history", lambda _self, _reading: True)


def clock_stands_still_in_suspend(patch: Patch) -> None:
    """A node reads a clock that stands still while its host is suspended.

    The product is told its clock; in a simulated world, that of a frozen host is made to stop.
    """
    freeze, thaw = Faults.freeze, Faults.thaw

    def stopping(self: Faults, host: str) -> None:
        freeze(self, host)
        self._clock(host).set_rate(0.0)

    def going_on(self: Faults, host: str) -> None:
        self._clock(host).set_rate(1.0)
        thaw(self, host)

    patch.setattr(Faults, "freeze", stopping)
    patch.setattr(Faults, "thaw", going_on)


# On its way -----------------------------------------------------------------------------------------------------------


def beats_go_first(patch: Patch) -> None:
    """A beat overtakes pending pushes."""

    def overtaking(self: Connection, beat: SharedBeat) -> None:
        outbox = self.outbox
        if outbox is not None and self.machine.vouches(beat.position, beat.now):
            outbox.first(beat.frame(self.codec, _ahead(outbox)))
            outbox.flush()

    patch.setattr(Connection, "beat", overtaking)


def newer_beats_take_the_place(patch: Patch) -> None:
    """A newer beat takes the place of one that waits, ahead of pushes that came in between."""
    beat = Connection.beat

    def replacing(self: Connection, told: SharedBeat) -> None:
        outbox = self.outbox
        if outbox is None or _BEAT not in outbox._pending:
            beat(self, told)
        elif self.machine.vouches(told.position, told.now):
            keys = list(outbox._pending)
            behind = sum(isinstance(key, str) for key in keys[keys.index(_BEAT) :])
            outbox._pending[_BEAT] = told.frame(self.codec, outbox.sent - behind)

    patch.setattr(Connection, "beat", replacing)


def beats_survive_a_drop(patch: Patch) -> None:
    """All that is pending is dropped, but for the beat, which counts the pushes that are left."""
    beat, drop = Connection.beat, Outbox.drop
    told: dict[Outbox, tuple[Codec, SharedBeat]] = {}

    def noting(self: Connection, shared: SharedBeat) -> None:
        if self.outbox is not None and _BEAT not in self.outbox._pending:
            told[self.outbox] = self.codec, shared
        beat(self, shared)

    def keeping(self: Outbox) -> None:
        waited = _BEAT in self._pending
        drop(self)
        if waited:
            codec, shared = told[self]
            self.beat(shared.frame(codec, self.sent))

    patch.setattr(Connection, "beat", noting)
    patch.setattr(Outbox, "drop", keeping)


def _ahead(outbox: Outbox) -> int:
    """Count the pushes that an outbox has written."""
    return outbox.sent - sum(isinstance(key, str) for key in outbox._pending)


# Of the client --------------------------------------------------------------------------------------------------------


def clocks_taken_for_exact(patch: Patch) -> None:
    """A client takes a second on the node's clock for a second on its own."""
    patch.setattr(beat_watch, "RATE", 1.0)


def earlier_readings_shrunk(patch: Patch) -> None:
    """A client makes no difference between readings before and after that of its anchor."""
    asof = BeatWatch.asof

    def shrunk(self: BeatWatch, clock_ms: int, now: float) -> float | None:
        found = asof(self, clock_ms, now)
        if found is None or self._clock_s is None:
            return found
        return self._sent + beat_watch.RATE * (clock_ms / 1000 - self._clock_s)

    patch.setattr(BeatWatch, "asof", shrunk)


def asked_for_is_agreed_on(patch: Patch) -> None:
    """A node takes the set that a `subscribe` with `replace` asks for as agreed on before it has answered."""
    add_to = SessionCore.agree_to

    def hasty(self: SessionCore, lease: Lease, before: int) -> None:
        if self.agreed is None:
            self.agreed = before
        add_to(self, lease, before)

    patch.setattr(SessionCore, "agree_to", hasty)


def anchors_outlive_connections(patch: Patch) -> None:
    """A client keeps its anchor on another connection, perhaps to another node, and when it subscribes all again."""
    connect = PushPath.connect
    anchors: dict[PushPath, tuple[float, float]] = {}

    def keeping(self: PushPath) -> None:
        connect(self)
        if self.connection is not None and self in anchors:
            self.connection.beats._sent, self.connection.beats._clock_s = anchors[self]

    def noting(self: PushPath) -> None:
        connection: ClientConnection | None = self.connection
        if connection is not None and connection.beats._clock_s is not None:
            anchors[self] = connection.beats._sent, connection.beats._clock_s
        ended(self)

    ended = PushPath.ended
    patch.setattr(PushPath, "connect", keeping)
    patch.setattr(PushPath, "ended", noting)
    patch.setattr(BeatWatch, "begin_again", lambda _: None)


def pages_certify(patch: Patch) -> None:
    """Both ends take a page for the whole answer, as far as beats are concerned."""
    asked_for_is_agreed_on(patch)
    answer = PushMessages._answer

    def hasty(self: PushMessages, connection: ClientConnection, message: Subscribed | Polled) -> None:
        request = connection.requests.get(str(message.id))
        answer(self, connection, message)
        if request is not None and request.joins and message.more:
            for name in request.question.since:
                self._core.knowledge.subscriptions[name].vouched = self._core.knowledge.lease

    patch.setattr(PushMessages, "_answer", hasty)


def beats_certify_all_names(patch: Patch) -> None:
    """A beat certifies names that are not certified yet."""
    beaten = Certificate.beaten

    def generous(self: Certificate, lease: int, revision: int, asof: float) -> bool:
        self.vouched = lease
        return beaten(self, lease, revision, asof)

    patch.setattr(Certificate, "beaten", generous)


def one_beat_for_a_connection(patch: Patch) -> None:
    """A name that is certified takes over the last beat, which came before."""
    beaten, finish = Knowledge.beaten, Knowledge.finish
    last: dict[Knowledge, tuple[int, float]] = {}

    def noting(self: Knowledge, revision: int, asof: float) -> None:
        last[self] = revision, asof
        beaten(self, revision, asof)

    def lazy(
        self: Knowledge, question: Question, revision: int, lag_s: float, compacted: Sequence[str] = ()
    ) -> list[Change]:
        swept = finish(self, question, revision, lag_s, compacted)
        for name in question.since:
            if self in last:
                self.subscriptions[name].beaten(self.lease, *last[self])
        return swept

    patch.setattr(Knowledge, "beaten", noting)
    patch.setattr(Knowledge, "finish", lazy)


def certificates_outlive_a_replacement(patch: Patch) -> None:
    """A client that subscribes its whole set again lets beats certify what it held before; the node sends them.

    Without its anchor, which it takes from the answer, it could not tell their age.
    """
    asked_for_is_agreed_on(patch)
    patch.setattr(BeatWatch, "begin_again", lambda _: None)
    subscribe_all = PushPath.subscribe_all

    def keeping(self: PushPath) -> None:
        knowledge = self._core.knowledge
        held = [each for each in knowledge.subscriptions.values() if each.vouched == knowledge.lease]
        subscribe_all(self)
        for each in held:
            each.vouched = knowledge.lease

    patch.setattr(PushPath, "subscribe_all", keeping)
