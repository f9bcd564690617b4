"""How old what clients know is, and in which mode they are, as they say themselves (P-REN-13).

Nobody else knows the age of a client. What it says decides nothing, so a client that lies deceives but one entry of
many: each counts once, by what it said last, however often it says it. The word of a session counts until its lease
would end, that of a poll until the next one is due: then it has been silent for longer than it should.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from softstate.server.measure.histogram import Histogram
from softstate.wire.messages import AGE_MS_NEVER

AGES_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Bounds of the buckets of ages that metrics show."""

MODES = ("connecting", "syncing", "live", "suspect", "polling", "offline", "other")
"""The modes in which a client renews or polls, and that of one which names another."""

RATIO_MAX = 1.2
"""The buckets kept are finer than those shown: two bounds differ by this ratio at most, and so does a percentile."""

_OLDER_S = (600.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0, AGE_MS_NEVER / 1000)


def _finer() -> tuple[int, ...]:
    bounds = [50]
    for low_s, high_s in pairwise((0.05, *AGES_S, *_OLDER_S)):
        steps = math.ceil(math.log(high_s / low_s, RATIO_MAX))
        bounds += [round(low_s * 1000 * (high_s / low_s) ** (step / steps)) for step in range(1, steps + 1)]
    return tuple(bounds)


BOUNDS_MS = _finer()
"""Bounds of the buckets kept, in milliseconds; the last is that of an age that is not known."""

_CUTS = tuple(bisect_left(BOUNDS_MS, round(bound_s * 1000)) + 1 for bound_s in AGES_S)
_MODE_AT = {mode: len(BOUNDS_MS) + at for at, mode in enumerate(MODES)}
_OTHER_AT = _MODE_AT["other"]
_SUM_AT = len(BOUNDS_MS) + len(MODES)

# One report in a number: a session keeps no object for it. From the right, its age + 1, the place of its mode, its end.
_AGE_BITS, _MODE_BITS = 30, 8
_NO_AGE = 0


@dataclass(frozen=True, slots=True)
class ClientAges:
    """Clients by age. `p50_s`, `p99_s` and `max_s` are upper bounds, within a ratio of `RATIO_MAX`; None if unknown."""

    clients: int
    never: int
    p50_s: float | None
    p99_s: float | None
    max_s: float | None


@final
class ClientReports:
    """The last reports of the clients of one node. Its size is one row for each second ahead, however many they are.

    `now` and `until` are in seconds of one clock that never goes back.
    """

    def __init__(self) -> None:
        self.sampled = Histogram(AGES_S)
        """Ages as `sample` has met them: each client counts once each time."""
        self._rows: dict[int, list[int]] = {}
        self._total = [0] * (_SUM_AT + 1)
        self._passed = -1

    def say(self, until: float, age_ms: int | None, mode: str | None, instead_of: int = 0) -> int:
        """Take what a client says, which counts until `until`; return what stands for it, 0 if it said nothing.

        `instead_of` is what stood for it until now.
        """
        if instead_of:
            self.forget(instead_of)
        if age_ms is None and mode is None:
            return 0
        due = max(math.ceil(until), self._passed + 1)
        row = self._rows.get(due)
        if row is None:
            row = self._rows[due] = [0] * (_SUM_AT + 1)
        mode_at = 0 if mode is None else _MODE_AT.get(mode, _OTHER_AT)
        self._add(row, age_ms, mode_at, 1)
        said = _NO_AGE if age_ms is None else age_ms + 1
        return (due << _MODE_BITS | mode_at) << _AGE_BITS | said

    def forget(self, report: int) -> None:
        """Count a report no more, unless it is over anyway; 0 stands for none."""
        row = self._rows.get(report >> (_AGE_BITS + _MODE_BITS))
        if row is not None and report:
            said = report & ((1 << _AGE_BITS) - 1)
            mode_at = report >> _AGE_BITS & ((1 << _MODE_BITS) - 1)
            self._add(row, None if said == _NO_AGE else said - 1, mode_at, -1)

    def _add(self, row: list[int], age_ms: int | None, mode_at: int, one: int) -> None:
        total = self._total
        if age_ms is not None:
            bucket = bisect_left(BOUNDS_MS, age_ms)
            row[bucket] += one
            total[bucket] += one
            if age_ms < AGE_MS_NEVER:
                row[_SUM_AT] += one * age_ms
                total[_SUM_AT] += one * age_ms
        if mode_at:
            row[mode_at] += one
            total[mode_at] += one

    # Shown ----------------------------------------------------------------------------------------------------------

    def modes(self, now: float) -> dict[str, int]:
        """Count the clients in each mode."""
        self._pass(now)
        return {mode: self._total[at] for mode, at in _MODE_AT.items()}

    def ages(self, now: float) -> ClientAges:
        """Tell how old what the clients know is."""
        self._pass(now)
        buckets = self._total[: len(BOUNDS_MS)]
        clients = sum(buckets)
        p50_s, p99_s, max_s = (_quantile_s(buckets, clients, part) for part in (0.5, 0.99, 1.0))
        return ClientAges(clients, buckets[-1], p50_s, p99_s, max_s)

    def sample(self, now: float) -> None:
        """Count the age of every client once more. What is not known counts as longer than any bound, and as 0 s."""
        self._pass(now)
        total, counts, low = self._total, self.sampled.counts, 0
        for at, high in enumerate((*_CUTS, len(BOUNDS_MS))):
            counts[at] += sum(total[low:high])
            low = high
        self.sampled.sum_s += total[_SUM_AT] / 1000

    def _pass(self, now: float) -> None:
        second = math.floor(now)
        for due in [due for due in self._rows if due <= second]:
            for at, number in enumerate(self._rows.pop(due)):
                self._total[at] -= number
        self._passed = second


def _quantile_s(buckets: list[int], clients: int, part: float) -> float | None:
    """Return the bound below which a part of the clients is; None without clients, or if that is not known."""
    reached, left = math.ceil(part * clients), 0
    for bound_ms, number in zip(BOUNDS_MS[:-1], buckets, strict=False):
        left += number
        if clients and left >= reached:
            return bound_ms / 1000
    return None
