"""Polls that this node answers as unchanged without its store, and those that it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from softstate.model import Page, Query, Record
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.storage.damage import Damage
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.heads import HEAD_INTERVAL_S, HeadReads
from softstate.server.storage.level import LEVEL_S_MAX, Level
from softstate.server.storage.unchanged import UnchangedPolls
from tests.kit.hub_rig import HubRig, record
from tests.server.storage.test_heads import CLOCK, PUBLISH, SlowStore

POLL = Query({"a": 0})


def mocked_time() -> float:
    """Return the time of the test's clock. Of Trio's own function a level asks a clock of the system besides."""
    return trio.current_time()


class Rig(HubRig):
    """Polls of a node with a slow store."""

    def __init__(self) -> None:
        self.store = SlowStore()
        super().__init__(self.store.disk.image.position, known_topics_max=10)
        self.told = 0
        self.guard = StoreGuard(lambda _fault: None)
        level = Level(self.hub, self.guard, mocked_time, lambda: self.told)
        self.heads = HeadReads(ServerConfig(), self.store, self.hub, self.guard, self.bulkhead, level)
        self.damage = Damage()
        self.polls = UnchangedPolls(self.hub, self.heads, self.damage)

    @property
    def position(self) -> Position:
        return self.hub.position

    async def poll(self, query: Query) -> None:
        """Have the store answer a poll."""
        reading = self.polls.begin()
        (page,) = await self.store.read([query])
        assert isinstance(page, Page)
        self.polls.learn(query, page, reading)
        self.heads.level.read(reading, page.position)


@asynccontextmanager
async def polled() -> AsyncIterator[Rig]:
    """Make a node that the store has answered `POLL` to, a tenth of a second ago."""
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.heads.run)
        await trio.testing.wait_all_tasks_blocked()
        await rig.poll(POLL)
        await trio.sleep(0.1)
        yield rig
        nursery.cancel_scope.cancel()


async def test_a_poll_that_misses_nothing_is_answered_at_the_hub_s_position_with_its_age(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        page = rig.polls.answer(POLL)
        assert page is not None
        assert (page.position, page.records, page.more, page.compacted) == (rig.position, (), False, ())
        assert page.lag_s == pytest.approx(0.1)
        assert rig.polls.answered == 1
        assert rig.store.heads == 0


async def test_another_version_or_topic_is_for_the_store(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        assert rig.polls.answer(Query({"a": 1})) is None
        assert rig.polls.answer(Query({"a": 0, "b": 0})) is None
        assert rig.polls.answer(Query()) is None
        assert rig.polls.answer(Query({"a": 0}, after=1)) is None


async def test_a_change_is_known_as_soon_as_it_passes(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        version = rig.position.revision + 1
        await rig.hub.apply([record("a", version)], [], rig.position.at(version))
        assert rig.polls.answer(POLL) is None
        page = rig.polls.answer(Query({"a": version}))
        assert page is not None
        assert page.position.revision == version


async def test_an_asker_that_has_seen_more_or_other_is_for_the_store(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        at = rig.position
        assert rig.polls.answer(Query({"a": 0}, witness=at)) is not None
        assert rig.polls.answer(Query({"a": 0}, witness=at.at(at.revision + 1))) is None
        assert rig.polls.answer(Query({"a": 0}, witness=Position(at.epoch, "other", at.revision))) is None
        assert rig.polls.answer(Query({"a": 0}, witness=Position("other", at.lineage, at.revision))) is None
        assert rig.polls.answer(POLL, at.revision) is not None
        assert rig.polls.answer(POLL, at.revision + 1) is None
        rig.told = at.revision + 1
        assert rig.polls.answer(POLL) is None


async def test_while_damage_is_known_polls_are_for_the_store_which_names_it(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        rig.damage.met([Record("z", 1, None, unreadable=True)])
        assert rig.polls.answer(POLL) is None


async def test_nothing_is_answered_from_a_history_that_is_over(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        rig.guard.generation = None
        assert rig.polls.answer(POLL) is None
        rig.guard.generation = 1
        assert rig.polls.answer(POLL) is None
        await rig.poll(POLL)
        assert rig.polls.answer(POLL) is not None
        rig.hub.restart(rig.position)
        assert rig.polls.answer(POLL) is None


async def test_an_answer_of_a_history_that_ended_meanwhile_teaches_nothing(autojump_clock: CLOCK) -> None:
    """Also if the new one has the same lineage so far, since the store could not write another."""
    async with polled() as rig:
        page = Page(rig.position, 0)
        reading = rig.polls.begin()
        rig.hub.restart(rig.position)
        rig.polls.learn(POLL, page, reading)
        assert len(rig.hub.known) == 0
        rig.polls.learn(POLL, Page(Position(rig.position.epoch, "other", 1), 0), rig.polls.begin())
        assert len(rig.hub.known) == 0
        rig.polls.learn(POLL, page, rig.polls.begin())
        assert len(rig.hub.known) == 1


async def test_polls_keep_the_level_young_by_one_head_read_for_all(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        for _ in range(100):
            page = rig.polls.answer(POLL)
            assert page is not None
            assert page.lag_s <= LEVEL_S_MAX / 2 + 2 * HEAD_INTERVAL_S
            await trio.sleep(0.01)
        assert 6 <= rig.store.heads <= 8
        assert rig.polls.answered == 100


async def test_a_poll_long_after_the_last_is_for_the_store(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        await trio.sleep(LEVEL_S_MAX)
        assert rig.polls.answer(POLL) is None
        assert rig.store.heads == 0


async def test_a_poll_long_after_the_last_may_be_confirmed_by_the_head_alone(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        await trio.sleep(10.0)
        page = await rig.polls.confirm(POLL)
        assert page == Page(rig.position, 0)
        assert rig.store.heads == 1
        assert await rig.polls.confirm(Query({"a": 1})) is None
        assert rig.store.heads == 1, "there is nothing to confirm"


async def test_a_change_that_the_read_of_the_head_brings_is_for_the_store_to_tell(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        await trio.sleep(10.0)
        committed = await rig.store.publish([PUBLISH])
        answers: list[Page | None] = []

        async def ask() -> None:
            answers.append(await rig.polls.confirm(POLL))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.1)
            assert answers == []
            await rig.hub.apply(committed.records, [], committed.position)
        assert answers == [None]


async def test_a_head_that_cannot_be_read_confirms_nothing(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        await trio.sleep(10.0)
        rig.store.outage = True
        assert await rig.polls.confirm(POLL) is None
        rig.store.outage = False
        rig.store.open = trio.Event()
        began = trio.current_time()
        assert await rig.polls.confirm(POLL) is None
        assert trio.current_time() - began == pytest.approx(ServerConfig().timeout_ms / 2000)


async def test_while_the_store_is_slow_polls_are_answered_with_growing_ages_for_half_of_a_timeout(
    autojump_clock: CLOCK,
) -> None:
    async with polled() as rig:
        rig.store.open = trio.Event()
        ages: list[float] = []
        for _ in range(40):
            if (page := rig.polls.answer(POLL)) is not None:
                ages.append(page.lag_s)
            await trio.sleep(0.1)
        assert ages == sorted(ages)
        assert ages[-1] == pytest.approx(ServerConfig().timeout_ms / 2000, abs=0.11)
        assert len(ages) > 20
        assert rig.store.heads == 1
        rig.store.open.set()
        await trio.sleep(HEAD_INTERVAL_S)
        await rig.poll(POLL)
        assert rig.polls.answer(POLL) is not None


async def test_while_the_hub_lags_a_store_that_answers_polls_are_for_the_store(autojump_clock: CLOCK) -> None:
    async with polled() as rig:
        position = (await rig.store.publish([PUBLISH])).position
        await trio.sleep(0.05)
        stale = rig.polls.answer(POLL)
        assert stale is not None
        assert stale.position.revision < position.revision
        assert stale.lag_s == pytest.approx(0.15)
        await trio.sleep(1.0)
        assert rig.polls.answer(POLL) is None
        await rig.hub.apply([], [], position)
        assert rig.polls.answer(POLL) is None, "the read of that head began too long ago"
        await trio.sleep(HEAD_INTERVAL_S)
        await rig.poll(Query({"a": position.revision}))
        assert rig.polls.answer(Query({"a": position.revision})) is not None
