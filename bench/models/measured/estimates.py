"""Estimates with their intervals of confidence, from independent parts of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure, and half of the width of its interval of 95 % confidence; 0 for what has no error."""

    value: float
    half: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.half:.1g}" if self.half else f"{self.value:.4g}"


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean of independent values."""
    return ratio_of(values, [1.0] * len(values))


def ratio_of(parts: Sequence[float], wholes: Sequence[float]) -> Estimate:
    """Return the sum of `parts` over that of `wholes`, both of independent runs, and its interval (delta method)."""
    count, whole = len(parts), sum(wholes)
    ratio = sum(parts) / whole
    if count < 2:
        return Estimate(ratio)
    squares = sum((part - ratio * size) ** 2 for part, size in zip(parts, wholes, strict=True))
    return Estimate(ratio, NORMAL_95 * math.sqrt(squares * count / (count - 1)) / whole)
