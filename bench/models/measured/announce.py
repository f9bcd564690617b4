"""Announce and listen, turn by turn: what `bench.models.theory.announce` predicts, and the same with feedback."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from bench.models.theory.announce import Announcing


@dataclass(frozen=True, slots=True)
class Announced:
    """Figures of one run, of time averages: `consistency` with 0 for an empty system, `held` over all records.

    `wasted` is the part of all turns that announced what the listener had.
    """

    consistency: float
    held: float
    wasted: float


def announce(given: Announcing, turns: int, seed: int, *, feedback: bool = False) -> Announced:
    """Run so many turns. With `feedback` the sender announces the records first that the listener lacks."""
    random = Random(f"{seed} {given} {feedback}")
    arrive_per_turn = given.load * given.death
    lacked: deque[None] = deque()
    held = 0
    order: deque[bool] = deque()  # True: the listener has it
    area = share = busy = lasts = wasted = 0.0
    for _ in range(turns):
        count = len(order)
        while not count:
            pause = random.expovariate(arrive_per_turn)
            lasts += pause
            order.append(False)
            lacked.append(None)
            count = 1
        turn = random.expovariate(1.0)
        area += turn * count
        busy += turn * held
        share += turn * held / count
        lasts += turn
        at = 0
        if feedback and lacked:
            at = order.index(False)
        has = order[at]
        del order[at]
        wasted += has
        if not has:
            lacked.pop()
        got = has or random.random() >= given.loss
        if random.random() < given.death:
            held -= has
        else:
            order.append(got)
            held += got - has
            if not got:
                lacked.append(None)
        for _ in range(_arrivals(random, arrive_per_turn * turn)):
            order.append(False)
            lacked.append(None)
    return Announced(share / lasts, busy / area, wasted / turns)


def _arrivals(random: Random, mean: float) -> int:
    """Draw how many records came during a turn."""
    count, at = 0, random.expovariate(1.0)
    while at < mean:
        count += 1
        at += random.expovariate(1.0)
    return count
