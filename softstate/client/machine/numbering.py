"""Numbers of publishes, which make them safe to repeat (P-PUB-9): what was used, and up to where all is settled."""

from __future__ import annotations

from typing import TypeAlias


class Numbering:
    """The numbers of one publisher. `last` is the highest that was used."""

    def __init__(self, publisher: str) -> None:
        self.publisher = publisher
        self.last = 0
        # In ascending order, since numbers are taken so.
        self._open: dict[int, None] = {}

    @property
    def idle(self) -> bool:
        """Whether every number is settled."""
        return not self._open

    @property
    def settled(self) -> int:
        """The number up to which every publish is settled: acknowledged, refused or given up."""
        return next(iter(self._open), self.last + 1) - 1

    def take(self) -> int:
        """Use the next number; return it."""
        self.last += 1
        self._open[self.last] = None
        return self.last

    def settle(self, seq: int) -> None:
        """Note that the publish with this number is settled. A number is settled once."""
        del self._open[seq]

    def has_room(self, seq: int, inflight_max: int) -> bool:
        """Tell whether a node takes this number: it is not too far beyond what is settled."""
        return seq - self.settled <= inflight_max


Numbered: TypeAlias = tuple[Numbering, int]
"""A number and its publisher."""
