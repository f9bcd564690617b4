"""The retention clock never calls a revision older than it was seen to be, whichever marks it has dropped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from softstate.store.rules.retention import MARK_GAP_S, MARKS_MAX, RetentionClock


def test_knows_no_age_at_first() -> None:
    retention = RetentionClock()
    assert retention.passed(1e9, 0.0) == 0
    retention.saw(100.0, 7)
    assert retention.passed(100.0, 0.0) == 7
    assert retention.passed(159.9, 60.0) == 0
    assert retention.passed(160.0, 60.0) == 7


def test_seeing_the_same_revision_again_does_not_make_it_younger() -> None:
    retention = RetentionClock()
    retention.saw(0.0, 7)
    retention.saw(50.0, 7)
    assert retention.passed(60.0, 60.0) == 7


def test_a_lower_revision_means_another_history() -> None:
    retention = RetentionClock()
    retention.saw(0.0, 90)
    retention.saw(10.0, 50)
    assert retention.passed(60.0, 60.0) == 0
    assert retention.passed(70.0, 60.0) == 50


def test_shorter_ages_may_be_asked_for_beside_longer_ones() -> None:
    retention = RetentionClock()
    for second in range(1000):
        retention.saw(float(second), second)
        retention.passed(float(second), 10.0)
    assert retention.passed(999.0, 900.0) == 0, "it did not know that longer ages matter, so it keeps longer"


@pytest.mark.parametrize("age_s", [30.0, 600.0])
def test_errs_by_a_fraction_of_the_age(age_s: float) -> None:
    retention = RetentionClock()
    for tick in range(20_000):
        now = tick / 4
        retention.saw(now, tick)
        found = retention.passed(now, age_s)
        if now > 2 * age_s:
            assert age_s <= now - found / 4 <= 1.35 * age_s + MARK_GAP_S
    assert len(retention) <= MARKS_MAX


def test_marks_are_limited() -> None:
    retention = RetentionClock(marks_max=4)
    for minute in range(100):
        retention.saw(60.0 * minute, minute + 1)
        assert len(retention) <= 4
    assert len(retention) == 4
    assert retention.passed(60.0 * 99, 60.0 * 99) == 1, "the oldest mark is kept for those who ask far back"


@given(
    steps=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 3), st.integers(0, 1000)), max_size=80),
    marks_max=st.integers(3, 8),
)
@settings(derandomize=True, deadline=None)
def test_never_errs_towards_forgetting(steps: list[tuple[int, int, int]], marks_max: int) -> None:
    retention = RetentionClock(marks_max)
    first_seen: dict[int, int] = {}
    now, revision = 0, 1
    for pause_s, commits, age_s in steps:
        now += pause_s
        revision += commits
        first_seen.setdefault(revision, now)
        retention.saw(now, revision)
        found = retention.passed(now, age_s)
        assert found == 0 or now - first_seen[found] >= age_s
        assert len(retention) <= marks_max
