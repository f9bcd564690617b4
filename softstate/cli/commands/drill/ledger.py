"""A drill's record of publishes, changes and ages. No I/O, no clock.

Staleness is measured from outside the product: a client that has not applied a version acknowledged to its publisher
at a is, at t, stale by t - a at least. The commit came before the acknowledgement, so that this is a lower bound of the
real staleness, and an age below it is certainly too young (S5).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from softstate.cli.commands.drill.advised_times import AdvisedTimes
from softstate.cli.commands.drill.reports import Applied, Sample, Tick
from softstate.model import Mode


@dataclass
class Follower:
    """The versions that one client knows. Times are in seconds of the ledger's clock."""

    follows: Sequence[int]
    versions: dict[int, int] = field(default_factory=dict)
    mode: Mode = "closed"
    connects: int = 0
    polls: int = 0
    resets: int = 0
    histories: int = 0
    """Number of resets before the versions known."""
    fresh_s: float = math.inf
    """Time of the first value applied that was sent after the fault began."""
    live_s: float = math.inf
    """Time at which it was first live with an age that only an answer from after the fault's end can give."""
    caught_up_s: float = math.inf
    """Time at which it first knew everything acknowledged before the fault's end."""


@dataclass
class Fault:
    """Begin and end of the fault, the clients touched, and whether these could reach a node meanwhile."""

    began_s: float = math.inf
    ended_s: float = math.inf
    touched: Collection[int] = ()
    reachable: bool = False


class Ledger:
    """Every acknowledgement, every applied change, every stated age. `follows` are topics by number, a client each."""

    def __init__(self, follows: Sequence[Sequence[int]]) -> None:
        self.followers = [Follower(topics) for topics in follows]
        self.fault = Fault()
        self.times: AdvisedTimes | None = None
        """Bounds are checked, and peaks and latencies counted, from when these are known."""
        self.acknowledged = self.samples = self.too_young = self.over_bound = self.went_back = self.resets = 0
        self.worst_staleness_s = self.worst_age_s = self.worst_allowed_s = self.longest_publish_s = 0.0
        self.least_margin_s = math.inf
        """Least difference between an age and the staleness measured at the same instant, while there was any."""
        self.latencies_s = array("d")
        self.connects: Counter[int] = Counter()
        self.polls: Counter[int] = Counter()
        self._acks: dict[int, tuple[list[float], list[int]]] = {}
        self._seen: set[int] = set()

    # Recording -------------------------------------------------------------------------------------------------------

    def acknowledge(self, topic: int, version: int, sent_s: float, now: float) -> None:
        """Record an acknowledged publish. Those of one topic come in order."""
        self.acknowledged += 1
        self.longest_publish_s = max(self.longest_publish_s, now - sent_s)
        times, versions = self._acks.setdefault(topic, ([], []))
        times.append(now)
        versions.append(version)

    def take(self, tick: Tick) -> None:
        """Record a worker's report."""
        for applied in tick.applied:
            self.apply(applied)
        for sample in tick.samples:
            self.sample(sample)

    def apply(self, applied: Applied) -> None:
        """Record a change that a client was given."""
        follower = self.followers[applied.client]
        if applied.resets != follower.histories:
            follower.histories, follower.versions = applied.resets, {}
        self.went_back += applied.version < follower.versions.get(applied.topic, 0)
        follower.versions[applied.topic] = applied.version
        self._seen.add(applied.version)
        if applied.sent_s >= self.fault.began_s:
            follower.fresh_s = min(follower.fresh_s, applied.at_s)
        elif self.times is not None and follower.mode == "live" and applied.at_s < self.fault.began_s:
            self.latencies_s.append(applied.at_s - applied.sent_s)

    def sample(self, sample: Sample) -> None:
        """Check what a client states, and count what it did since the last sample."""
        follower = self.followers[sample.client]
        follower.mode = sample.mode
        self._count(follower, sample)
        if follower.caught_up_s == math.inf and sample.at_s >= self.fault.ended_s and self._caught_up(follower):
            follower.caught_up_s = sample.at_s
        if sample.age_s is not None:
            self._judge_age(sample, follower, sample.age_s)
            if sample.mode == "live" and sample.at_s - sample.age_s >= self.fault.ended_s:
                follower.live_s = min(follower.live_s, sample.at_s)

    def restart(self, clients: Collection[int]) -> None:
        """Record that these clients were killed: their successors of the same numbers know nothing."""
        for client in clients:
            self.followers[client] = Follower(self.followers[client].follows)

    def _count(self, follower: Follower, sample: Sample) -> None:
        if sample.at_s >= self.fault.began_s:
            second = int(sample.at_s - self.fault.began_s)
            self.connects[second] += sample.connects - follower.connects
            self.polls[second] += sample.polls - follower.polls
        self.resets += sample.resets - follower.resets
        follower.connects, follower.polls, follower.resets = sample.connects, sample.polls, sample.resets

    def _judge_age(self, sample: Sample, follower: Follower, age_s: float) -> None:
        staleness_s = self.staleness_s(follower, sample.at_s)
        self.samples += 1
        self.too_young += staleness_s > age_s
        self.worst_staleness_s = max(self.worst_staleness_s, staleness_s)
        if staleness_s > 0:
            self.least_margin_s = min(self.least_margin_s, age_s - staleness_s)
        if self.times is not None:
            allowed_s = self.allowed_s(self.times, sample.client, sample.at_s)
            self.over_bound += age_s > allowed_s
            self.worst_age_s = max(self.worst_age_s, age_s)
            self.worst_allowed_s = max(self.worst_allowed_s, allowed_s)

    # Conclusions ----------------------------------------------------------------------------------------------------

    def staleness_s(self, follower: Follower, now: float) -> float:
        """Return for how long at least something has been committed that a client does not know at `now`."""
        worst_s = 0.0
        for topic in follower.follows:
            times, versions = self._acks.get(topic, ([], []))
            missed = bisect_right(versions, follower.versions.get(topic, 0))
            if missed < len(times):
                worst_s = max(worst_s, now - times[missed])
        return worst_s

    def allowed_s(self, times: AdvisedTimes, client: int, now: float) -> float:
        """Return the highest age that B and L allow a client at `now`."""
        fault = self.fault
        if client not in fault.touched or not fault.began_s <= now <= fault.ended_s + times.converge_s_max:
            return times.age_s_max
        return times.age_s_max + (0.0 if fault.reachable else now - fault.began_s)

    def lost(self, stored: Mapping[int, int]) -> int:
        """Count acknowledged publishes that are not readable at their version or newer (the recovery point, S3)."""
        return sum(
            sum(version > stored.get(topic, 0) for version in versions) for topic, (_, versions) in self._acks.items()
        )

    def phantoms(self) -> int:
        """Count versions that a client applied and that no publish has (S2); every publish must be answered by now."""
        return len(self._seen - {version for _, versions in self._acks.values() for version in versions})

    def behind(self, stored: Mapping[int, int]) -> int:
        """Count the clients whose knowledge differs from the store's final state."""
        return sum(
            any(follower.versions.get(topic, 0) != stored.get(topic, 0) for topic in follower.follows)
            for follower in self.followers
        )

    def _caught_up(self, follower: Follower) -> bool:
        for topic in follower.follows:
            times, versions = self._acks.get(topic, ([], []))
            owed = bisect_right(times, self.fault.ended_s)
            if owed and follower.versions.get(topic, 0) < versions[owed - 1]:
                return False
        return True
