"""Announce and listen: a sender repeats its records in turn, over a lossy channel (Raman, McCanne, SIGCOMM 1999).

Records come as a Poisson process and are queued; each turn of a record takes an exponential time with mean 1/μ, and is
lost with probability p. Behind its turn a record dies with probability d, or is queued again. A record is consistent
once a turn of it arrived. So there are two classes in one queue, records that the listener has and those that it lacks,
and both are served alike: an open network of one station, whose number of records is that of an M/M/1 queue, and
whose classes are in it in proportion to their rates.

Without feedback the sender repeats what the listener has, as long as the record lives: most of the bandwidth. With
feedback the listener says what it lacks; the sender then gives turns to those records first, at equal bandwidth.

From the abstract and from notes on the paper; the formulas are derived.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announcing:
    """`loss`: of one turn. `death`: probability that a record dies behind its turn. `load`: below 1."""

    loss: float
    death: float
    load: float


def held_share(given: Announcing) -> float:
    """Return the part of all turns that announce what the listener has already: the wasted part of the bandwidth.

    A record that the listener lacks goes on lacking, per turn, with probability p (1 - d), so that a new record takes
    1 / (1 - p (1 - d)) such turns; it takes 1 / d turns in all.
    """
    lacking_turns = 1 / (1 - given.loss * (1 - given.death))
    return 1 - lacking_turns * given.death


def consistency(given: Announcing) -> float:
    """Return the time average of the part of live records that the listener has, with 0 for an empty system."""
    return given.load * held_share(given)
