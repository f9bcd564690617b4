import math
import random

import pytest

from softstate.lease.timer_wheel import LOOK_AHEAD_TICKS, VISITS_MAX, Wheel

TICK_S = 0.25
SLOTS = 8
REVOLUTION_S = TICK_S * SLOTS
LOOK_AHEAD_S = LOOK_AHEAD_TICKS * TICK_S


class Deadlines(dict[str, float]):
    """The deadline of each item, -inf once it is gone, and how often each was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.visits: dict[str, int] = {}

    def of(self, item: str) -> float:
        self.visits[item] = self.visits.get(item, 0) + 1
        return self[item]


def wheel_with(deadlines: Deadlines, now: float = 100.0, **items: float) -> Wheel[str]:
    wheel: Wheel[str] = Wheel(now, TICK_S, SLOTS)
    for item, deadline in items.items():
        deadlines[item] = deadline
        wheel.add(item, deadline)
    return wheel


def test_an_item_is_due_at_its_deadline_and_not_before() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=101.0)
    assert wheel.advance(100.75, deadlines.of) == []
    assert deadlines.visits == {}
    assert wheel.advance(101.0, deadlines.of) == ["a"]
    assert wheel.advance(110.0, deadlines.of) == []
    assert len(wheel) == 0


def test_a_deadline_between_two_ticks_is_due_at_the_second() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=100.625)
    assert wheel.advance(100.7, deadlines.of) == []
    assert wheel.advance(100.75, deadlines.of) == ["a"]


def test_a_deadline_that_is_over_is_due_at_the_next_tick() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=99.0, b=100.0)
    assert wheel.advance(100.125, deadlines.of) == []
    assert wheel.advance(100.25, deadlines.of) == ["a", "b"]


def test_due_items_come_in_the_order_of_their_slots() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, d=101.5, b=100.5, c=101.0, a=100.25, e=101.5)
    assert wheel.advance(101.5, deadlines.of) == ["a", "b", "c", "d", "e"]


def test_a_deadline_many_revolutions_ahead_is_visited_once_a_revolution() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=100.25 + 3 * REVOLUTION_S)
    now = 100.0
    while now < 100.0 + 3 * REVOLUTION_S:
        now += TICK_S / 2
        assert wheel.advance(now, deadlines.of) == []
    assert deadlines.visits == {"a": 3}
    assert wheel.advance(now + TICK_S, deadlines.of) == ["a"]


def test_a_renewed_item_is_filed_again_and_a_gone_one_is_due() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, renewed=101.0, gone=101.0, due=101.0)
    deadlines["renewed"] = 101.5
    deadlines["gone"] = -math.inf
    assert wheel.advance(101.0, deadlines.of) == ["gone", "due"]
    assert len(wheel) == 1
    assert wheel.advance(101.5, deadlines.of) == ["renewed"]
    assert deadlines.visits == {"renewed": 2, "gone": 1, "due": 1}
    assert len(wheel) == 0


@pytest.mark.parametrize("revolutions", [1, 2, 1_000_000])
def test_after_a_jump_each_item_is_visited_once_and_none_is_lost(revolutions: int) -> None:
    deadlines = Deadlines()
    items = {f"item{n}": 100.0 + n * TICK_S for n in range(3 * SLOTS)}
    wheel = wheel_with(deadlines, **items)
    now = 100.0 + revolutions * REVOLUTION_S + TICK_S
    due = wheel.advance(now, deadlines.of)
    assert set(deadlines.visits) == set(items)
    assert set(deadlines.visits.values()) == {1}
    assert sorted(due) == sorted(item for item, deadline in items.items() if deadline <= now)
    assert sorted(due + wheel.advance(now + 4 * REVOLUTION_S, deadlines.of)) == sorted(items)


def test_at_the_limit_the_rest_waits_its_turn() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=100.25, b=100.25, c=100.5, d=100.5, e=100.5)
    assert wheel.advance(100.5, deadlines.of, limit=2) == ["a", "b"]
    assert wheel.next_tick_s(100.5) == 0.0
    deadlines["f"] = 100.75
    wheel.add("f", 100.75)
    assert wheel.advance(100.5, deadlines.of, limit=2) == ["c", "d"]
    assert wheel.advance(100.75, deadlines.of, limit=2) == ["e", "f"]
    assert wheel.next_tick_s(100.75) == LOOK_AHEAD_S
    assert deadlines.visits == dict.fromkeys("abcdef", 1)


def test_an_item_waiting_its_turn_may_be_renewed_or_go() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=100.25, b=100.25, c=100.25)
    assert wheel.advance(100.25, deadlines.of, limit=1) == ["a"]
    deadlines["b"] = 100.5
    deadlines["c"] = -math.inf
    assert wheel.advance(100.25, deadlines.of, limit=2) == ["c"]
    assert len(wheel) == 1
    assert wheel.advance(100.5, deadlines.of, limit=1) == ["b"]


def test_by_default_the_limit_is_visits_max() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, **{f"item{n}": 100.25 for n in range(VISITS_MAX + 1)})
    assert len(wheel.advance(100.25, deadlines.of)) == VISITS_MAX
    assert len(wheel.advance(100.25, deadlines.of)) == 1


def test_the_hint_leads_to_the_next_slot_that_is_not_empty() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines)
    assert wheel.next_tick_s(100.0) == LOOK_AHEAD_S
    wheel = wheel_with(deadlines, a=100.75)
    assert wheel.next_tick_s(100.0) == 3 * TICK_S
    assert wheel.advance(100.75, deadlines.of) == ["a"]


def test_what_is_added_while_the_caller_sleeps_is_found_in_time_if_it_has_as_long_to_go() -> None:
    deadlines, deadline = Deadlines(), 100.125 + LOOK_AHEAD_S
    wheel = wheel_with(deadlines)
    wakes = 100.0 + wheel.next_tick_s(100.0)
    deadlines["a"] = deadline
    wheel.add("a", deadline)
    assert wheel.advance(wakes, deadlines.of) == []
    assert wheel.advance(wakes + wheel.next_tick_s(wakes), deadlines.of) == ["a"]
    assert wakes + TICK_S >= deadline


def test_the_hint_leads_to_the_next_tick() -> None:
    wheel = wheel_with(Deadlines(), a=100.25)
    assert wheel.next_tick_s(100.0) == TICK_S
    assert wheel.next_tick_s(100.125) == TICK_S / 2
    assert wheel.next_tick_s(100.25) == 0.0
    assert wheel.next_tick_s(200.0) == 0.0


def test_just_before_a_tick_the_hint_still_leads_past_it() -> None:
    wheel = wheel_with(Deadlines())
    now = 100.25 - 1e-12
    assert now + wheel.next_tick_s(now) > 100.25


def test_where_rounding_puts_now_between_two_ticks_the_hint_is_above_zero() -> None:
    # 48.969352 + 481 is 529.969352, but 529.969352 - 48.969352 is less than 481. Found by the simulator.
    wheel: Wheel[str] = Wheel(48.969352)
    wheel.advance(529.969352, Deadlines().of)
    assert wheel.next_tick_s(529.969352) > 0


def test_a_clock_that_stands_still_or_goes_back_visits_nothing() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=101.0)
    wheel.advance(100.75, deadlines.of)
    assert wheel.advance(100.75, deadlines.of) == []
    assert wheel.advance(50.0, deadlines.of) == []
    assert wheel.next_tick_s(100.75) == TICK_S
    assert deadlines.visits == {}
    assert wheel.advance(101.0, deadlines.of) == ["a"]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_list_of_deadlines(seed: int) -> None:
    random_ = random.Random(seed)
    deadlines = Deadlines()
    wheel = wheel_with(deadlines)
    held: dict[str, float] = {}
    now = 100.0
    for step in range(300):
        item = f"item{step}"
        held[item] = deadlines[item] = now + random_.randrange(200) / 16
        wheel.add(item, held[item])
        renewed = random_.choice(list(held))
        held[renewed] = deadlines[renewed] = max(held[renewed], now + random_.randrange(200) / 16)
        now += random_.choice([0, 1, 1, 2, 3, 8, 100]) / 16
        deadlines.visits.clear()
        due = wheel.advance(now, deadlines.of)
        assert all(held.pop(item) <= now for item in due)
        assert all(deadline > now - TICK_S for deadline in held.values())
        assert all(visits == 1 for visits in deadlines.visits.values())
        assert len(wheel) == len(held)


def test_items_that_are_gone_are_taken_out_wherever_they_wait() -> None:
    deadlines = Deadlines()
    wheel = wheel_with(deadlines, a=100.25, b=100.25, c=101.0, d=101.0, e=100.0 + 3 * REVOLUTION_S)
    assert wheel.advance(100.25, deadlines.of, limit=1) == ["a"]
    assert len(wheel) == 4
    wheel.discard(lambda item: item in "bd")
    assert len(wheel) == 2
    assert wheel.advance(101.0, deadlines.of) == ["c"]
    assert wheel.advance(200.0, deadlines.of) == ["e"]
    assert len(wheel) == 0
