"""An oracle's bounds, and its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from softstate.testing.trace import TraceEvent

VIOLATIONS_MAX = 100
"""Violations kept; those after the first rarely add anything."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The figures that the promises are stated in, in seconds, with a node's defaults.

    `service_s` is an allowance for round trips.
    """

    ttl_s: float = 60.0
    renew_s: float = 20.0
    timeout_s: float = 5.0
    poll_s: float = 15.0
    cap_s: float = 30.0
    spread_s: float = 1.0
    service_s: float = 10.0
    slack_s: float = 1.0
    """Allowance for travel, and for the wait between an event and the sample that shows it."""
    pending_max: int = 1_024
    pending_bytes_max: int = 1024 * 1024
    key_s: float = 600.0
    durable: bool = True
    """Whether the store claims durability, on which S3 depends."""

    rules_s: float = 0.0
    """Time within which nodes know that rules have changed: at once, unless they read files or ask a callout."""
    keys_s: float = 0.0
    """Time within which they know that a token is no longer good, though it has not ended."""

    @property
    def cut_off_s(self) -> float:
        """B: the highest age of a live client's knowledge that only renewals certify."""
        return 1.2 * self.renew_s + self.timeout_s + self.slack_s

    def beaten_s(self, beat_s: float) -> float:
        """B: the highest age of a live client's knowledge that beats certify, `beat_s` apart or less."""
        return 1.2 * max(beat_s, 1.0) + self.timeout_s + self.spread_s + self.slack_s

    @property
    def converge_s(self) -> float:
        """L: for how long after the last fault a client may differ from the store; regular timers vary by 20 %."""
        return max(self.spread_s, self.cap_s, 1.2 * self.poll_s, 1.2 * self.renew_s + self.timeout_s) + self.service_s

    @property
    def lease_s(self) -> float:
        """S10: for how long the lease of a client that vanished may stay."""
        return 1.1 * self.ttl_s + 2.0 * self.slack_s


@final
@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that did not hold: at which virtual second, for which party, in words, and the events that show it."""

    promise: str
    at_s: float
    party: str
    what: str
    evidence: tuple[TraceEvent, ...] = ()

    def __str__(self) -> str:
        shown = "".join(f"\n    {event}" for event in self.evidence)
        return f"{self.promise} broken at {self.at_s:.3f} s, {self.party}: {self.what}{shown}"


class PromiseBroken(AssertionError):
    """At least one promise did not hold; `violations` are all that were found."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("\n".join(map(str, violations[:5])) + (f"\n… of {len(violations)}" if violations[5:] else ""))
        self.violations = violations


@final
@dataclass(slots=True)
class Findings:
    """The violations so far, at most one for each promise and party: the first explains the rest."""

    violations: list[Violation] = field(default_factory=list)
    _found: set[tuple[str, str]] = field(default_factory=set)

    def add(self, promise: str, at_s: float, party: str, what: str, *evidence: TraceEvent | None) -> None:
        """Record a violation; events that are None are left out."""
        if (promise, party) in self._found or len(self.violations) >= VIOLATIONS_MAX:
            return
        self._found.add((promise, party))
        events = tuple(event for event in evidence if event is not None)
        self.violations.append(Violation(promise, at_s, party, what, events))
