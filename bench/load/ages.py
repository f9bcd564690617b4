"""A check of the ages that client machines state, against the times at which values were superseded."""

from __future__ import annotations

import math

from softstate.client.machine.machine import Machine


class Ages:
    """Times of publishes, and the results of comparing stated ages with them. Values count from 0 in each topic."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        """For each topic, by value: the time of its acknowledgement, which is not before a client could know it."""
        self.checks = 0
        self.too_low = 0
        self.least_margin_s = math.inf

    def settled(self, topic: str, number: int, now: float) -> None:
        """Record that a value was acknowledged: a client that holds an older one is stale from now on."""
        times = self.times.setdefault(topic, [])
        assert number == len(times), "publishes of one topic settle in order"
        times.append(now)

    def check(self, machine: Machine, topic: str, now: float) -> None:
        """Compare the age that a machine states with the time for which it has certainly been stale."""
        age_s = machine.age(now)
        if age_s == math.inf:
            return
        following = held(machine, topic) + 1
        times = self.times.get(topic, [])
        stale_s = now - times[following] if following < len(times) else 0.0
        self.checks += 1
        self.least_margin_s = min(self.least_margin_s, age_s - stale_s)
        self.too_low += stale_s > age_s


def held(machine: Machine, topic: str) -> int:
    """Return the newest value that a machine knows of a topic, -1 if none."""
    known = machine.known(topic)
    value = known[0].value if known else None
    return value if isinstance(value, int) else -1
