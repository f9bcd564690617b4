"""Upkeep: what is forgotten, and which history its age belongs to."""

from __future__ import annotations

from random import Random

import pytest
import structlog.testing
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.housekeeping import HOUSEKEEPING_S, Housekeeping
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.hub_rig import HubRig, at_once

CONFIG = ServerConfig(key_ms=60_000, tombstone_s=120)


class Rig(HubRig):
    """Upkeep of a store that notes what it is asked to forget."""

    def __init__(self) -> None:
        self.store = MemoryStore(MemoryDisk(Random(1)))
        super().__init__(self.store.disk.image.position)
        self.guard = StoreGuard(lambda _fault: None)
        self.asked: list[tuple[int, int]] = []
        self.fault: Exception | None = None
        self.held: trio.Event | None = None
        self.store.compact = self._compact  # type: ignore[method-assign]
        self.upkeep = Housekeeping(CONFIG, self.store, self.hub, self.guard, trio.current_time, self.bulkhead)

    async def _compact(self, *, tombstones: int, keys: int) -> int:
        if self.held is not None:
            await self.held.wait()
        if self.fault is not None:
            raise self.fault
        self.asked.append((tombstones, keys))
        return 0

    def at(self, revision: int) -> None:
        """Move the hub."""
        at_once(self.hub.apply([], [], self.hub.position.at(revision)))


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    rig = Rig()
    nursery.start_soon(rig.upkeep.run)
    await trio.testing.wait_all_tasks_blocked()
    return rig


async def test_revisions_are_forgotten_once_they_are_old_enough(
    rig: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    rig.at(50)
    await trio.sleep(HOUSEKEEPING_S + 61)
    assert rig.asked[-1] == (0, 50)
    await trio.sleep(60)
    assert rig.asked[-1] == (50, 50)


async def test_ages_begin_anew_with_a_new_history(rig: Rig, autojump_clock: trio.testing.MockClock) -> None:
    rig.at(50)
    await trio.sleep(90)
    assert rig.asked[-1][1] == 50
    rig.hub.restart(Position("epoch", "restored", 12))
    rig.at(100)
    await trio.sleep(HOUSEKEEPING_S + 1)
    assert rig.asked[-1] == (0, 0)
    await trio.sleep(60)
    assert rig.asked[-1] == (0, 100)


async def test_nothing_is_forgotten_while_the_store_is_reopened(
    rig: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    rig.at(50)
    rig.guard.generation = None
    before = len(rig.asked)
    await trio.sleep(90)
    assert len(rig.asked) == before
    rig.guard.generation = 1
    await trio.sleep(HOUSEKEEPING_S + 1)
    assert len(rig.asked) > before


async def test_a_compaction_under_way_ends_when_the_store_is_reopened(
    rig: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    rig.at(50)
    before = len(rig.asked)
    rig.held = trio.Event()
    await trio.sleep(HOUSEKEEPING_S + 1)
    rig.upkeep.interrupt()
    await trio.testing.wait_all_tasks_blocked()
    rig.held.set()
    await trio.sleep(1)
    assert len(rig.asked) == before
    await trio.sleep(HOUSEKEEPING_S)
    assert len(rig.asked) == before + 1


async def test_a_spell_in_which_nothing_can_be_forgotten_is_two_lines(
    rig: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    with structlog.testing.capture_logs() as logs:
        rig.fault = Unavailable("no space left on device")
        await trio.sleep(5 * HOUSEKEEPING_S)
        rig.fault = None
        await trio.sleep(2 * HOUSEKEEPING_S)
    lines = [(line["event"], line.get("because")) for line in logs if "durability" not in line]
    assert lines == [("compaction is postponed", "no space left on device"), ("the store is compacted again", None)]
