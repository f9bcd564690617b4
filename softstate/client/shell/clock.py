"""The clock behind every age, and the check that notices a host which slept.

Age must go on while the host is suspended (P-CLI-3), so it is read from CLOCK_BOOTTIME where there is one, and so are
the machine's timers. Tasks can only wait on Trio's clock, which stands still meanwhile; so a client looks every second.
Comparing the two clocks is also how it learns that it slept, and that its lease may be over.
"""

from __future__ import annotations

import time
from typing import Protocol, final

import trio

JUMP_S_MAX = 1.0
"""How far the two clocks may drift apart between two checks before the host is taken to have slept."""


class Clock(Protocol):
    """Seconds since some fixed moment, never going back. The simulation has its own."""

    def now(self) -> float:
        """Return the time in seconds."""
        ...


@final
class BootClock:
    """Seconds since boot, suspended or not (CLOCK_BOOTTIME; Linux)."""

    def now(self) -> float:
        """Return the time in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


@final
class TrioClock:
    """The clock of the running Trio loop: stands still in suspend, and is virtual under `trio.testing.MockClock`."""

    def now(self) -> float:
        """Return the time in seconds. Raises RuntimeError outside `trio.run`."""
        return trio.current_time()


def system_clock() -> Clock:
    """Return the best clock of this system: one that runs during suspend, where there is one."""
    return BootClock() if hasattr(time, "CLOCK_BOOTTIME") else TrioClock()


@final
class JumpDetector:
    """Notices that `clock` and Trio's clock moved by different amounts since the last look.

    Looks are compared with the one before, not with the first, so that clocks which merely run at slightly different
    rates never add up to a jump.
    """

    __slots__ = ("_clock", "_offset_s")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = self._read()

    def jumped(self) -> bool:
        """Look; tell whether the clocks drifted apart by more than `JUMP_S_MAX` since the last look."""
        before, self._offset_s = self._offset_s, self._read()
        return abs(self._offset_s - before) > JUMP_S_MAX

    def _read(self) -> float:
        return self._clock.now() - trio.current_time()
