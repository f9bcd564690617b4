"""Durations by size, in the buckets of a Prometheus histogram: plain lists, from which metrics are made at a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import final

BUCKETS_MAX = 12
"""Buckets of a histogram, that for all that is longer included."""

BRIEF_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bounds for what a node does within milliseconds, in seconds."""


@final
class Histogram:
    """Counts by upper bound, and the sum. `counts` has one entry more than `bounds_s`, which are in seconds."""

    __slots__ = ("bounds_s", "counts", "sum_s")

    def __init__(self, bounds_s: Sequence[float] = BRIEF_S) -> None:
        assert len(bounds_s) < BUCKETS_MAX
        self.bounds_s = tuple(bounds_s)
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one duration: 0.2 us."""
        self.counts[bisect_left(self.bounds_s, duration_s)] += 1
        self.sum_s += duration_s
