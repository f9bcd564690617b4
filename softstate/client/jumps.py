"""The check that notices a host which slept, by two clocks of which one stands still meanwhile."""

from __future__ import annotations

from typing import final

JUMP_S_MAX = 1.0
"""How far the two clocks may drift apart between two looks before the host is taken to have slept."""


@final
class JumpDetector:
    """Notices that two clocks moved by different amounts since the last look.

    Looks are compared with the one before, not with the first, so that clocks which merely run at slightly different
    rates never add up to a jump.
    """

    __slots__ = ("_offset_s",)

    def __init__(self, clock_s: float, loop_s: float) -> None:
        self._offset_s = clock_s - loop_s

    def jumped(self, clock_s: float, loop_s: float) -> bool:
        """Look at both clocks; tell whether they drifted apart by more than `JUMP_S_MAX` since the last look."""
        before, self._offset_s = self._offset_s, clock_s - loop_s
        return abs(self._offset_s - before) > JUMP_S_MAX
