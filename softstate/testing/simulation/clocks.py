"""A clock for each simulated host that can be wrong, based on the world's time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import trio

RESOLUTION_PER_S = 1_000_000
"""Readings are whole microseconds: a wait for a fraction of one could be too short to move the world's clock."""


@final
class SimClock:
    """Seconds since some moment, running at `rate` times the true rate; never goes back.

    It implements `softstate.client.shell.clock.Clock`, and `now` is a clock for a `Node`. It stands for the clock that
    runs in suspend: after a `jump`, a client finds that it slept, by comparing it with Trio's clock.
    """

    def __init__(
        self, offset_s: float = 0.0, rate: float = 1.0, *, true_time: Callable[[], float] = trio.current_time
    ) -> None:
        self._true_time = true_time
        self._rate = rate
        self._true_s = true_time()
        self._read_s = self._true_s + offset_s

    def now(self) -> float:
        """Return the time in seconds."""
        return math.floor(self._exact() * RESOLUTION_PER_S) / RESOLUTION_PER_S

    def set_rate(self, rate: float) -> None:
        """Run at another rate from now on; must not be negative."""
        self._settle()
        self._rate = rate

    def jump(self, by_s: float) -> None:
        """Advance by so many seconds at once; a negative number does nothing."""
        self._settle()
        self._read_s += max(by_s, 0.0)

    def _exact(self) -> float:
        return self._read_s + (self._true_time() - self._true_s) * self._rate

    def _settle(self) -> None:
        self._read_s, self._true_s = self._exact(), self._true_time()
