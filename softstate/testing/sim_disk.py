"""The store of a simulated world: a memory disk that notes every commit, and may lose, rewind, slow down or hang.

The events come from the disk's image itself, at the instant of the commit, whichever node made it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias, TypeVar, final

import cbor2
import trio

from softstate.errors import Unavailable
from softstate.model import PAGE_RECORDS_MAX, Durability, Position, Query, Record
from softstate.store.base import KEYS_MAX, Committed as StoreCommitted, Feed, Publish, Verdict
from softstate.store.memory import MemoryDisk, MemoryImage, MemoryStore
from softstate.store.nonce import lineage_nonce
from softstate.testing.pipe import Delay
from softstate.testing.trace import Committed, Forgotten, HistoryReplaced, LineageCommitted, TraceEvent

T = TypeVar("T")
Note: TypeAlias = Callable[[TraceEvent], None]

LOSES_UNSYNCED: Final = frozenset({Durability.WEAK, Durability.NONE})
"""What a store has to report if its acknowledged commits may be lost by a crash of the disk's host."""


def _silent(_event: TraceEvent) -> None:
    pass


@dataclass(slots=True)
class NotedImage(MemoryImage):
    """An image that tells of every commit."""

    note: Note = field(default=_silent, repr=False, compare=False)

    def open(self, nonce: str) -> Position:
        """See `MemoryImage.open`."""
        position = MemoryImage.open(self, nonce)
        self.note(LineageCommitted(trio.current_time(), position.revision, position.epoch, nonce))
        return position

    def apply(self, publish: Publish, keys_max: int) -> tuple[Verdict, Record | None]:
        """See `MemoryImage.apply`."""
        verdict, record = MemoryImage.apply(self, publish, keys_max)
        if record is not None:
            value = None if record.cbor is None else cbor2.loads(record.cbor)
            now = trio.current_time()
            self.note(Committed(now, record.version, record.topic, value, record.deleted, publish.key))
        return verdict, record

    def compact(self, tombstones: int, keys: int) -> int:
        """See `MemoryImage.compact`."""
        before = self.floor
        floor = MemoryImage.compact(self, tombstones, keys)
        if floor != before:
            self.note(Forgotten(trio.current_time(), floor))
        return floor


@final
class SimDisk(MemoryDisk):
    """A disk whose host may crash: then commits that were not durable yet are gone, unless it claims durability."""

    def __init__(self, random: Random, note: Note, durability: Durability) -> None:
        super().__init__(random)
        self.durability = durability
        self.delay: Delay | None = None
        """How long each half of a store call takes, drawn anew for each; None: no time at all."""
        self.hanging = False
        """Whether calls do not come back; they go on when this ends."""
        self.moved = trio.lowlevel.ParkingLot()
        self._note = note
        self.image: MemoryImage = NotedImage(self.image.epoch, note=note)
        self._synced = self.image.copy()
        self._rows_at_replacement = -1

    def sync(self) -> None:
        """Make durable what was committed so far."""
        self._synced = self.image.copy()

    def crash(self) -> int:
        """Lose what is not durable; return how many revisions. Nothing, if the disk claims durability."""
        lost = self.image.head - self._synced.head if self.durability in LOSES_UNSYNCED else 0
        if lost:
            self._become(self._synced, "crash")
        return lost

    def restore(self, backup: MemoryImage) -> None:
        """Put a backup back, under the feet of every node."""
        self._become(backup, "restored")

    def commit(self, publish: Publish) -> int:
        """Commit a change as another node would, which reopens its store first if the history was replaced."""
        if len(self.image.rows) == self._rows_at_replacement:
            self.image.open(lineage_nonce(self.random))
        self.image.apply(publish, KEYS_MAX)
        self.ring()
        return self.image.head

    def wipe(self) -> None:
        """Begin with an empty store of another epoch."""
        self._become(NotedImage(f"{self.random.getrandbits(128):032x}", note=self._note), "wiped")

    def _become(self, image: MemoryImage, why: str) -> None:
        self.image = image.copy()
        self._synced = image.copy()
        self._rows_at_replacement = len(image.rows)
        topics = tuple(sorted((r.topic, r.version, r.deleted) for r in image.records.values()))
        rows = tuple((row.revision, row.lineage) for row in image.rows)
        self._note(HistoryReplaced(trio.current_time(), why, image.epoch, image.head, rows, topics))
        self.ring()

    def hang(self, *, on: bool) -> None:
        """Let no call come back, or let them go on."""
        self.hanging = on
        self.moved.unpark_all()


CrashPoint: TypeAlias = Callable[[str], Awaitable[None]]


@final
class SimStore(MemoryStore):
    """One node's store: `MemoryStore`, plus time, crash points around every call, and an end without a word.

    Points are named ``<call>.before`` and ``<call>.after``, for publish, read, head, feed and reopen, in addition to
    ``publish.before_commit`` and ``publish.after_commit``.
    """

    def __init__(self, disk: SimDisk, random: Random, point: CrashPoint) -> None:
        self.dead = False
        self.replies_lost = 0
        """How many of the next publishes are committed but answered as if the store had gone."""
        super().__init__(disk, durability=disk.durability, checkpoint=self._publish_point)
        self._sim = disk
        self._random = random
        self._point = point

    def _reach(self) -> None:
        if self.dead:
            raise Unavailable("this node is no more")
        super()._reach()

    async def _publish_point(self, name: str) -> None:
        await self._point(name)
        if name == "publish.after_commit" and self.replies_lost > 0:
            self.replies_lost -= 1
            raise Unavailable("the commit's answer was lost (simulated)")

    async def _half(self) -> None:
        if self._sim.delay is not None:
            await trio.sleep(self._sim.delay(self._random))
        while self._sim.hanging:
            await self._sim.moved.park()

    async def _timed(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._point(f"{name}.before")
        await self._half()
        answer = await call()
        await self._half()
        await self._point(f"{name}.after")
        return answer

    async def publish(self, group: Sequence[Publish]) -> StoreCommitted:
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

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""
        inner = super().feed
        return await self._timed("feed", lambda: inner(after, limit))

    async def reopen(self) -> Position:
        """See `Store.reopen`."""
        return await self._timed("reopen", super().reopen)
