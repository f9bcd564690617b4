"""Durations of several processes: they add up, and quantiles are right to the width of a bucket."""

from __future__ import annotations

import json

import pytest

from bench.load.durations import WIDTH, Durations


def test_quantiles_of_parts_together_are_those_of_the_whole() -> None:
    parts = Durations(), Durations()
    for number in range(1, 1_001):
        parts[number % 2].add(number / 1_000)
    whole = Durations(json.loads(json.dumps([part.told() for part in parts])))
    assert len(whole) == 1_000
    for share in (0.5, 0.99, 1.0):
        assert whole.quantile(share) == pytest.approx(share, rel=WIDTH - 1)


def test_nothing_measured_is_0_and_no_time_at_all_is_a_duration() -> None:
    durations = Durations()
    assert durations.quantile(0.99) == 0.0
    durations.add(0.0)
    assert durations.quantile(0.5) == pytest.approx(1e-6, rel=WIDTH - 1)
