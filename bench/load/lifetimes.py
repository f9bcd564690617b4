"""Heavy-tailed lifetimes of clients: Pareto distributed, and cut off so that a run reaches a steady state."""

from __future__ import annotations

import math

TAIL = 1.5
"""Exponent of the Pareto distribution of lifetimes: without the cut-off it has a mean and no variance."""
LIFETIME_MEANS_MAX = 10.0
"""Cut-off of lifetimes, in means."""
VANISHING = 0.25
"""Share of clients that vanish without a word."""


def lifetime_s(share: float, mean_s: float) -> float:
    """Return the quantile `share` (0 to 1, 1 excluded) of the lifetimes. `mean_s` is their mean before the cut-off."""
    least_s = _least_s(mean_s)
    return float(min(least_s * (1 - share) ** (-1 / TAIL), LIFETIME_MEANS_MAX * mean_s))


def mean_lifetime_s(mean_s: float) -> float:
    """Return the mean lifetime, the cut-off included."""
    least_s = _least_s(mean_s)
    return least_s + least_s / (TAIL - 1) * (1 - math.pow(least_s / (LIFETIME_MEANS_MAX * mean_s), TAIL - 1))


def residual_s(share: float, mean_s: float) -> float:
    """Return the quantile `share` of what is left of the lives of all who are present at one time.

    In a steady state its density is that of lifetimes above it, over their mean (renewal theory). So a population that
    is given these begins in the steady state.
    """
    least_s = _least_s(mean_s)
    area_s = share * mean_lifetime_s(mean_s)
    if area_s <= least_s:
        return area_s
    return float(least_s * (1 - (area_s - least_s) * (TAIL - 1) / least_s) ** (-1 / (TAIL - 1)))


def _least_s(mean_s: float) -> float:
    return mean_s * (TAIL - 1) / TAIL
