"""A store in memory: for tests and the simulator. Runs inline, starts no thread, and does the same for the same seed.

What is durable lives in a `MemoryDisk`, which outlives the stores opened on it. Several stores on one disk are several
nodes on one database; a crash is to drop a `MemoryStore` and open another on its disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from random import Random
from typing import TypeAlias

import trio

from softstate.errors import Rewound, StoreRewound, Unavailable
from softstate.model import PAGE_RECORDS_MAX, Durability, Page, Position, Query, Record, covers
from softstate.store.base import KEYS_MAX, Applied, Committed, Feed, Publish, Store, StoreInfo, Verdict
from softstate.store.nonce import SYSTEM, epoch_nonce, lineage_nonce
from softstate.store.snapshot import answer, check_seen, feed_page, on_history
from softstate.store.verdict import Standing, judge

Checkpoint: TypeAlias = Callable[[str], Awaitable[None]]
"""Awaited at each crash point, with its name: ``publish.before_commit``, ``publish.after_commit``."""


@dataclass(slots=True)
class MemoryImage:
    """Everything a disk holds. It is its own `Snapshot`, as long as nobody changes it meanwhile."""

    epoch: str
    head: int = 0
    floor: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    """By version, and in version order, since a changed record goes to the end."""
    latest: dict[str, int] = field(default_factory=dict)
    rows: list[Position] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)

    @property
    def position(self) -> Position:
        """The newest commit; of no lineage at all on a disk that no store was opened on yet."""
        return self.rows[-1].at(self.head) if self.rows else Position(self.epoch, "", self.head)

    def copy(self) -> MemoryImage:
        """Return an image that later changes to this one do not reach."""
        return replace(
            self, records=self.records.copy(), latest=self.latest.copy(), rows=self.rows.copy(), keys=self.keys.copy()
        )

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage in force at `revision`; None above the head or before the first row."""
        if revision > self.head:
            return None
        return next((row.lineage for row in reversed(self.rows) if row.revision <= revision), None)

    def lineages(self, after: int, upto: int) -> Sequence[Position]:
        """List the lineage rows above `after` and at or below `upto`."""
        return [row for row in self.rows if after < row.revision <= upto]

    def versions(self, topics: Collection[str]) -> Mapping[str, int]:
        """Return the version of each of `topics` that has a record."""
        return {topic: self.latest[topic] for topic in topics if topic in self.latest}

    def load(self, versions: Sequence[int]) -> Iterator[Record]:
        """Yield the records that have these versions."""
        return map(self.records.__getitem__, versions)

    def scan(self, prefix: str, after: int, *, tombstones: bool) -> Iterator[Record]:
        """Yield the records under `prefix` above `after`, in version order."""
        newest_first = takewhile(lambda record: record.version > after, reversed(self.records.values()))
        for record in reversed(list(newest_first)):
            if covers(prefix, record.topic) and (tombstones or not record.deleted):
                yield record

    def open(self, nonce: str) -> Position:
        """Commit a lineage row."""
        self.head += 1
        self.rows.append(Position(self.epoch, nonce, self.head))
        return self.position

    def apply(self, publish: Publish, keys_max: int) -> tuple[Verdict, Record | None]:
        """Apply one publish, unless its verdict forbids it."""
        version = self.latest.get(publish.topic, 0)
        standing = Standing(
            version=version,
            live=version > 0 and not self.records[version].deleted,
            used=None if publish.key is None else self.keys.get((publish.topic, publish.key)),
            witnessed=publish.witness is None or on_history(publish.witness, self),
            keys_full=len(self.keys) >= keys_max,
        )
        verdict = judge(publish, standing)
        if verdict is not None:
            return verdict, None
        self.head += 1
        record = Record(publish.topic, self.head, publish.cbor)
        self.records.pop(version, None)
        self.records[self.head] = record
        self.latest[publish.topic] = self.head
        if publish.key is not None:
            self.keys[publish.topic, publish.key] = (publish.digest, self.head)
        return Applied(self.head), record

    def compact(self, tombstones: int, keys: int) -> int:
        """Forget tombstones and keys up to the revisions given; return the floor."""
        for record in [r for r in self.records.values() if r.deleted and r.version <= tombstones]:
            del self.records[record.version]
            del self.latest[record.topic]
            self.floor = record.version
        for name in [name for name, (_, version) in self.keys.items() if version <= keys]:
            del self.keys[name]
        return self.floor


class MemoryDisk:
    """What survives when every node dies: the image, the switches for faults, and the bell that wakes waiting nodes."""

    def __init__(self, random: Random = SYSTEM) -> None:
        self.random = random
        self.image = MemoryImage(epoch_nonce(random))
        self.bell = trio.Event()
        self._outage = False

    @property
    def outage(self) -> bool:
        """Whether no store can reach this disk: every call raises `Unavailable`, and waiting goes on."""
        return self._outage

    @outage.setter
    def outage(self, on: bool) -> None:
        self._outage = on
        self.ring()

    def ring(self) -> None:
        """Wake every node that waits for a commit."""
        self.bell.set()
        self.bell = trio.Event()

    def snapshot(self) -> MemoryImage:
        """Take a backup."""
        return self.image.copy()

    def restore(self, backup: MemoryImage) -> None:
        """Put a backup back, under the feet of every node."""
        self.image = backup.copy()
        self.ring()


class MemoryStore(Store):
    """One node's store on a `MemoryDisk`. Opening it commits a lineage row; raises `Unavailable` during an outage.

    `outage` cuts this node alone off its disk. `durability` is what it claims, for tests of those who ask.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        keys_max: int = KEYS_MAX,
        durability: Durability = Durability.NONE,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.name = "memory:"
        self.durability = durability
        self.keys_max = keys_max
        self.disk = disk if disk is not None else MemoryDisk()
        self._checkpoint = checkpoint
        self._outage = False
        self._closed = False
        self._seen = self._open()

    @property
    def outage(self) -> bool:
        """Whether this node cannot reach its disk, while others may."""
        return self._outage

    @outage.setter
    def outage(self, on: bool) -> None:
        self._outage = on
        self.disk.ring()

    def _open(self) -> Position:
        self._reach()
        position = self.disk.image.open(lineage_nonce(self.disk.random))
        self.disk.ring()
        return position

    def _reach(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this store was closed")
        if self._outage or self.disk.outage:
            raise Unavailable("the memory store is switched off (outage)")

    def _image(self) -> MemoryImage:
        """Return the image, for use before the next await only. Raises what every method raises."""
        self._reach()
        image = self.disk.image
        check_seen(self._seen, image)
        self._seen = image.position
        return image

    async def _pass(self, checkpoint: str) -> None:
        if self._checkpoint is not None:
            await self._checkpoint(checkpoint)

    async def publish(self, group: Sequence[Publish]) -> Committed:
        """See `Store.publish`. `Unavailable` after the commit when an outage began at ``publish.after_commit``."""
        await trio.lowlevel.checkpoint()
        await self._pass("publish.before_commit")
        image = self._image()
        before = image.head
        outcomes = [image.apply(publish, self.keys_max) for publish in group]
        verdicts = [verdict for verdict, _ in outcomes]
        records = [record for _, record in outcomes if record is not None]
        position = self._seen = image.position
        if records:
            self.disk.ring()
        await self._pass("publish.after_commit")
        self._reach()
        return Committed(verdicts, before, records, position)

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """See `Store.read`."""
        await trio.lowlevel.checkpoint()
        image = self._image()
        return [answer(query, image) for query in group]

    async def head(self) -> Position:
        """See `Store.head`."""
        await trio.lowlevel.checkpoint()
        return self._image().position

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """See `Store.lineage_at`."""
        await trio.lowlevel.checkpoint()
        return list(map(self._image().lineage_at, revisions))

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""
        await trio.lowlevel.checkpoint()
        return feed_page(after, limit, self._image())

    async def wait(self, after: int) -> None:
        """See `Store.wait`. Returns when an outage begins; called during one, waits for its end."""
        await trio.lowlevel.checkpoint()
        bell = self.disk.bell
        try:
            quiet = self._image().head <= after
        except Unavailable:
            quiet = True
        except StoreRewound:
            quiet = False
        if quiet:
            await bell.wait()

    async def compact(self, *, tombstones: int, keys: int) -> int:
        """See `Store.compact`."""
        await trio.lowlevel.checkpoint()
        return self._image().compact(tombstones, keys)

    async def reopen(self) -> Position:
        """See `Store.reopen`."""
        await trio.lowlevel.checkpoint()
        self._seen = self._open()
        return self._seen

    async def info(self) -> StoreInfo:
        """See `Store.info`."""
        await trio.lowlevel.checkpoint()
        image = self._image()
        tombstones = sum(record.deleted for record in image.records.values())
        return StoreInfo(len(image.records) - tombstones, tombstones, len(image.keys), 0)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._closed = True
        self.disk.ring()
        await trio.lowlevel.checkpoint()
