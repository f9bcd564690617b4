"""Rates: a burst, then one after the other; who waits as long as told is never told to wait again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.rates import BURST_S, Rates


def test_a_burst_goes_through_and_one_more_waits_for_its_time() -> None:
    rates: Rates[str] = Rates(10.0)
    for _ in range(10):
        assert rates.wait_s("a", 5.0) == 0
        rates.charge("a", 5.0)
    assert rates.wait_s("a", 5.0) == pytest.approx(0.1)
    assert rates.wait_s("b", 5.0) == 0, "another key"
    assert rates.wait_s("a", 5.1) == 0
    rates.charge("a", 5.1)
    assert rates.wait_s("a", 5.1) == pytest.approx(0.1)
    assert rates.wait_s("a", 5.1 + BURST_S) == 0


def test_a_rate_below_one_lets_one_through_at_a_time() -> None:
    rates: Rates[str] = Rates(0.1)
    rates.charge("a", 0.0)
    assert rates.wait_s("a", 0.0) == pytest.approx(10.0)
    assert rates.wait_s("a", 10.0) == 0


def test_what_costs_more_than_a_burst_waits_until_all_is_paid_for_and_is_paid_for_then() -> None:
    rates: Rates[str] = Rates(100.0)
    assert rates.wait_s("a", 0.0, 250.0) == 0
    rates.charge("a", 0.0, 250.0)
    assert rates.wait_s("a", 0.0, 250.0) == pytest.approx(2.5)
    assert rates.wait_s("a", 0.0, 1.0) == pytest.approx(1.51)
    assert rates.wait_s("a", 2.5, 250.0) == 0


def test_somebody_may_owe() -> None:
    rates: Rates[str] = Rates(1.0)
    for _ in range(4):
        assert rates.wait_s("a", 0.0, owed_max=3) == 0
        rates.charge("a", 0.0)
    assert rates.wait_s("a", 0.0, owed_max=3) == pytest.approx(1.0)
    assert rates.wait_s("a", 0.0) == pytest.approx(4.0)


def test_the_key_that_did_something_longest_ago_is_forgotten_first() -> None:
    rates: Rates[int] = Rates(1.0, kept_max=3)
    for key in (1, 2, 3, 1):
        rates.charge(key, 0.0)
    assert len(rates) == 3
    rates.charge(4, 0.0)
    assert len(rates) == 3
    assert [rates.wait_s(key, 0.0) > 0 for key in (1, 2, 3, 4)] == [True, False, True, True]


@settings(derandomize=True, database=None, deadline=None)
@given(st.floats(0.01, 1e6), st.floats(0, 1e9), st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 10)), max_size=50))
def test_who_waits_as_long_as_told_goes_on_and_never_gets_more_than_the_rate(
    per_s: float, begins: float, asked: list[tuple[float, float]]
) -> None:
    rates: Rates[str] = Rates(per_s)
    now, done, costliest = begins, 0.0, 0.0
    for pause_s, cost in asked:
        now += pause_s / per_s
        wait_s = rates.wait_s("a", now, cost)
        if wait_s:
            now += math.ceil(wait_s * 1000) / 1000
            assert rates.wait_s("a", now, cost) == 0
        rates.charge("a", now, cost)
        done, costliest = done + cost, max(costliest, cost)
        burst = max(BURST_S * per_s, 1.0) + costliest
        assert done <= (now - begins) * per_s * (1 + 1e-6) + burst + 1e-3 * per_s
