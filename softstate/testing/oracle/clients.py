"""What applications may see: S1, S2, S5, S8, S9, and B and L."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

from softstate.testing.oracle.faults import CLOCK_ERROR_MAX, FaultRecord
from softstate.testing.oracle.history import Histories
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import (
    AgeSampled,
    Applied,
    ClientEnded,
    Committed,
    HistoryReplaced,
    ResetSeen,
    Unwanted,
    Wanted,
)

ROUNDING_S = 1e-4

WAKING_S = 3.0
"""How soon after its host stood still, or its clock jumped, a client asks a node, which may not answer in time."""


@final
@dataclass(slots=True)
class _Handle:
    """One subscription of one application, since its last reset: what it was given, and where that can be from."""

    wanted: Wanted
    known: dict[str, Applied] = field(default_factory=dict)
    histories: set[int] | None = None
    """The histories that hold all that was given; None: nothing was."""
    sampled: AgeSampled | None = None
    resets: list[ResetSeen] = field(default_factory=list)


@final
class ClientChecks:
    """Follows every handle of every client.

    `margin_s` is the least age less staleness seen while something was stale, `converged_s` the longest time, after all
    faults had been taken back, for which somebody still lacked a commit of before that.
    """

    def __init__(self, histories: Histories, faults: FaultRecord, bounds: Bounds, findings: Findings) -> None:
        self.margin_s = math.inf
        self.converged_s = 0.0
        self._histories = histories
        self._faults = faults
        self._bounds = bounds
        self._findings = findings
        self._handles: dict[tuple[str, int], _Handle] = {}

    def wanted(self, event: Wanted) -> None:
        """Take a new handle."""
        self._handles[event.client, event.handle] = _Handle(event)

    def unwanted(self, event: Unwanted) -> None:
        """Take the end of a handle."""
        self._handles.pop((event.client, event.handle), None)

    def ended(self, event: ClientEnded) -> None:
        """Take the end of a client."""
        for key in [key for key in self._handles if key[0] == event.client]:
            del self._handles[key]

    def replaced(self, _event: HistoryReplaced) -> None:
        """Let what was given before also be from the new history, if all of it is in there."""
        new = self._histories.now
        for handle in self._handles.values():
            if handle.histories is not None and all(
                new.holds(topic, given.version, deleted=given.deleted) for topic, given in handle.known.items()
            ):  # fmt: skip
                handle.histories.add(new.number)

    def reset(self, event: ResetSeen) -> None:
        """Forget what was given, as an application does."""
        handle = self._handles[event.client, event.handle]
        handle.known.clear()
        handle.histories = None
        handle.resets = [event]

    def applied(self, event: Applied) -> None:
        """Check what an application was given: S1, S2, S8, S9."""
        handle = self._handles[event.client, event.handle]
        who = _who(event)
        before = handle.known.get(event.topic)
        holding = self._histories.holding(event.topic, event.version, deleted=event.deleted, value=event.value)
        if not holding:
            self._findings.add("S2", event.at, who, f"version {event.version} was never committed so", before, event)
        elif before is not None and event.version <= before.version:
            promise = "S8" if before.deleted and not event.deleted else "S1"
            self._findings.add(promise, event.at, who, f"{event.version} came after {before.version}", before, event)
        else:
            known = holding if handle.histories is None else holding & handle.histories
            if not known:
                others = list(handle.known.values())[-2:]
                told = "what was given before is of another history, and no Reset came between"
                self._findings.add("S9", event.at, who, told, *others, event)
            handle.histories = known or holding
        handle.known[event.topic] = event

    def sampled(self, event: AgeSampled) -> None:
        """Check an age: S5 and B, and L once everything was healed for long enough.

        Exempt from S5: clients whose clock was ever off by more than 1 %. What a restored backup brings back counts
        from its return, and what it does away with is wrong from then on.
        Exempt from B: the time of a store fault and a minute after it (nothing is certified then), infinite ages (a
        name just added), and the first seconds after a client stood still or its clock jumped.
        """
        handle = self._handles.get((event.client, event.handle))
        if handle is None or not self._histories.all:
            return
        handle.sampled = event
        stale_s, topic = self._staleness(handle, event.at)
        because = (handle.known.get(topic), self._latest(topic), event)
        if self._faults.clock_good(event.client) and event.age_s < math.inf:
            if stale_s > 0:
                self.margin_s = min(self.margin_s, event.age_s - stale_s)
            if stale_s > event.age_s + ROUNDING_S:
                told = f"{topic} is stale for {stale_s:.3f} s at an age of {event.age_s:.3f} s"
                self._findings.add("S5", event.at, _who(event), told, *because)
        self._check_cut_off(event)
        # Whoever has just come cannot have lacked anything for longer.
        self._check_converged(event, min(stale_s, event.at - handle.wanted.at), topic)

    def _check_cut_off(self, event: AgeSampled) -> None:
        if event.mode != "live" or event.age_s == math.inf or self._faults.store_faulty(event.at):
            return
        if self._faults.just_woken(event.client, event.at, WAKING_S + self._bounds.timeout_s):
            return
        # Ages allow for a clock that is 1 % slow, so they may be that much above what has passed.
        bound_s = self._bounds.cut_off_s * self._faults.fastest(event.client) / (1 - CLOCK_ERROR_MAX)
        if event.age_s > bound_s:
            told = f"live at an age of {event.age_s:.3f} s, above {bound_s:g} s"
            self._findings.add("B", event.at, _who(event), told, event)

    def _check_converged(self, event: AgeSampled, stale_s: float, topic: str) -> None:
        healed = self._faults.healed_at
        if healed is None or stale_s <= 0:
            return
        after_s = event.at - healed
        if stale_s >= after_s:
            self.converged_s = max(self.converged_s, after_s)
        bound_s = self._bounds.converge_s
        if after_s > bound_s and stale_s > bound_s:
            told = f"{topic} is stale for {stale_s:.3f} s, {after_s:.3f} s after the last fault"
            self._findings.add("L", event.at, _who(event), told, self._latest(topic), event)

    def finish(self, at: float) -> None:
        """Check L: everybody who is still there has been looked at, and knows how old its knowledge is."""
        healed = self._faults.healed_at
        if healed is None or at - healed < self._bounds.converge_s:
            return
        for (client, number), handle in self._handles.items():
            last = handle.sampled
            if handle.wanted.at > at - self._bounds.converge_s:
                continue
            if last is None or last.age_s > self._bounds.converge_s + self._bounds.poll_s:
                self._findings.add(
                    "L", at, f"{client}#{number}", "never arrived at a certain state again", handle.wanted, last
                )

    def _staleness(self, handle: _Handle, at: float) -> tuple[float, str]:
        """Return for how long the stalest topic has been stale, and which that is."""
        stale_s, stalest = 0.0, ""
        for topic in dict.fromkeys([*self._histories.topics_under(handle.wanted.names), *handle.known]):
            given = handle.known.get(topic)
            version, deleted = (given.version, given.deleted) if given is not None else (0, True)
            since = self._histories.wrong_since(topic, version, deleted=deleted)
            if since is not None and at - since > stale_s:
                stale_s, stalest = at - since, topic
        return stale_s, stalest

    def _latest(self, topic: str) -> Committed | None:
        entry = self._histories.now.latest(topic)
        return entry.event if entry is not None else None


def _who(event: Applied | AgeSampled) -> str:
    topic = f" {event.topic}" if isinstance(event, Applied) else ""
    return f"{event.client}#{event.handle}{topic}"
