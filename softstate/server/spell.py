"""Spells: a failure that repeats is logged once when it begins, and once when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio


@final
class Spell:
    """One kind of failure. `began` is called with the reason of the first one, `ended` with how many there were.

    A success ends it, if the last failure is `quiet_s` seconds old at least: so failures and successes that alternate
    are one spell. `now` is a clock in seconds.
    """

    def __init__(
        self,
        began: Callable[[str], None],
        ended: Callable[[int], None],
        *,
        quiet_s: float = 0.0,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self.failures = 0
        """Failures of the spell that is on; 0 if none is."""
        self.because = ""
        """The reason of the last failure."""
        self._began = began
        self._ended = ended
        self._quiet_s = quiet_s
        self._now = now
        self._failed_at = 0.0

    @property
    def on(self) -> bool:
        """Whether a spell has begun, and not ended."""
        return self.failures > 0

    @property
    def quiet_for_s(self) -> float:
        """The seconds since the last failure."""
        return self._now() - self._failed_at

    def failed(self, because: str) -> None:
        """Note a failure."""
        self.failures += 1
        self.because = because
        self._failed_at = self._now()
        if self.failures == 1:
            self._began(because)

    def succeeded(self) -> None:
        """Note a success."""
        if self.failures and self.quiet_for_s >= self._quiet_s:
            failures, self.failures = self.failures, 0
            self._ended(failures)
