"""For how much of the time a client's copy of a topic is old, by how it learns of changes. Changes are Poisson.

The inconsistency I is the part of time in which the copy is not the newest value. `change_per_s` is the rate of
changes. All of this is derived.
"""

from __future__ import annotations

import math


def pushed(change_per_s: float, delay_s: float) -> float:
    """Return I if every change is pushed and takes an exponential time; the next change takes its place."""
    return 1 - 1 / (1 + change_per_s * delay_s)


def polled(change_per_s: float, period_s: float) -> float:
    """Return I if the copy is refreshed every `period_s`, and nothing else."""
    return _mean_changed(change_per_s * period_s)


def polled_with_jitter(change_per_s: float, period_s: float, jitter: float, steps: int = 200) -> float:
    """Return I if each period is uniform within ± `jitter` of `period_s`."""
    periods = [period_s * (1 - jitter + 2 * jitter * (step + 0.5) / steps) for step in range(steps)]
    return sum(each * polled(change_per_s, each) for each in periods) / sum(periods)


def repaired(change_per_s: float, delay_s: float, loss: float, renew_s: float) -> float:
    """Return I if pushes are lost with a probability, and a renewal every `renew_s` finds out.

    F is the mean time for which a change leaves the copy old: until it arrives, or until the next renewal, unless
    another change comes first.
    """
    lost = _mean_changed(change_per_s * renew_s)
    old_s = (delay_s + loss * lost / change_per_s) / (1 - loss * lost)
    return change_per_s * old_s / (1 + change_per_s * old_s)


def unrepaired(change_per_s: float, delay_s: float, loss: float) -> float:
    """Return I if pushes are lost and nothing finds out: the next change that arrives ends it."""
    return loss + (1 - loss) * pushed(change_per_s, delay_s)


def outage(change_per_s: float, lasts_s: float) -> float:
    """Return the mean I during an outage that begins with a fresh copy."""
    return _mean_changed(change_per_s * lasts_s)


def _mean_changed(changes: float) -> float:
    """Return the mean, over a period with so many changes expected, of the probability that one has come."""
    return 1 + math.expm1(-changes) / changes


def forgotten(change_per_s: float, forgotten_per_s: float, renew_s: float) -> float:
    """Return I if a node forgets a subscription at a rate, and the next renewal finds out, `renew_s` apart."""
    rest_s = renew_s / 2 - 1 / change_per_s - math.expm1(-change_per_s * renew_s) / (change_per_s**2 * renew_s)
    return forgotten_per_s * rest_s


def forgotten_for_good(change_per_s: float, forgotten_per_s: float, lasts_s: float) -> float:
    """Return the mean I over a time that begins with a subscription, if nothing finds out that it was forgotten.

    The copy is old once the subscription was forgotten and a change has come behind that: two exponential times.
    """
    old = _mean_changed(forgotten_per_s * lasts_s)
    fresh = _mean_changed(change_per_s * lasts_s)
    return (change_per_s * old - forgotten_per_s * fresh) / (change_per_s - forgotten_per_s)
