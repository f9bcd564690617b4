from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from softstate.position import Position
from softstate.server.storage.guard import StoreGuard
from softstate.server.storage.heads import HEAD_INTERVAL_S
from softstate.server.storage.level import Level
from tests.kit.hub_rig import HubRig, at_once
from tests.server.storage.test_heads import CLOCK, renewing

START = Position("epoch", "lineage", 10)


class Rig(HubRig):
    """A level, and the clock that it reads."""

    def __init__(self) -> None:
        super().__init__(START)
        self.now = 100.0
        self.told = 0
        self.guard = StoreGuard(lambda _fault: None)
        self.level = Level(self.hub, self.guard, lambda: self.now, lambda: self.told)

    def read(self, seconds: float = 0.0) -> None:
        """Read a head, which takes so long, and which the hub has reached by then."""
        reading = self.level.begin()
        self.now += seconds
        self.level.reached(reading)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_nothing_is_known_before_the_first_read(rig: Rig) -> None:
    assert rig.level.lag_s() == math.inf


def test_its_age_counts_from_the_beginning_of_the_read(rig: Rig) -> None:
    rig.read(seconds=3.0)
    assert rig.level.lag_s() == 3.0
    rig.now += 2.0
    assert rig.level.lag_s() == 5.0
    rig.read()
    assert rig.level.lag_s() == 0.0


def test_a_slow_read_does_not_take_the_place_of_one_that_began_later(rig: Rig) -> None:
    slow = rig.level.begin()
    rig.now += 2.0
    rig.read()
    rig.now += 1.0
    rig.level.reached(slow)
    assert rig.level.lag_s() == 1.0


def test_its_age_at_an_earlier_moment_is_that_much_less_and_never_below_nothing(rig: Rig) -> None:
    earliest = rig.level.begin()
    rig.now += 1.0
    rig.read()
    rig.now += 3.0
    moment = rig.level.begin()
    rig.now += 5.0
    assert rig.level.lag_s() == 8.0
    assert rig.level.lag_s(moment) == 3.0
    assert rig.level.lag_s(earliest) == 0.0


def test_a_read_of_anything_counts_if_the_hub_is_there_already(rig: Rig) -> None:
    for head in (START.at(11), Position("epoch", "other", 9)):
        rig.level.read(rig.level.begin(), head)
        assert rig.level.lag_s() == math.inf
    rig.level.read(rig.level.begin(), START)
    assert rig.level.lag_s() == 0.0


def test_it_says_nothing_while_the_hub_is_behind_what_a_client_was_told(rig: Rig) -> None:
    rig.read()
    rig.told = 11
    assert rig.level.lag_s() == math.inf
    at_once(rig.hub.apply([], [], START.at(11)))
    assert rig.level.lag_s() == 0.0


def test_nothing_is_left_of_it_while_the_store_is_opened_again_or_after_that(rig: Rig) -> None:
    rig.read()
    rig.guard.generation = None
    assert rig.level.lag_s() == math.inf
    rig.guard.generation = 1
    assert rig.level.lag_s() == math.inf
    rig.read()
    assert rig.level.lag_s() == 0.0


def test_nothing_is_left_of_it_when_the_hub_begins_a_new_history(rig: Rig) -> None:
    rig.read()
    rig.hub.restart(START)
    assert rig.level.lag_s() == math.inf


def test_a_read_that_began_in_another_history_does_not_count(rig: Rig) -> None:
    before_restart = rig.level.begin()
    rig.hub.restart(START)
    rig.level.reached(before_restart)
    assert rig.level.lag_s() == math.inf
    before_reopening = rig.level.begin()
    rig.guard.generation = 1
    rig.level.reached(before_reopening)
    assert rig.level.lag_s() == math.inf


def test_a_read_while_no_generation_is_current_does_not_count(rig: Rig) -> None:
    rig.guard.generation = None
    rig.read()
    assert rig.level.lag_s() == math.inf


async def test_a_head_that_the_hub_reaches_late_is_as_old_as_its_read(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        level = rig.heads.level
        rig.store.open = trio.Event()
        rig.ask()
        await trio.sleep(1.0)
        assert level.lag_s() == math.inf
        rig.store.open.set()
        await trio.testing.wait_all_tasks_blocked()
        assert level.lag_s() == pytest.approx(1.0)


async def test_a_head_of_another_lineage_than_the_hub_s_makes_no_level(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        await rig.hub.apply([], [], rig.store.disk.image.position.at(99))
        await rig.store.reopen()
        rig.ask()
        await trio.sleep(HEAD_INTERVAL_S)
        assert rig.heads.level.lag_s() == math.inf
