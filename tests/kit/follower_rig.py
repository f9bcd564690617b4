"""The rig of a follower: a store whose calls fail as a test wants, a hub, and another node on the same disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing

from softstate.model import PAGE_RECORDS_MAX
from softstate.position import Position
from softstate.server.storage.damage import Damage
from softstate.server.storage.follower import StoreFollower
from softstate.store.base import Feed, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.hub_rig import HubRig, Log

settled = trio.testing.wait_all_tasks_blocked


class FaultyStore(MemoryStore):
    """A memory store whose calls raise what a test puts on their list, and whose `feed` can be made slow."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.faults: dict[str, list[Exception]] = {name: [] for name in ("feed", "reopen", "lineage_at", "head")}
        self.calls: list[str] = []
        self.waits = 0
        self.asleep = False
        self.before_feed: Callable[[], None] = lambda: None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.faults[name]:
            raise self.faults[name].pop(0)

    async def wait(self, after: int) -> None:
        self.waits += 1
        if self.asleep:
            await trio.sleep_forever()
        await super().wait(after)

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        self._call("feed")
        self.before_feed()
        return await super().feed(after, limit)

    async def reopen(self) -> Position:
        self._call("reopen")
        return await super().reopen()

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        self._call("lineage_at")
        return await super().lineage_at(revisions)

    async def head(self) -> Position:
        self._call("head")
        return await super().head()


class RowLog(Log):
    """Logs a lineage row without its name, which is random here."""

    def moved(self, position: Position) -> None:
        self.append(f"row@{position.revision}")


class Rig(HubRig):
    """A follower between a store and a hub with one subscriber to everything, and another node on the same disk."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.store = FaultyStore(self.disk)
        self.other = MemoryStore(self.disk)
        super().__init__(self.disk.image.position)
        self.log, _ = self.lease("/", log=RowLog())
        self.follower = StoreFollower(
            self.store,
            self.hub,
            self.bulkhead,
            Damage(),
            rewound=self._rewound,
            skipped=lambda: self.log.append("skipped"),
        )

    async def _rewound(self, position: Position) -> None:
        """Take a turn for it, in which no session is told anything of the new history."""
        old = self.hub.position
        await trio.lowlevel.checkpoint()
        assert (self.hub.position, self.follower.guard.generation) == (old, None)
        self.log.append(f"rewound to {position.revision}")

    async def publish(self, *topics: str) -> None:
        await self.other.publish([Write(topic, b"\x01") for topic in topics])
        await settled()

    @property
    def current(self) -> bool:
        return self.hub.position == self.disk.image.position and not self.follower.down


@asynccontextmanager
async def following() -> AsyncIterator[Rig]:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.follower.follow)
        await settled()
        yield rig
        nursery.cancel_scope.cancel()
