"""Recovery: the check of ages, and very few clients of a real node that is killed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest

from bench.load.ages import Ages
from bench.measure.witness import Attempt
from bench.speed.recovery.crash import PATIENCE_S, Crash, Herd, crash, parts_of, softstate_system
from bench.speed.recovery.figures import course_of, figures_of, publishes_of, stall_of
from softstate.client.machine.machine import Machine
from softstate.model import Change


class FakeMachine:
    """A machine that holds one value."""

    def __init__(self, value: int | None, age_s: float) -> None:
        self._value = value
        self._age_s = age_s

    def age(self, now: float) -> float:
        return self._age_s

    def known(self, name: str) -> list[Change]:
        return [] if self._value is None else [Change(name, 1, self._value)]


@pytest.mark.parametrize(
    ("value", "age_s", "too_low"),
    [(1, 0.0, 0), (0, 4.9, 1), (0, 5.1, 0), (None, 14.0, 1), (None, 16.0, 0), (0, float("inf"), 0)],
)
def test_an_age_below_the_staleness_is_too_low(value: int | None, age_s: float, too_low: int) -> None:
    ages = Ages()
    ages.settled("t", 0, 105.0)
    ages.settled("t", 1, 115.0)
    ages.check(cast("Machine", FakeMachine(value, age_s)), "t", 120.0)
    assert ages.too_low == too_low
    assert ages.checks == (age_s != float("inf"))


def record(**changed: Any) -> Crash:
    """Return a crash of 4 clients at 100 s, after which the node listens again at 102 s and two come back."""
    one = {
        "back_s": [2.5], "fresh_s": [3.0], "attempts": 4, "refused": 3, "polls": 2, "shed": 0, "stale": 0, "checks": 1,
        "too_low": 0, "least_margin_s": 1.0, "generator_busy": 0.1, "acknowledged": {}, "unsettled": 0,
        "course": [[100.1, 0, 0, 2, 2, 1], [102.1, 0, 0, 3, 3, 1], [102.5, 1, 0, 4, 3, 2], [104.0, 1, 1, 4, 3, 2]],
    }  # fmt: skip
    other = {**one, "generator_busy": 0.3, "back_s": [3.5], "fresh_s": [3.5]}
    other["course"] = [[100.1, 0, 0, 2, 2, 1], [102.1, 0, 0, 3, 3, 1], [103.5, 1, 1, 4, 3, 2], [104.0, 0, 1, 4, 3, 2]]
    samples = [(99.0, 7), (100.5, None), (102.0, 0), (102.3, 3), (103.0, 1)]
    attempts = [Attempt(99.9, 0.1), Attempt(101.0), Attempt(102.2), Attempt(102.3, 0.4), Attempt(120.0, 0.1)]
    made = Crash(Herd(4, 2.0), 2.0, 1.0, 100.0, 102.0, [one, other], samples, attempts, 1.5, 0)
    return replace(made, **changed)


def test_figures_count_a_client_that_never_came_back_with_the_whole_wait() -> None:
    figures = figures_of(record(), floor_per_s=2.0)
    assert (figures["live_50_s"], figures["live_99_s"], figures["live_all_s"]) == (3.5, PATIENCE_S, PATIENCE_S)
    assert (figures["fresh_50_s"], figures["fresh_99_up_s"]) == (3.5, PATIENCE_S - 2)
    assert figures["stretch"] == (PATIENCE_S - 2) / 2
    assert (figures["attempts"], figures["attempts_up"], figures["polls"], figures["knocks"]) == (2, 0.5, 1, 3)
    assert (figures["handshakes_peak"], figures["queue_peak"]) == (1, 3)
    assert (figures["down_s"], figures["serve_s"], figures["floor_s"]) == (2.0, 2.0, 2.0)
    assert figures["generator_busy"] == 0.3


def test_publishes_count_from_when_the_node_listens_until_99_percent_are_live() -> None:
    assert publishes_of(record(), 4.0) == (2, 1)
    assert publishes_of(record(), 20.0) == (3, 2)
    assert publishes_of(record(listens_at=100.0), 0.0) == (3, 1)


def test_a_stall_and_a_fall_are_found() -> None:
    stall_s, fall = stall_of(record())
    assert (stall_s, fall) == (1.0, 1.0)
    back = {**record().answers[0], "course": [[102.0 + step / 10, step, 0, 0, 0, 0] for step in range(5)]}
    stall_s, fall = stall_of(record(answers=[back]))
    assert stall_s == pytest.approx(0.1)
    assert fall == 0.0


@pytest.mark.parametrize(("listens_at", "whole_s"), [(102.0, 300.0), (math.inf, 302.0)])
def test_a_herd_of_which_no_client_comes_back_stalls_for_the_whole_time(listens_at: float, whole_s: float) -> None:
    gone = {**record().answers[0], "course": [[at, 0, 0, 9, 9, 0] for at in (100.1, 102.1, 230.0, 402.0)]}
    assert stall_of(record(answers=[gone], listens_at=listens_at)) == (whole_s, 0.0)


def test_a_herd_whose_rest_does_not_come_back_stalls_to_the_end() -> None:
    some = {**record().answers[0], "course": [[102.1, 0, 0, 9, 9, 0], [103.0, 1, 0, 9, 9, 0], [402.0, 1, 0, 9, 9, 0]]}
    assert stall_of(record(answers=[some])) == (299.0, 0.0)


def test_the_course_has_counts_until_each_step_and_the_longest_queue_in_it() -> None:
    course = dict(course_of(record()))
    assert list(course) == [0.25 * step for step in range(1, 17)]
    assert course[0.25] == {
        "live": 0.0, "fresh": 0.0, "dials": 1.0, "refused": 1.0, "polls": 0.5, "attempted": 0.0, "acknowledged": 0.0
    }  # fmt: skip
    assert (course[2.5]["queue"], course[2.5]["live"], course[2.5]["attempted"]) == (3.0, 0.25, 1.0)
    assert (course[3.5]["live"], course[4.0]["live"], course[4.0]["fresh"]) == (0.5, 0.25, 0.5)


@pytest.mark.timeout(60)
def test_a_few_clients_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.speed.recovery.crash.AFTER_S", 0.3)
    figures = figures_of(crash(Herd(20, down_s=0.5, ttl_s=1), softstate_system("lease")))
    assert 0.5 < figures["down_s"] < figures["live_all_s"] < PATIENCE_S
    assert figures["down_s"] < figures["fresh_all_s"] < PATIENCE_S
    assert figures["attempts"] >= 1
    assert figures["acknowledged"] > 0
    assert figures["checks"] > 0
    assert (figures["lost"], figures["stale"], figures["too_low"]) == (0, 0, 0)


def test_a_herd_is_named() -> None:
    assert str(Herd(3_000, 2.0, busy=1)) == "3,000 clients, 2 s down, 1 core busy"
    assert [parts_of(clients) for clients in (999, 1_000)] == [1, 2]
