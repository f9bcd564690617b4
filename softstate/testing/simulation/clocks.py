"""Clocks that are wrong: one for each simulated host, on top of the one true time of the world."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import trio

RESOLUTION_PER_S = 1_000_000
"""Readings are whole microseconds: a wait for the rest of one could be too short for the world's own clock to move."""


@final
class NodeClock:
    """Seconds since some moment, running at `rate` times the true rate; never goes back.

    It has what `softstate.client.shell.clock.Clock` asks for; `now` is also what a `Node` takes. For a client it
    stands for the clock that runs in suspend: `jump` it, and the client notices, by comparing it with Trio's, that it
    slept. For a node, `suspend` is its host's sleep: leases get no older.
    """

    def __init__(
        self, offset_s: float = 0.0, rate: float = 1.0, *, true_time: Callable[[], float] = trio.current_time
    ) -> None:
        self._true_time = true_time
        self._rate = rate
        self._suspended = False
        self._true_s = true_time()
        self._read_s = self._true_s + offset_s

    def now(self) -> float:
        """Return the time in seconds."""
        return math.floor(self._exactly() * RESOLUTION_PER_S) / RESOLUTION_PER_S

    def set_rate(self, rate: float) -> None:
        """Run at another rate from now on; must not be negative."""
        self._settle()
        self._rate = rate

    def jump(self, by_s: float) -> None:
        """Go ahead by so many seconds at once."""
        self._settle()
        self._read_s += max(by_s, 0.0)

    def suspend(self) -> None:
        """Stand still until `resume`."""
        self._settle()
        self._suspended = True

    def resume(self) -> None:
        """Go on."""
        self._settle()
        self._suspended = False

    def _exactly(self) -> float:
        if self._suspended:
            return self._read_s
        return self._read_s + (self._true_time() - self._true_s) * self._rate

    def _settle(self) -> None:
        self._read_s, self._true_s = self._exactly(), self._true_time()
