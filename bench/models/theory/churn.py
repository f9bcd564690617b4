"""How many clients a rate of arrivals keeps present, and for how long a lease outlives a client that vanished.

Lifetimes are those of `bench.load.lifetimes`: Pareto, cut off. Derived. The models of `bench churn` and of F-i.
"""

from __future__ import annotations

import math

from bench.load.lifetimes import VANISHING, lifetime_s, mean_lifetime_s
from softstate.lease.table import GRACE
from softstate.lease.timer_wheel import TICK_S
from softstate.session.load_advice import RENEWALS_PER_TTL

GRID = 32
"""Steps in which the spread of the time between two renewals is cut."""


def mean_leases(sessions: float, mean_s: float, orphan_s: float) -> float:
    """Return the mean number of leases of so many present clients: an M/G/infinity queue, by Little's law."""
    return sessions * (1 + VANISHING * orphan_s / mean_lifetime_s(mean_s))


def resumed_share(orphan_s: float, away_s: tuple[float, float]) -> float:
    """Return the part of those that return after U(least, most) whose lease is still there."""
    least_s, most_s = away_s
    return min(max((orphan_s - least_s) / (most_s - least_s), 0.0), 1.0)


def mean_orphan_s(ttl_s: float, mean_s: float, quantiles: int = 2_000) -> float:
    """Return for how long a lease outlives a client that vanished: TTL and grace, less the time since it renewed.

    With the age A(x) of the last renewal (or the grant) at the end of a life of x, and f the density of the time
    between two: A(x) = x P(no renewal by x) + ∫ f(s) A(x - s) ds. Short lives are the most, so that A is not half of
    the time between two. The wheel is half a tick late.
    """
    renew_s = ttl_s / RENEWALS_PER_TTL
    step_s = renew_s * 0.4 / GRID
    least = round(0.8 * renew_s / step_s)
    ages = [0.0]
    for number in range(1, math.ceil(lifetime_s(1 - 1e-9, mean_s) / step_s) + 1):
        renewed = min(max(number - least, 0), GRID) / GRID
        earlier = sum(ages[number - least - each - 1] for each in range(min(max(number - least, 0), GRID)))
        ages.append(number * step_s * (1 - renewed) + earlier / GRID)
    lives = [lifetime_s((number + 0.5) / quantiles, mean_s) for number in range(quantiles)]
    age_s = sum(ages[round(life / step_s)] for life in lives) / quantiles
    return ttl_s * (1 + GRACE) - age_s + TICK_S / 2
