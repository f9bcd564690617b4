"""Checks of the changes and ages that applications see: S1, S2, S5, S8, S9, and B and L."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import final

from softstate.testing.oracle.faults import CLOCK_ERROR_MAX, FaultRecord
from softstate.testing.oracle.history import Histories, covers
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import (
    AgeSampled,
    ChangeCommitted,
    ChangeDelivered,
    ClientEnded,
    HistoryReplaced,
    LeasesDropped,
    NamesDenied,
    RecordDamaged,
    ResetDelivered,
    Subscribed,
    Unsubscribed,
)

ROUNDING_S = 1e-4

WAKING_S = 3.0
"""Seconds after its host stood still, or its clock jumped, until a client asks a node, which may not answer in time."""


@final
@dataclass(slots=True)
class _Handle:
    """One handle of one application, since its last reset: the changes delivered, and the histories that hold them."""

    subscribed: Subscribed
    known: dict[str, ChangeDelivered] = field(default_factory=dict)
    histories: set[int] | None = None
    """The histories that hold all delivered changes; None if there are none."""
    sampled: AgeSampled | None = None
    resets: list[ResetDelivered] = field(default_factory=list)


@final
class ClientChecks:
    """Follows every handle of every client.

    `margin_s` is the least difference of age and staleness seen while something was stale. `converged_s` is the longest
    time after the end of all faults for which a handle still lacked a commit from before that end.
    """

    def __init__(self, histories: Histories, faults: FaultRecord, bounds: Bounds, findings: Findings) -> None:
        self.margin_s = math.inf
        self.converged_s = 0.0
        self._histories = histories
        self._faults = faults
        self._bounds = bounds
        self._findings = findings
        self._handles: dict[tuple[str, int], _Handle] = {}
        self._damaged: set[str] = set()
        self._dropped_at: dict[str, float] = {}

    def damaged(self, event: RecordDamaged) -> None:
        """Record that a topic is unreadable, or will be where a backup from now is restored."""
        self._damaged.add(event.topic)

    def dropped(self, event: LeasesDropped) -> None:
        """Record that a node forgot the leases of clients whose connections live on."""
        self._dropped_at.update(dict.fromkeys(event.clients, event.at_s))

    def subscribed(self, event: Subscribed) -> None:
        """Record a new handle."""
        self._handles[event.client, event.handle] = _Handle(event)

    def unsubscribed(self, event: Unsubscribed) -> None:
        """Record the end of a handle."""
        self._handles.pop((event.client, event.handle), None)

    def denied(self, event: NamesDenied) -> None:
        """Take names out of a handle that its application was told it may not read."""
        handle = self._handles.get((event.client, event.handle))
        if handle is not None and not event.names:
            del self._handles[event.client, event.handle]
        elif handle is not None:
            handle.subscribed = replace(handle.subscribed, names=event.names)
            handle.known = {
                topic: given
                for topic, given in handle.known.items()
                if any(covers(name, topic) for name in event.names)
            }

    def ended(self, event: ClientEnded) -> None:
        """Record the end of a client."""
        for key in [key for key in self._handles if key[0] == event.client]:
            del self._handles[key]

    def replaced(self, _event: HistoryReplaced) -> None:
        """Add the new history to every handle whose delivered changes are all in it."""
        new = self._histories.current
        for handle in self._handles.values():
            if handle.histories is not None and all(
                new.holds(topic, given.version, deleted=given.deleted) for topic, given in handle.known.items()
            ):  # fmt: skip
                handle.histories.add(new.number)

    def reset(self, event: ResetDelivered) -> None:
        """Forget the delivered changes, as an application does."""
        handle = self._handles[event.client, event.handle]
        handle.known.clear()
        handle.histories = None
        handle.resets = [event]

    def delivered(self, event: ChangeDelivered) -> None:
        """Check a delivered change: S1, S2, S8, S9."""
        handle = self._handles[event.client, event.handle]
        party = _party(event)
        before = handle.known.get(event.topic)
        holding = self._histories.holding(event.topic, event.version, deleted=event.deleted, value=event.value)
        if not holding:
            self._findings.add(
                "S2", event.at_s, party, f"version {event.version} was never committed like this", before, event
            )
        elif before is not None and event.version <= before.version:
            promise = "S8" if before.deleted and not event.deleted else "S1"
            self._findings.add(
                promise, event.at_s, party, f"{event.version} came after {before.version}", before, event
            )
        else:
            known = holding if handle.histories is None else holding & handle.histories
            if not known:
                others = list(handle.known.values())[-2:]
                what = "earlier changes are of another history, and no Reset came between"
                self._findings.add("S9", event.at_s, party, what, *others, event)
            handle.histories = known or holding
        handle.known[event.topic] = event

    def sampled(self, event: AgeSampled) -> None:
        """Check an age: S5 and B, and L once all faults have ended for long enough.

        S18: the topics that are refused as unreadable are damaged, or were until a moment ago. They have no age.
        Exempt from S5: clients whose clock was off by more than 1 % at some time. If that of a node was fast by more,
        beats may make an age too young by the time for which they travel (P-BEAT-6); renewals bound it then. A state
        that a restored backup brings back counts from its return, and one that the restore removes is wrong from then
        on.
        Exempt from B: the time of a store fault and a minute after it (nothing is certified then), infinite ages (a
        name just added), and the first seconds after a client stood still or its clock jumped. The bound is that of
        renewals once a clock is off by more than 1 %, since beats prove nothing then; after one has jumped, until a
        renewal tells what it reads; for a client that has read slowly, since all that comes through is a sign of
        life, and beats wait behind it; and after a node has forgotten its lease, but not its connection: then answers
        to its publishes are signs of life, without beats (P-BEAT-7), as pushes are while beats are lost on the way.
        Over a slow link a beat is as old as it is long on the way, and all that was sent ahead of it is a sign of life.
        """
        handle = self._handles.get((event.client, event.handle))
        if handle is None or not self._histories.all:
            return
        handle.sampled = event
        self._check_contained(event)
        stale_s, topic = self._staleness(handle, event.at_s, event.unreadable)
        evidence = (handle.known.get(topic), self._latest(topic), event)
        if self._faults.clock_good(event.client) and event.age_s < math.inf:
            misled = handle.subscribed.beat_s < math.inf and self._faults.node_clock_fast
            allowed_s = max(event.age_s, self._bounds.cut_off_s) if misled else event.age_s
            if stale_s > 0:
                self.margin_s = min(self.margin_s, allowed_s - stale_s)
            if stale_s > allowed_s + ROUNDING_S:
                what = f"{topic} is stale for {stale_s:.3f} s at an age of {event.age_s:.3f} s"
                self._findings.add("S5", event.at_s, _party(event), what, *evidence)
        self._check_cut_off(event, handle.subscribed.beat_s)
        # A handle cannot have lacked anything for longer than it exists.
        self._check_converged(event, min(stale_s, event.at_s - handle.subscribed.at_s), topic)

    def _check_contained(self, event: AgeSampled) -> None:
        for topic in event.unreadable:
            if topic not in self._damaged:
                self._findings.add(
                    "S18", event.at_s, _party(event), f"{topic} is refused, and never was damaged", event
                )
        healed = self._faults.healed_at_s
        if event.unreadable and healed is not None and event.at_s - healed > self._bounds.converge_s:
            what = f"{event.unreadable[0]} is refused still, {event.at_s - healed:.3f} s after it was published again"
            self._findings.add("S18", event.at_s, _party(event), what, event)

    def _check_cut_off(self, event: AgeSampled, beat_s: float) -> None:
        if event.mode != "live" or event.age_s == math.inf or self._faults.store_faulty(event.at_s):
            return
        if self._faults.just_woken(event.client, event.at_s, WAKING_S + self._bounds.timeout_s):
            return
        bound_s = self._bounds.cut_off_s
        if self._beats_certify(event, bound_s):
            bound_s = min(
                bound_s, self._bounds.beaten_s(beat_s) + self._faults.travel_s(event.client, event.at_s, bound_s)
            )
        # Ages allow for a clock that is 1 % slow, so they may exceed the time that has passed by as much.
        bound_s *= self._faults.fastest(event.client) / (1 - CLOCK_ERROR_MAX)
        if event.age_s > bound_s:
            what = f"live at an age of {event.age_s:.3f} s, above {bound_s:g} s"
            self._findings.add("B", event.at_s, _party(event), what, event)

    def _beats_certify(self, event: AgeSampled, renewed_s: float) -> bool:
        """Tell whether beats can keep ages below what renewals do, `renewed_s`; see `sampled` for what keeps them."""
        faults = self._faults
        if faults.has_read_slowly(event.client) or faults.clock_jumped(event.at_s, renewed_s):
            return False
        if faults.frames_lost(event.at_s, renewed_s):
            return False
        return faults.clocks_good and event.at_s - self._dropped_at.get(event.client, -math.inf) > renewed_s

    def _check_converged(self, event: AgeSampled, stale_s: float, topic: str) -> None:
        healed = self._faults.healed_at_s
        if healed is None or stale_s <= 0:
            return
        after_s = event.at_s - healed
        if stale_s >= after_s:
            self.converged_s = max(self.converged_s, after_s)
        bound_s = self._bounds.converge_s
        if after_s > bound_s and stale_s > bound_s:
            what = f"{topic} is stale for {stale_s:.3f} s, {after_s:.3f} s after the last fault"
            self._findings.add("L", event.at_s, _party(event), what, self._latest(topic), event)

    def finish(self, at_s: float) -> None:
        """Check L: every handle that is left has been sampled, and has a finite, bounded age."""
        healed = self._faults.healed_at_s
        if healed is None or at_s - healed < self._bounds.converge_s:
            return
        for (client, number), handle in self._handles.items():
            last = handle.sampled
            if handle.subscribed.at_s > at_s - self._bounds.converge_s:
                continue
            if last is None or last.age_s > self._bounds.converge_s + self._bounds.poll_s:
                self._findings.add(
                    "L", at_s, f"{client}#{number}", "never reached a certified state again", handle.subscribed, last
                )

    def _staleness(self, handle: _Handle, at_s: float, unreadable: Collection[str]) -> tuple[float, str]:
        """Return for how long the stalest topic that can be read has been stale, and its name."""
        stale_s, stalest = 0.0, ""
        for topic in dict.fromkeys([*self._histories.topics_under(handle.subscribed.names), *handle.known]):
            if topic in unreadable:
                continue
            given = handle.known.get(topic)
            version, deleted = (given.version, given.deleted) if given is not None else (0, True)
            since = self._histories.wrong_since(topic, version, deleted=deleted)
            if since is not None and at_s - since > stale_s:
                stale_s, stalest = at_s - since, topic
        return stale_s, stalest

    def _latest(self, topic: str) -> ChangeCommitted | None:
        entry = self._histories.current.latest(topic)
        return entry.event if entry is not None else None


def _party(event: ChangeDelivered | AgeSampled) -> str:
    topic = f" {event.topic}" if isinstance(event, ChangeDelivered) else ""
    return f"{event.client}#{event.handle}{topic}"
