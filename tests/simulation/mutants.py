"""Mutants: each takes one rule of the protocol out of the product by a patch. The product has no switch for any.

`test_mutants.py` lists where each is caught; `softstate/testing/README.md` says how to add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from softstate.client.machine import publish_queue
from softstate.client.machine.knowledge import Knowledge, Question
from softstate.client.shell.shell import _Connection
from softstate.model import Change, Record
from softstate.position import Position
from softstate.server.fanout.audience import Audience
from softstate.server.fanout.hub import Hub, Portions
from softstate.server.fanout.known_versions import KnownVersions
from softstate.server.fanout.outbox import Outbox
from softstate.server.fanout.recent_changes import RecentChanges
from softstate.server.node import Node
from softstate.server.storage.batcher import Batcher, Ticket
from softstate.server.storage.follower import StoreFollower
from softstate.server.storage.level import LEVEL_S_MAX, Level, Reading
from softstate.server.storage.writes import StoreWrites
from softstate.server.websocket.connection import Connection
from softstate.session import Effect, Send
from softstate.store.base import Verdict, Write
from softstate.store.memory.store import MemoryImage
from softstate.store.rules.publishers import Notes
from softstate.wire import CODECS, Codec, frame
from softstate.wire.messages import Renewed
from softstate.wire.push import PushBatch
from tests.exhaustive.mutants import left_connection_heard as read_by_the_machine

Patch = pytest.MonkeyPatch


def age_counts_from_the_answer(patch: Patch) -> None:
    """A certificate's age counts from a time after its request was sent."""
    finish = Knowledge.finish

    def late(
        self: Knowledge, question: Question, revision: int, lag_s: float, compacted: Sequence[str] = ()
    ) -> list[Change]:
        question.sent += 2.0
        swept = finish(self, question, revision, lag_s, compacted)
        question.sent -= 2.0  # else it is an anchor of beats in the future, and none counts
        return swept

    patch.setattr(Knowledge, "finish", late)


def tombstones_forgotten(patch: Patch) -> None:
    """A deletion leaves no tombstone in the store."""
    apply = MemoryImage.apply

    def forgetting(self: MemoryImage, publish: Write, *limits: int) -> tuple[Verdict, Record | None]:
        verdict, record = apply(self, publish, *limits)
        if record is not None and record.deleted:
            del self.records[record.version]
            del self.latest[record.topic]
        return verdict, record

    patch.setattr(MemoryImage, "apply", forgetting)


def numbers_forgotten_in_flight(patch: Patch) -> None:
    """A store forgets what a publisher's numbers were used for, also above what the publisher has settled."""
    publisher = Notes.publisher
    patch.setattr(Notes, "publisher", lambda self: replace(publisher(self), uses={}))


def pushes_lost_and_counted(patch: Patch) -> None:
    """Every fiftieth push is counted as sent, and is not."""
    offer = Connection.offer
    pushed = 0

    def losing(self: Connection, batch: PushBatch) -> None:
        nonlocal pushed
        pushed += 1
        if pushed % 50 == 0 and self.outbox is not None:
            self.outbox.sent += len(batch)
        else:
            offer(self, batch)

    patch.setattr(Connection, "offer", losing)


def notified_before_commit(patch: Patch) -> None:
    """A node pushes a change before its commit, at the version that it will probably get."""
    commit = StoreWrites._commit

    async def hasty(self: StoreWrites, group: Sequence[Write]) -> Any:
        position = self._hub.position
        for publish in group:
            if publish.expect is None and publish.cbor is not None:
                for _ in self._hub._offer([Record(publish.topic, position.revision + 1, publish.cbor)]):
                    pass
                self._hub.flush()
                break
        return await commit(self, group)

    patch.setattr(StoreWrites, "_commit", hasty)


def renewed_goes_first(patch: Patch) -> None:
    """`renewed` overtakes pending pushes."""
    carry_out = Connection.carry_out

    def overtaking(self: Connection, effects: Sequence[Effect]) -> None:
        for effect in effects:
            outbox = self.outbox
            if outbox is None or not (isinstance(effect, Send) and isinstance(effect.message, Renewed)):
                carry_out(self, [effect])
                continue
            ahead = outbox.sent - sum(isinstance(key, str) for key in outbox._pending)
            message = structs.replace(effect.message, sent=ahead)
            outbox.first(frame(self.codec.encode(message), text=self.codec.text))
            outbox.flush()

    patch.setattr(Connection, "carry_out", overtaking)


def replacement_goes_last(patch: Patch) -> None:
    """A newer change of a topic moves behind all that is pending, instead of taking the older one's place."""
    notify = Outbox.notify

    def requeued(self: Outbox, topic: str, frame: bytes) -> None:
        older = self._pending.pop(topic, None)
        if older is not None:
            self._bytes -= len(older)
            self.sent -= 1
        notify(self, topic, frame)

    patch.setattr(Outbox, "notify", requeued)


def reads_joined_under_way(patch: Patch) -> None:
    """A request is answered by an equal one whose read began before it."""
    submit = Batcher.submit

    def joining(
        self: Batcher[Any, Any], item: Any, settled: Callable[[Any], None], broken: Callable[[], None] = lambda: None
    ) -> Ticket[Any, Any]:
        for running in self._in_flight:
            if running.open and running.item == item and not isinstance(item, Write):
                ticket = Ticket(item, settled)
                first = running._settled
                assert first is not None

                def both(answered: Ticket[Any, Any], first: Any = first, ticket: Ticket[Any, Any] = ticket) -> None:
                    first(answered)
                    ticket.settle(answered.outcome())

                running.then(both)
                return ticket
        return submit(self, item, settled, broken)

    patch.setattr(Batcher, "submit", joining)


def own_commits_close_gaps(patch: Patch) -> None:
    """The hub moves to this node's own commit, even if others committed in between."""

    async def committed(self: Hub, _before: int, records: Sequence[Record], position: Position) -> None:
        if position.same_lineage(self.position):
            await self.apply(records, (), position)

    patch.setattr(Hub, "committed", committed)


def hub_moves_ahead(patch: Patch) -> None:
    """The hub moves to a commit when the first turn of its pushes is over, and not the last."""
    push = Hub._push

    def ahead(self: Hub, audience: Audience) -> Portions:
        for _ in push(self, audience):
            self.position = self.position.at(max(change.record.version for change in audience._changes))
            self._reached_lot.unpark_all()
            yield

    patch.setattr(Hub, "_push", ahead)


def hub_not_awaited(patch: Patch) -> None:
    """A renewal is answered before the hub has reached the head that was read for it."""

    async def at_once(_self: Hub, _revision: int) -> None:
        pass

    patch.setattr(Hub, "reached", at_once)


def level_without_age(patch: Patch) -> None:
    """A renewal that is answered from an earlier read of the head does not say how much earlier that began."""
    lag_s = Level.lag_s

    def untold(self: Level, moment: Reading | None = None) -> float:
        return 0.0 if lag_s(self, moment) <= LEVEL_S_MAX else math.inf

    patch.setattr(Level, "lag_s", untold)


def level_counts_from_its_end(patch: Patch) -> None:
    """A level is as old as the moment at which the hub reached its head, not as the beginning of the read."""
    reached = Level.reached

    def late(self: Level, reading: Reading) -> None:
        reached(self, replace(reading, began=self.begin().began))

    patch.setattr(Level, "reached", late)


def changes_not_noted(patch: Patch) -> None:
    """A node goes on taking for the newest a version that a change which passed has replaced."""
    patch.setattr(KnownVersions, "note", lambda _self, _record: None)


def learnt_too_late(patch: Patch) -> None:
    """A node takes a version from an answer of the store though a newer change of the topic has passed meanwhile."""
    patch.setattr(RecentChanges, "changed_of", lambda _self, _topics, _after: ())


def connections_survive_a_rewind(patch: Patch) -> None:
    """No session ends when the store was rewound."""

    async def quietly(_self: Node, _position: Position) -> None:
        pass

    patch.setattr(Node, "_rewound", quietly)


def damaged_passes_for_deleted(patch: Patch) -> None:
    """A record that cannot be read is told as a deletion."""
    for codec in CODECS.values():
        change, notify = codec.change, codec.notify
        patch.setattr(codec, "change", lambda record, change=change: change(Record(*_deleted_if_damaged(record))))
        patch.setattr(codec, "notify", lambda record, notify=notify: notify(Record(*_deleted_if_damaged(record))))


def _deleted_if_damaged(record: Record) -> tuple[str, int, bytes | None]:
    return record.topic, record.version, record.cbor


def damage_spoils_its_page(patch: Patch) -> None:
    """All topics of a page with a damaged record are named as unreadable."""

    changes = Codec._changes

    def spoilt(self: Codec, records: Sequence[Record], encoded: Mapping[int, bytes]) -> tuple[bytes, list[str]]:
        array, unreadable = changes(self, records, encoded)
        return (self._array([]), [record.topic for record in records]) if unreadable else (array, unreadable)

    patch.setattr(Codec, "_changes", spoilt)


def ages_outlive_a_rewind(patch: Patch) -> None:
    """A node takes the age of a revision in a lost history for that of the same number in the one that it has now."""
    restart = Hub.restart

    def quietly(self: Hub, position: Position) -> None:
        restarts = self.restarts
        restart(self, position)
        self.restarts = restarts

    patch.setattr(Hub, "restart", quietly)


def only_the_hub_is_compared(patch: Patch) -> None:
    """After a rewind a node compares only its hub with the new history, not the highest position that it sent."""
    patch.setattr(StoreFollower, "note_told_position", lambda _self, _position: None)


def only_the_highest_is_compared(patch: Patch) -> None:
    """A node compares its hub with the history only if it has told no client of anything newer."""
    lost = StoreFollower._lost

    async def lost_of_the_highest(self: StoreFollower, row: Position) -> Position | None:
        found = await lost(self, row)
        behind = self.told.revision > self._hub.position.revision
        return None if behind and found == self._hub.position else found

    patch.setattr(StoreFollower, "_lost", lost_of_the_highest)


def left_connection_heard(patch: Patch) -> None:
    """A client reads a connection that it left: its shell keeps it open, and its machine accepts the messages."""
    read_by_the_machine(patch)
    patch.setattr(_Connection, "leave", lambda _self: None)


def earlier_attempts_forgotten(patch: Patch) -> None:
    """A client takes any refusal of a publish for its outcome, although an earlier attempt may have been applied."""
    patch.setattr(publish_queue, "_outcome", lambda _entry, error: error)
