"""The demo's record of publishes, changes and ages, and the figures that follow from it. No I/O, no clock."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from softstate.model import Change, Mode


@dataclass
class Subscriber:
    """The changes and modes that one subscriber has seen. Times are in seconds of one clock of the caller's."""

    versions: dict[str, int] = field(default_factory=dict)
    mode: Mode = "closed"
    went_back: int = 0
    changes: int = 0
    worst_age_s: float = 0.0
    fresh_s: float | None = None
    """Time of the first change applied that was committed after the kill."""
    live_s: float | None = None
    """Time at which it was live again after the restart."""

    def apply(self, change: Change) -> None:
        """Record a change as the application is given it."""
        if change.version < self.versions.get(change.topic, 0):
            self.went_back += 1
        self.versions[change.topic] = change.version
        self.changes += 1


@dataclass
class Ledger:
    """Every acknowledgement and every applied change."""

    subscribers: list[Subscriber]
    bound_s: float
    """Highest age that a subscriber may report while at least one node can be reached."""
    published: int = 0
    acknowledged: int = 0
    too_young: int = 0
    """Number of reported ages that were lower than the real staleness."""
    samples: int = 0
    killed_s: float = math.inf
    killed_at: int = 0
    """The highest version committed before the kill, or a few later: what is newer cannot come from the dead node."""
    restarted_s: float = math.inf
    _acks: dict[str, tuple[list[float], list[int]]] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        """The highest version acknowledged so far."""
        return max((versions[-1] for _, versions in self._acks.values()), default=0)

    def acknowledge(self, topic: str, version: int, now: float) -> None:
        """Record a publish that was acknowledged."""
        self.acknowledged += 1
        times, versions = self._acks.setdefault(topic, ([], []))
        times.append(now)
        versions.append(version)

    def kill(self, now: float, revision: int) -> None:
        """Record that the push node was killed at `now`; the store was at `revision` afterwards."""
        self.killed_s, self.killed_at = now, revision
        for subscriber in self.subscribers:
            subscriber.fresh_s = subscriber.live_s = None

    def applied(self, subscriber: Subscriber, change: Change, now: float) -> None:
        """Record a change that a subscriber was given."""
        subscriber.apply(change)
        if subscriber.fresh_s is None and now >= self.killed_s and change.version > self.killed_at:
            subscriber.fresh_s = now

    def mode_changed(self, subscriber: Subscriber, mode: Mode, now: float) -> None:
        """Record a subscriber's mode."""
        subscriber.mode = mode
        if mode == "live" and subscriber.live_s is None and now >= self.restarted_s:
            subscriber.live_s = now

    def sample(self, subscriber: Subscriber, age_s: float, now: float) -> None:
        """Check an age: what was acknowledged longer ago must have been applied. Infinity claims nothing."""
        if math.isinf(age_s):
            return
        self.samples += 1
        subscriber.worst_age_s = max(subscriber.worst_age_s, age_s)
        for topic, (times, versions) in self._acks.items():
            known = bisect_right(times, now - age_s)
            if known and subscriber.versions.get(topic, 0) < versions[known - 1]:
                self.too_young += 1

    def lost(self, stored: Mapping[str, int]) -> int:
        """Count acknowledged publishes that the store no longer has, given its final versions, and superseded none."""
        return sum(
            sum(version > stored.get(topic, 0) for version in versions) for topic, (_, versions) in self._acks.items()
        )

    def behind(self, stored: Mapping[str, int]) -> int:
        """Count the subscribers whose knowledge differs from the store's final state."""
        return sum(subscriber.versions != dict(stored) for subscriber in self.subscribers)

    def worst_age_s(self) -> float:
        """Return the highest finite age that any subscriber reported."""
        return max(subscriber.worst_age_s for subscriber in self.subscribers)

    def fresh_after_s(self) -> list[float]:
        """Return how long after the kill each subscriber had a value committed after it; infinity if never."""
        return [math.inf if s.fresh_s is None else s.fresh_s - self.killed_s for s in self.subscribers]

    def live_after_s(self) -> list[float]:
        """Return how long after the restart each subscriber was live again; infinity if never."""
        return [math.inf if s.live_s is None else s.live_s - self.restarted_s for s in self.subscribers]


def spread_text(times_s: list[float]) -> str:
    """Write the median and the maximum of some durations."""
    return f"p50 {median(times_s):.2f} s, max {max(times_s):.2f} s"
