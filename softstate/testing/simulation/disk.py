"""The store of a simulated world: a memory disk that records every commit, and can lose commits, rewind, slow or hang.

The disk's image records an event at the instant of the commit, regardless of the node that made it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias, TypeVar, final

import cbor2
import trio

from softstate.errors import Unavailable
from softstate.model import PAGE_RECORDS_MAX, Durability, Query, Record
from softstate.position import Position
from softstate.store.base import KEYS_MAX, PUBLISHERS_MAX, Committed, Feed, Verdict, Write
from softstate.store.memory.store import MemoryDisk, MemoryImage, MemoryStore
from softstate.store.rules.nonce import lineage_nonce
from softstate.testing.network.route import Delay
from softstate.testing.trace import (
    ChangeCommitted,
    HistoryReplaced,
    LineageCommitted,
    RecordDamaged,
    TombstonesCompacted,
    TraceEvent,
)

T = TypeVar("T")
Recorder: TypeAlias = Callable[[TraceEvent], None]

LOSES_UNSYNCED = frozenset({Durability.WEAK, Durability.NONE})
"""The durability of a store whose acknowledged commits may be lost in a crash of the disk's host."""


def _ignore(_event: TraceEvent) -> None:
    pass


@dataclass(slots=True)
class SequencedImage(MemoryImage):
    """An image where a transaction can draw its revision at its beginning, and commit later. No store may do that.

    `drawn` is the highest revision drawn.
    """

    drawn: int = 0

    def blank(self, epoch: str) -> MemoryImage:
        """See `MemoryImage.blank`."""
        image = MemoryImage.blank(self, epoch)
        assert isinstance(image, SequencedImage)
        image.drawn = 0
        return image

    def open(self, nonce: str) -> Position:
        """See `MemoryImage.open`."""
        self.head = max(self.head, self.drawn)
        return MemoryImage.open(self, nonce)

    def apply(self, write: Write, keys_max: int, publishers_max: int = PUBLISHERS_MAX) -> tuple[Verdict, Record | None]:
        """See `MemoryImage.apply`."""
        before, self.head = self.head, max(self.head, self.drawn)
        verdict, record = MemoryImage.apply(self, write, keys_max, publishers_max)
        if record is None:
            self.head = before
        return verdict, record

    def draw(self) -> int:
        """Begin a transaction that draws its revision now: no other gets that revision, and the head stays."""
        self.drawn = max(self.head, self.drawn) + 1
        return self.drawn

    def commit_drawn(self, publish: Write, revision: int) -> Record:
        """Commit a transaction at the revision that it drew, although higher ones may be visible already.

        Its topic must not have changed since.
        """
        replaced = self.latest.get(publish.topic, 0)
        assert replaced < revision, f"{publish.topic} has changed since revision {revision} was drawn"
        self.records.pop(replaced, None)
        record = Record(publish.topic, revision, publish.cbor)
        self.records = dict(sorted({**self.records, revision: record}.items()))
        self.latest[publish.topic] = revision
        self.head = max(self.head, revision)
        return record


def _identity(write: Write) -> str | None:
    """Return what makes a publish safe to repeat: its key, or its publisher and number."""
    if write.number is not None:
        return f"{write.number.publisher} {write.number.seq}"
    return write.key


@dataclass(slots=True)
class RecordedImage(SequencedImage):
    """An image that records an event for every commit."""

    recorder: Recorder = field(default=_ignore, repr=False, compare=False)

    def open(self, nonce: str) -> Position:
        """See `MemoryImage.open`."""
        position = SequencedImage.open(self, nonce)
        self.recorder(LineageCommitted(trio.current_time(), position.revision, position.epoch, nonce))
        return position

    def apply(self, write: Write, keys_max: int, publishers_max: int = PUBLISHERS_MAX) -> tuple[Verdict, Record | None]:
        """See `MemoryImage.apply`."""
        verdict, record = SequencedImage.apply(self, write, keys_max, publishers_max)
        if record is not None:
            self._record(record, _identity(write))
        return verdict, record

    def commit_drawn(self, publish: Write, revision: int) -> Record:
        """See `SequencedImage.commit_drawn`."""
        record = SequencedImage.commit_drawn(self, publish, revision)
        self._record(record, _identity(publish))
        return record

    def _record(self, record: Record, key: str | None) -> None:
        value = None if record.cbor is None else cbor2.loads(record.cbor)
        self.recorder(ChangeCommitted(trio.current_time(), record.version, record.topic, value, record.deleted, key))

    def compact(self, tombstones: int, keys: int) -> int:
        """See `MemoryImage.compact`."""
        before = self.floor
        floor = MemoryImage.compact(self, tombstones, keys)
        if floor != before:
            self.recorder(TombstonesCompacted(trio.current_time(), floor))
        return floor


@final
class SimDisk(MemoryDisk):
    """A disk whose host may crash: then commits that were not durable yet are gone, unless it claims durability."""

    def __init__(self, random: Random, recorder: Recorder, durability: Durability) -> None:
        super().__init__(random)
        self.durability = durability
        self.delay: Delay | None = None
        """The time of each half of a store call, drawn for each; None: no time."""
        self.hanging = False
        """Whether calls hang; they go on once this ends."""
        self.changed = trio.lowlevel.ParkingLot()
        self._recorder = recorder
        self.read_only = False
        """Whether publishing and housekeeping fail while reads work, as on a full disk."""
        self.image: MemoryImage = RecordedImage(self.image.epoch, recorder=recorder)
        self._synced = self.image.copy()
        self.replaced = 0
        """How often another history was put here."""
        self._row_replaced: Sequence[Position] | None = None
        """The newest lineage row of the history that was put here last, None if none was: no row is newer yet."""

    def sync(self) -> None:
        """Make all commits so far durable."""
        self._synced = self.image.copy()

    def crash(self) -> int:
        """Lose the commits that are not durable; return how many revisions (0 if the disk claims durability)."""
        lost = self.image.head - self._synced.head if self.durability in LOSES_UNSYNCED else 0
        if lost:
            self._replace(self._synced, "crash")
        return lost

    def restore(self, backup: MemoryImage) -> None:
        """Put a backup back, under the feet of every node."""
        self._replace(backup, "restored")

    def commit(self, publish: Write) -> int:
        """Commit a change as another node would, which reopens its store first if the history was replaced."""
        # Not by their number: compaction forgets rows, and a change of a restored history needs one of its own.
        if self.image.rows[-1:] == self._row_replaced:
            self.image.open(lineage_nonce(self.random))
        self.image.apply(publish, KEYS_MAX)
        self.ring()
        return self.image.head

    def begin(self, publish: Write) -> Callable[[], int]:
        """Begin a transaction that draws its revision from a sequence now; the call commits it, and returns that.

        What commits in between has a higher revision and is visible before it: see `SequencedImage`.
        """
        image = self.image
        assert isinstance(image, SequencedImage)
        revision = image.draw()

        def commit() -> int:
            image.commit_drawn(publish, revision)
            self.ring()
            return revision

        return commit

    def damage(self, topic: str) -> bool:
        """Lose bits of a topic's record; return whether it had one with a value."""
        version = self.image.latest.get(topic, 0)
        if not version or self.image.records[version].cbor is None:
            return False
        self.image.damage(topic)
        self._recorder(RecordDamaged(trio.current_time(), topic, version))
        return True

    @property
    def unreadable(self) -> list[str]:
        """The topics whose records are damaged."""
        return [record.topic for record in self.image.records.values() if record.unreadable]

    def wipe(self) -> None:
        """Replace the store by an empty one of another epoch."""
        self._replace(RecordedImage(f"{self.random.getrandbits(128):032x}", recorder=self._recorder), "wiped")

    def _replace(self, image: MemoryImage, why: str) -> None:
        self.image = image.copy()
        self._synced = image.copy()
        self.replaced += 1
        self._row_replaced = image.rows[-1:]
        topics = tuple(sorted((r.topic, r.version, r.deleted) for r in image.records.values()))
        rows = tuple((row.revision, row.lineage) for row in image.rows)
        self._recorder(HistoryReplaced(trio.current_time(), why, image.epoch, image.head, rows, topics))
        self.ring()

    def hang(self, *, on: bool) -> None:
        """Let all calls hang, or go on."""
        self.hanging = on
        self.changed.unpark_all()


CrashPoint: TypeAlias = Callable[[str], Awaitable[None]]


@final
class SimStore(MemoryStore):
    """One node's store: a `MemoryStore` whose calls take time and pass crash points, and that fails once `dead`.

    Points are named ``<call>.before`` and ``<call>.after``, for publish, read, head, feed and reopen, in addition to
    ``publish.before_commit`` and ``publish.after_commit``.
    """

    def __init__(self, disk: SimDisk, random: Random, point: CrashPoint) -> None:
        self.dead = False
        self.replies_lost = 0
        """Number of the next publishes that are committed but answered with an error."""
        self.slow: dict[str, Delay] = {}
        """Extra time of calls, by name; half of it before, half after the call proper."""
        self._feed_stuck = False
        self._replaced = 0
        self._sim = disk
        self._random = random
        super().__init__(disk, durability=disk.durability, checkpoint=self._publish_point)
        self._point = point

    def _reach(self) -> None:
        if self.dead:
            raise Unavailable("this node has ended (simulated)")
        super()._reach()

    def _open(self) -> Position:
        self._reach()
        self._reach_for_writing()
        self._replaced = self._sim.replaced
        return super()._open()

    def _reach_for_writing(self) -> None:
        if self._sim.read_only:
            raise Unavailable("the disk is read-only (simulated)")

    async def _publish_point(self, name: str) -> None:
        await self._point(name)
        if name == "publish.before_commit":
            self._reach_for_writing()
            self._begin_lineage()
        if name == "publish.after_commit" and self.replies_lost > 0:
            self.replies_lost -= 1
            raise Unavailable("the commit's answer was lost (simulated)")

    def _begin_lineage(self) -> None:
        """Begin a lineage ahead of the first change to a history that was put here, as engines on servers do.

        Else a node that had not seen what was lost yet would go on in the lineage of those that had.
        """
        if self._replaced != self._sim.replaced:
            self._image().open(lineage_nonce(self._sim.random))
            self._sim.ring()  # the change may be refused, and the row stands alone
            self._replaced = self._sim.replaced

    async def _half(self, name: str) -> None:
        if self._sim.delay is not None:
            await trio.sleep(self._sim.delay(self._random))
        if name in self.slow:
            await trio.sleep(self.slow[name](self._random) / 2)
        while self._sim.hanging:
            await self._sim.changed.park()

    async def _timed(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._point(f"{name}.before")
        await self._half(name)
        answer = await call()
        await self._half(name)
        await self._point(f"{name}.after")
        return answer

    async def publish(self, group: Sequence[Write]) -> Committed:
        """See `Store.publish`."""
        inner = super().publish
        return await self._timed("publish", lambda: inner(group))

    async def read(self, group: Sequence[Query]) -> Any:
        """See `Store.read`."""
        inner = super().read
        return await self._timed("read", lambda: inner(group))

    async def head(self) -> Position:
        """See `Store.head`."""
        return await self._timed("head", super().head)

    def stick_feed(self, *, on: bool) -> None:
        """Let `wait` and `feed` hang while all other calls work, or let them go on."""
        self._feed_stuck = on
        self._sim.changed.unpark_all()

    async def _feed_moves(self) -> None:
        while self._feed_stuck:
            await self._sim.changed.park()

    async def wait(self, after: int) -> None:
        """See `Store.wait`."""
        await super().wait(after)
        await self._feed_moves()

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""
        await self._feed_moves()
        inner = super().feed
        return await self._timed("feed", lambda: inner(after, limit))

    async def compact(self, *, tombstones: int, keys: int) -> int:
        """See `Store.compact`."""
        self._reach_for_writing()
        return await super().compact(tombstones=tombstones, keys=keys)

    async def reopen(self) -> Position:
        """See `Store.reopen`."""
        return await self._timed("reopen", super().reopen)
