"""Churn: the model exactly, and a very short run with a real server."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from bench.load.churn import LIFETIME_MEANS_MAX, VANISHING, lifetime_s
from bench.measure.report import Report
from bench.speed.churn import Phase, Sample, coming_and_going, expected, growth, lease_times_s


def test_lifetimes_have_their_mean_and_their_tail() -> None:
    random = Random(1)
    drawn = sorted(lifetime_s(random.random(), 3.0) for _ in range(100_000))
    assert drawn[0] >= 1.0
    assert drawn[-1] == LIFETIME_MEANS_MAX * 3.0
    assert 2.2 < sum(drawn) / len(drawn) < 3.0  # the cut-off lowers the mean
    assert drawn[50_000] < 1.7  # most are short


def test_in_the_steady_state_the_model_is_littles_law() -> None:
    times = lease_times_s(10.0, 10.0)
    mean_s = sum(lasts_s * weight for lasts_s, weight in times)
    assert sum(weight for _, weight in times) == pytest.approx(1.0)
    assert expected([Phase(7.0, 0.0, 1_000.0)], times, 1_000.0) == pytest.approx(7.0 * mean_s)


def test_before_the_steady_state_the_model_counts_all_arrivals() -> None:
    times = [(5.0, 1 - VANISHING), (9.0, VANISHING)]
    phases = [Phase(2.0, 0.0, 10.0), Phase(4.0, 10.0, 20.0)]
    assert expected(phases, times, 1.0) == pytest.approx(2.0)
    assert expected(phases, times, 10.0) == pytest.approx(2.0 * (5 * 0.75 + 9 * 0.25))
    assert expected(phases, times, 11.0) == pytest.approx(4.0 + 2.0 * (4 * 0.75 + 8 * 0.25))


def test_growth_compares_thirds() -> None:
    sample = Sample(0.0, 1, 1, 100)
    assert growth([sample]) == 1.0
    assert growth([replace(sample, resident=value) for value in (1, 2, 100, 100, 130, 130)]) == pytest.approx(1.3)


@pytest.mark.timeout(60)
def test_subscribers_come_and_go() -> None:
    report = Report("churn", "small")
    result = coming_and_going(report, [Phase(20.0, 0.0, 2.0)], ttl_s=1, mean_s=0.3)
    [[run]] = result.runs.values()
    assert run["arrivals"] > 0 < run["deliveries"]
    assert 0 < run["sessions"] < run["arrivals"]
    assert len(report.targets) == 2
