"""Whether the loop has work, or waits: what the measured rates of a node need to know.

In simulation time passes while a node "works", and its loop sleeps meanwhile: there, all of it counts as work.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, final

import trio


class Rate(Protocol):
    """A rate that is measured; see `softstate.session.ServiceRate`."""

    def waits(self, now: float) -> None:
        """Note that the node waits."""

    def goes_on(self, now: float) -> None:
        """Note that the node waits no longer."""


@final
class _Waits(trio.abc.Instrument):
    """Is called by Trio's loop ahead of each wait and after it."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._rates = rates

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            now = trio.current_time()
            for rate in self._rates:
                rate.waits(now)

    def after_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            now = trio.current_time()
            for rate in self._rates:
                rate.goes_on(now)


@contextmanager
def waits_told(rates: Sequence[Rate]) -> Generator[None]:
    """Tell rates when the loop waits for others, and when it goes on, during a block.

    Costs 1.4 us a wait, 5 with requests in progress (timeit).
    """
    waits = _Waits(rates)
    trio.lowlevel.add_instrument(waits)
    try:
        yield
    finally:
        # If it has met a bug, Trio has logged that and removed it.
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(waits)
