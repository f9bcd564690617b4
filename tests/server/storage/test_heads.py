from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Overloaded, StoreFault, Unavailable
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.heads import BATCH_MAX, HEAD_INTERVAL_S, HEARD_S_MAX, HeadReads, HeadTicket
from softstate.server.storage.level import Level
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.hub_rig import HubRig

CLOCK = trio.testing.MockClock
PUBLISH = Write("a", b"\x01")
HALF_TIMEOUT_S = ServerConfig().timeout_ms / 2000


class SlowStore(MemoryStore):
    """A memory store that counts reads of its head, and can hold up their answers."""

    def __init__(self) -> None:
        super().__init__(MemoryDisk(Random(1)))
        self.heads = 0
        self.open = trio.Event()
        self.open.set()

    async def head(self) -> Position:
        self.heads += 1
        head = await super().head()
        await self.open.wait()
        return head


class Rig(HubRig):
    """Head reads from a slow store, and a log of their outcomes with the time of each."""

    def __init__(self, **options: Any) -> None:
        self.store = SlowStore()
        super().__init__(self.store.disk.image.position)
        self.faults: list[StoreFault] = []
        guard = StoreGuard(self.faults.append)
        level = Level(self.hub, guard, trio.current_time, lambda: 0)
        self.heads = HeadReads(ServerConfig(**options), self.store, self.hub, guard, self.bulkhead, level)
        self.settled: list[tuple[object, float]] = []

    def heard(self) -> bool:
        return self.heads.heard

    def lags(self) -> bool:
        return self.heads.lags

    def ask(self) -> None:
        self.heads.submit(self._settled)

    def _settled(self, ticket: HeadTicket) -> None:
        self.settled.append((ticket.outcome(), trio.current_time()))


@asynccontextmanager
async def renewing(**options: Any) -> AsyncIterator[Rig]:
    rig = Rig(**options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.heads.run)
        await trio.testing.wait_all_tasks_blocked()
        yield rig
        nursery.cancel_scope.cancel()


async def test_a_moment_s_renewals_share_one_read_of_the_head(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        begun = trio.current_time()
        for _ in range(100):
            rig.ask()
            await trio.sleep(HEAD_INTERVAL_S / 101)
        await trio.sleep(1)
        assert rig.store.heads == 2
        position = rig.hub.position
        assert rig.settled == [(position, begun), *[(position, begun + HEAD_INTERVAL_S)] * 99]


async def test_one_read_answers_no_more_than_its_limit(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        begun = trio.current_time()
        for _ in range(BATCH_MAX + 1):
            rig.ask()
        await trio.sleep(1)
        assert rig.store.heads == 2
        times = [at for _, at in rig.settled]
        assert times == [begun] * BATCH_MAX + [begun + HEAD_INTERVAL_S]


async def test_a_renewal_waits_for_the_hub_and_is_answered_at_its_position(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        head = (await rig.store.publish([PUBLISH])).position
        rig.ask()
        await trio.sleep(1)
        assert not rig.settled
        await rig.hub.apply([], [], head)
        await trio.sleep(1)
        assert [outcome for outcome, _ in rig.settled] == [head]


async def test_a_renewal_that_comes_while_a_head_is_read_gets_another(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        rig.store.open = trio.Event()
        rig.ask()
        await trio.sleep(1)
        rig.ask()
        rig.store.open.set()
        await trio.sleep(1)
        assert rig.store.heads == len(rig.settled) == 2


async def test_each_renewal_is_settled_within_half_of_a_client_s_timeout(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        rig.store.open = trio.Event()
        begun = trio.current_time()
        for _ in range(3):
            rig.ask()
            await trio.sleep(0.5)
        await trio.sleep(4)
        assert [type(outcome) for outcome, _ in rig.settled] == [Unavailable] * 3
        assert [at - begun for _, at in rig.settled] == pytest.approx([HALF_TIMEOUT_S + late for late in (0, 0.5, 1)])
        rig.store.open.set()
        await trio.sleep(1)
        rig.ask()
        await trio.sleep(1)
        assert rig.settled[-1][0] == rig.hub.position


async def test_a_head_of_a_history_that_ended_is_not_waited_for(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        backup = rig.store.disk.snapshot()
        await rig.store.publish([PUBLISH] * 9)
        rig.ask()
        await trio.sleep(1)
        rig.store.disk.restore(backup)
        now = await rig.store.reopen()
        rig.hub.restart(now)
        rig.heads.restart()
        await trio.sleep(1)
        assert [outcome for outcome, _ in rig.settled] == [now]


async def test_a_hub_behind_a_head_for_half_a_timeout_lags(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        backup = rig.store.disk.snapshot()
        head = (await rig.store.publish([PUBLISH] * 9)).position
        rig.ask()
        await trio.sleep(HALF_TIMEOUT_S - 0.1)
        assert not rig.lags()
        await trio.sleep(0.2)
        assert rig.lags()
        await rig.hub.apply([], [], head)
        assert not rig.lags()
        rig.store.disk.restore(backup)
        rig.heads.restart()
        rig.hub.restart(await rig.store.reopen())
        await trio.sleep(HALF_TIMEOUT_S)
        assert not rig.lags()  # the head was one of a history that is over


async def test_a_hub_of_the_history_before_is_not_level_whatever_its_revision(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        backup = rig.store.disk.snapshot()
        await rig.hub.apply([], [], (await rig.store.publish([PUBLISH] * 9)).position)
        rig.store.disk.restore(backup)
        now = await rig.store.reopen()
        rig.ask()
        await trio.sleep(HEAD_INTERVAL_S * 9.5)
        assert rig.store.heads == 10
        assert not rig.settled
        rig.hub.restart(now)
        rig.heads.restart()
        await trio.sleep(1)
        assert [outcome for outcome, _ in rig.settled] == [now]


async def test_a_fault_while_the_head_is_read_is_reported_and_answered_unavailable(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        backup = rig.store.disk.snapshot()
        await rig.store.publish([PUBLISH])
        rig.store.disk.restore(backup)
        rig.ask()
        await trio.sleep(1)
        assert [type(outcome) for outcome, _ in rig.settled] == [Unavailable]
        assert len(rig.faults) == 1


async def test_a_request_beyond_the_limit_is_refused() -> None:
    async with renewing(sessions_max=2) as rig:
        rig.ask()
        rig.ask()
        with pytest.raises(Overloaded):
            rig.ask()


# Before answers under credentials ------------------------------------------------------------------------------------


async def test_what_was_heard_of_a_moment_ago_is_not_waited_for(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        assert not rig.heard()
        await rig.heads.hear()
        assert rig.heard()
        reads = rig.store.heads
        told: list[object] = []
        rig.heads.when_heard(told.append, lambda: told.append("broken"))
        assert told == [None]
        await trio.sleep(HEARD_S_MAX)
        await rig.heads.hear()
        assert rig.store.heads == reads
        await trio.sleep(0.01)
        assert not rig.heard()
        rig.heads.when_heard(told.append, lambda: told.append("broken"))
        assert told == [None]
        await trio.sleep(HEAD_INTERVAL_S)
        assert told == [None, None]
        assert rig.store.heads == reads + 1
    assert autojump_clock.rate == 0


async def test_a_hub_that_hears_nothing_is_waited_for_half_a_timeout(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        await rig.store.publish([PUBLISH])
        begun = trio.current_time()
        with pytest.raises(Unavailable, match="the feed of this node lags"):
            await rig.heads.hear()
        assert trio.current_time() - begun == pytest.approx(HALF_TIMEOUT_S)
        await rig.hub.apply([], [], await rig.store.head())
        await rig.heads.hear()
        assert rig.heard()
    assert autojump_clock.rate == 0


async def test_an_answer_is_refused_while_too_many_wait(autojump_clock: CLOCK) -> None:
    async with renewing(sessions_max=1) as rig:
        rig.store.open = trio.Event()
        rig.ask()
        with pytest.raises(Overloaded):
            await rig.heads.hear()
    assert autojump_clock.rate == 0
