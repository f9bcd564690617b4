"""Whether the ages that client machines state are honest: compared with when each value was superseded."""

from __future__ import annotations

import math

from softstate.client.machine.machine import Machine


class Ages:
    """What was published when, and whether ages stated are honest. Values count from 0 in each topic."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        """For each topic, by value: when it was acknowledged, which is not before it was there to be known."""
        self.looks = 0
        self.dishonest = 0
        self.least_margin_s = math.inf

    def settled(self, topic: str, number: int, now: float) -> None:
        """Take note that a value was acknowledged: whoever holds an older one is stale from now on."""
        times = self.times.setdefault(topic, [])
        assert number == len(times), "publishes of one topic settle in order"
        times.append(now)

    def look(self, machine: Machine, topic: str, now: float) -> None:
        """Compare the age that a machine states with how long it has been stale for certain."""
        age_s = machine.age(now)
        if age_s == math.inf:
            return
        beyond = held(machine, topic) + 1
        times = self.times.get(topic, [])
        stale_s = now - times[beyond] if beyond < len(times) else 0.0
        self.looks += 1
        self.least_margin_s = min(self.least_margin_s, age_s - stale_s)
        self.dishonest += stale_s > age_s


def held(machine: Machine, topic: str) -> int:
    """Return the newest value that a machine knows of a topic, -1 if none."""
    known = machine.known(topic)
    value = known[0].value if known else None
    return value if isinstance(value, int) else -1
