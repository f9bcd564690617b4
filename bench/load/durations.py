"""Durations by size: what several load processes have measured can be added up, and sent as a line of JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

WIDTH = 1.02
"""Upper bound of a bucket over its lower one: a quantile is right to 1 %."""
LEAST_S = 1e-6

Told: TypeAlias = list[tuple[int, int]]
"""Buckets and their counts, as they are sent."""


class Durations:
    """Counts of durations, by bucket."""

    __slots__ = ("_counts",)

    def __init__(self, told: Iterable[Told] = ()) -> None:
        self._counts: Counter[int] = Counter()
        for each in told:
            for bucket, count in each:
                self._counts[bucket] += count

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[math.floor(math.log(max(seconds, LEAST_S)) / _LOG_WIDTH)] += 1

    def told(self) -> Told:
        """Return the counts, to be sent."""
        return sorted(self._counts.items())

    def quantile(self, share: float) -> float:
        """Return a quantile in seconds, 1 for the longest; 0.0 if there is no duration."""
        wanted = share * len(self)
        for bucket, count in self.told():
            wanted -= count
            if wanted <= 0:
                return math.exp((bucket + 0.5) * _LOG_WIDTH)
        return 0.0


_LOG_WIDTH = math.log(WIDTH)
