"""A store in memory: for tests and the simulator. Runs inline, starts no thread, and does the same for the same seed.

Durable state lives in a `MemoryDisk`, which outlives the stores opened on it. Several stores on one disk are several
nodes on one database; a crash is to drop a `MemoryStore` and open another on its disk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import TypeAlias

import trio

from softstate.errors import Rewound, StoreRewound, Unavailable
from softstate.model import PAGE_RECORDS_MAX, Durability, Page, Query
from softstate.position import Position
from softstate.store.base import KEYS_MAX, LAYOUT, PUBLISHERS_MAX, Committed, Dump, Feed, Store, StoreInfo, Write
from softstate.store.memory.image import MemoryImage
from softstate.store.rules.dump import check_joined, published_to
from softstate.store.rules.history import check_seen
from softstate.store.rules.nonce import SYSTEM, epoch_nonce, lineage_nonce
from softstate.store.rules.paging import answer_group, feed_page

__all__ = ["Checkpoint", "MemoryDisk", "MemoryImage", "MemoryStore"]

Checkpoint: TypeAlias = Callable[[str], Awaitable[None]]
"""Awaited at each crash point, with its name: ``publish.before_commit``, ``publish.after_commit``."""


class MemoryDisk:
    """The part that survives when every node dies: the image, fault switches, the event that wakes waiting nodes."""

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
        """Put a backup back while nodes run."""
        self.image = backup.copy()
        self.ring()


class MemoryStore(Store):
    """One node's store on a `MemoryDisk`. Opening it commits a lineage row; raises `Unavailable` during an outage.

    `outage` cuts this node alone off its disk. `durability` is what it claims, for tests of its callers.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        keys_max: int = KEYS_MAX,
        publishers_max: int = PUBLISHERS_MAX,
        durability: Durability = Durability.NONE,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.name = "memory:"
        self.durability = durability
        if durability is Durability.NONE:
            self.warnings = (
                "what memory: holds ends with this process: name a file, as in --store sqlite:softstate.db",
            )
        self.keys_max = keys_max
        self.publishers_max = publishers_max
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

    def gauges(self) -> Mapping[str, int]:
        """See `Store.gauges`: what is remembered of requests."""
        return {"store_keys": len(self.disk.image.keys), "store_publishers": len(self.disk.image.publishers)}

    async def publish(self, group: Sequence[Write]) -> Committed:
        """See `Store.publish`. `Unavailable` after the commit when an outage began at ``publish.after_commit``."""
        await trio.lowlevel.checkpoint()
        await self._pass("publish.before_commit")
        image = self._image()
        before = image.head
        outcomes = [image.apply(publish, self.keys_max, self.publishers_max) for publish in group]
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
        return answer_group(group, self._image())

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
        return StoreInfo(len(image.records) - tombstones, tombstones, len(image.keys), 0, len(image.publishers), LAYOUT)

    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        """See `Store.dump`."""
        await trio.lowlevel.checkpoint()
        return self._image().dump(after, limit)

    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        """See `Store.adopt`. The copy is made aside, and takes the image's place at once."""
        await trio.lowlevel.checkpoint()
        self._check_may_replace(replace=replace)
        copy, last = self.disk.image.blank(""), None
        async for page in pages:
            check_joined(last, page)
            if not page.after:
                copy = copy.blank(page.position.epoch)
            copy.take(page)
            last = page
        check_joined(last, None)
        self._check_may_replace(replace=replace)
        self.disk.restore(copy)
        self._seen = self._open()
        return self._seen

    def _check_may_replace(self, *, replace: bool) -> None:
        if self._image().published and not replace:
            raise published_to(self.name)

    async def destroy(self) -> None:
        """See `Store.destroy`. The disk is as good as new; other stores on it find themselves rewound."""
        await trio.lowlevel.checkpoint()
        self._reach()
        self.disk.restore(self.disk.image.blank(epoch_nonce(self.disk.random)))
        await self.aclose()

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._closed = True
        self.disk.ring()
        await trio.lowlevel.checkpoint()
