"""The clock of a node: of its leases, and of the age of what it knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

_RUNS_IN_SUSPEND = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def node_clock() -> Callable[[], float]:
    """Return a clock that counts seconds from now on, also while the host is suspended (CLOCK_BOOTTIME; Linux).

    Others may commit all the while, so knowledge grows old; and clients count their leases by such clocks (P-CLI-3).
    """
    return partial(_since, time.clock_gettime(_RUNS_IN_SUSPEND))


def _since(start: float) -> float:
    return time.clock_gettime(_RUNS_IN_SUSPEND) - start
