"""The course of a recovery as a load generator sees it: counts every `STEP_S`, and when each client was fresh."""

from __future__ import annotations

import time

CLOCK = "clock"
"""The topic whose values are times of `time.monotonic` in microseconds: that at which their publish began."""
STEP_S = 0.1


class Course:
    """Rows of counts, on the clock that all processes of a machine share."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int, int, int, int, int]] = []
        """Time, clients live and fresh then; dials, dials refused, and polls until then."""
        self.fresh_s: list[float] = []
        """For each client that was fresh again: when, in seconds from the node's death."""
        self._due = 0.0

    def note(self, live: int, fresh: int, dials: int, refused: int, polls: int, *, last: bool = False) -> None:
        """Add a row, if it is the last, or the one before is older than `STEP_S`."""
        now = time.monotonic()
        if last or now >= self._due:
            self._due = now + STEP_S
            self.rows.append((now, live, fresh, dials, refused, polls))
