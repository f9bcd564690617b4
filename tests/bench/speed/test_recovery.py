"""Recovery: the check of ages, and very few clients of a real node that is killed."""

from __future__ import annotations

from typing import cast

import pytest

from bench.load.ages import Ages
from bench.speed.recovery import crash, figures_of
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


def test_a_client_that_never_came_back_counts_with_the_whole_wait() -> None:
    answer = {
        "back_s": [2.0, 1.0], "died_at": 10.0, "attempts": 6, "refused": 3, "shed": 0, "handshakes": [[0, 1], [1, 2]],
        "polls": [], "generator_busy": 0.1, "stale": 0, "checks": 1, "too_low": 0, "least_margin_s": 1.0,
    }  # fmt: skip
    figures = figures_of(answer, 3, open_s=2.0, settled={"spread_s": 1.0}, up_at=10.5)
    assert figures["live_50_s"] == 2.0
    assert figures["live_all_s"] == 300.0
    assert (figures["down_s"], figures["stretch"]) == (0.5, 149.75)
    assert (figures["attempts"], figures["attempts_up"], figures["handshakes_peak"]) == (2.0, 1.0, 2)


@pytest.mark.timeout(60)
def test_a_few_clients_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.speed.recovery.AFTER_S", 0.3)
    figures = crash(20, 1, "lease")
    assert figures["live_all_s"] < 300.0
    assert figures["attempts"] >= 1
    assert figures["checks"] > 0
    assert (figures["lost"], figures["stale"], figures["too_low"]) == (0, 0, 0)
