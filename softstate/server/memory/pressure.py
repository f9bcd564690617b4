"""How full the memory of a node is, by two counts, and what follows from that. Sans-I/O.

One count is an estimate, of what the node knows to hold: it is of this moment, and misses what nobody foresaw. The
other is the resident memory, which holds everything; but what a process has given back to its own heap, the system
still counts as resident. So what has been freed since the most was held is taken off, as far as the system has not
taken it back; and of both counts the larger one is believed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import final

TIGHT = 0.9
"""Part of the memory from which on no new names and sessions are taken, and down to which leases are ended."""

EASY = 0.85
"""Part of it below which it is said to be in order again: else it would be said with each client that comes or goes."""

LEASES_MIN = 0.1
"""Part of it that leases may always hold: if there is too little memory beside that, they are not what fills it."""


class Fill(StrEnum):
    """The states of the memory."""

    EASY = "easy"
    TIGHT = "tight"
    FULL = "full"


@final
class Pressure:
    """The memory of one node, of which it may use `most` bytes. `used` is the larger of both counts, as of `look`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.fill = Fill.EASY
        self._estimate_max = 0
        self._resident_max = 0

    def look(self, estimate: int, resident: int) -> bool:
        """Take both counts, in bytes; tell whether the state has changed."""
        self._estimate_max = max(self._estimate_max, estimate)
        self._resident_max = max(self._resident_max, resident)
        freed, returned = self._estimate_max - estimate, self._resident_max - resident
        self.used = max(estimate, resident - max(0, freed - returned))
        before, part = self.fill, self.used / self.most
        if part >= 1 or (part >= TIGHT and before is Fill.FULL):
            self.fill = Fill.FULL
        elif part >= TIGHT or (part >= EASY and before is not Fill.EASY):
            self.fill = Fill.TIGHT
        else:
            self.fill = Fill.EASY
        return self.fill is not before

    def room(self, held: int) -> float:
        """Return how many bytes leases may hold, which hold so many now, until it is tight."""
        return TIGHT * self.most - (self.used - held)

    def beyond(self) -> float:
        """Return how many bytes are too many, of all that is held; 0 unless it is full."""
        return self.used - TIGHT * self.most if self.fill is Fill.FULL else 0.0

    def excess(self, held: int) -> float:
        """Return how many bytes leases have to give back, which hold so many; 0 unless it is full, and they fill it."""
        if self.fill is not Fill.FULL:
            return 0.0
        return max(0.0, min(self.used - TIGHT * self.most, held - LEASES_MIN * self.most))
