"""The clock behind every age.

Age must go on while the host is suspended (P-CLI-3), so it is read from CLOCK_BOOTTIME where there is one, and so are
the machine's timers. Tasks can only wait on the loop's clock, which may stand still meanwhile; so a client looks every
second. Comparing both clocks is also how it learns that it slept (`softstate.client.jumps`) and its lease may be over.
"""

from __future__ import annotations

import time
from typing import Protocol, final

import anyio
import trio


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


@final
class LoopClock:
    """The clock of the running loop, Trio's or asyncio's: stands still in suspend."""

    def now(self) -> float:
        """Return the time in seconds. Raises RuntimeError outside of a loop."""
        return anyio.current_time()


def system_clock() -> Clock:
    """Return the best clock of this system: one that runs during suspend, where there is one."""
    return BootClock() if hasattr(time, "CLOCK_BOOTTIME") else LoopClock()
