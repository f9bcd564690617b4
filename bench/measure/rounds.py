"""Rounds: each runs all candidates once, in alternating order, so that drift of the machine affects all alike.

Ratios are formed within one round, and the median is taken of them: two medians from different minutes say little about
each other. A candidate is a `Measure`: a callable that runs it once and returns its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from bench.measure.progress import Steps

ROUNDS = 5
"""Rounds of a result."""
ROUNDS_QUICK = 3
ROUNDS_AGAINST = 7
"""Rounds of a comparison of two checkouts, which is about a few per cent."""

Figures: TypeAlias = Mapping[str, float]
"""The result of one run of one candidate: values by the name of the figure, which ends in its unit."""

Measure: TypeAlias = Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, between their least and greatest."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """Return the text to print, with so many digits after the point."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def __str__(self) -> str:
        return self.text()


@dataclass
class Rounds:
    """The results: for each candidate, the figures of each round, in order."""

    runs: dict[str, list[Figures]] = field(default_factory=dict)

    def median(self, candidate: str, figure: str) -> float:
        """Return the median of a figure over the rounds."""
        return median(run[figure] for run in self.runs[candidate])

    def ratio(self, candidate: str, baseline: str, figure: str) -> Spread:
        """Return candidate over baseline, formed within each round."""
        pairs = zip(self.runs[candidate], self.runs[baseline], strict=True)
        return spread([mine[figure] / theirs[figure] for mine, theirs in pairs])

    def __contains__(self, candidate: str) -> bool:
        return candidate in self.runs


def spread(values: list[float]) -> Spread:
    """Return median, least and greatest of at least one value."""
    return Spread(median(values), min(values), max(values))


def run_rounds(candidates: Mapping[str, Measure], rounds: int, label: str = "") -> Rounds:
    """Run each candidate once in each round, every second round in reverse order; return all figures.

    A candidate that needs a warm-up does it inside its `Measure`. An exception of one ends the run.
    """
    result = Rounds({name: [] for name in candidates})
    with Steps(label, rounds * len(candidates)) as steps:
        for number in range(rounds):
            order = list(candidates)[:: 1 if number % 2 == 0 else -1]
            for name in order:
                steps.show(f"round {number + 1}/{rounds}: {name}")
                result.runs[name].append(candidates[name]())
    return result
