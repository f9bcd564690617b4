from __future__ import annotations

import pytest

from softstate.server.measure.histogram import BUCKETS_MAX, Histogram


def test_a_duration_counts_up_to_its_bound_and_no_further() -> None:
    durations = Histogram((1.0, 2.0))
    for duration_s in (0.0, 1.0, 1.001, 2.0, 9.0):
        durations.observe(duration_s)
    assert durations.counts == [2, 2, 1]
    assert durations.sum_s == pytest.approx(13.001)


def test_a_histogram_has_twelve_buckets_at_most() -> None:
    Histogram(range(BUCKETS_MAX - 1))
    with pytest.raises(AssertionError):
        Histogram(range(BUCKETS_MAX))
