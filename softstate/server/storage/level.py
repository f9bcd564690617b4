"""The level: how old this node's knowledge is, told without asking the store.

A read of the store's head finds all that was committed before the read began; once the hub has reached that head, the
node has passed all of it on. So an answer at the hub's position is complete as of that beginning, and says by how much
that lies back (``lag_ms``; P-REN-12). It proves nothing younger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

from softstate.position import Position
from softstate.server.fanout.hub import Hub
from softstate.server.storage.guard import StoreGuard

LEVEL_S_MAX = 0.25
"""How old the level may be to answer from, in seconds, instead of asking the store; the age of what is answered grows
by as much. Of 50 renewals a second, which come alone, one in twelve reads the head."""

Clock: TypeAlias = Callable[[], float]


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """The moment at which a read of the head began, and the history that it is of."""

    began: float
    generation: int | None
    restarts: int


@final
class Level:
    """The newest head read that the hub has reached. `told` returns the highest revision that a client was told.

    It is of one history: nothing is left of it once the store was opened again, or the hub begins a new history. And it
    says nothing while the hub is behind a position that this node has told: the client would be led back.

    `now` is the node's clock. It has to run while the machine sleeps: others may have committed all the while.
    """

    def __init__(self, hub: Hub, guard: StoreGuard, now: Clock, told: Callable[[], int]) -> None:
        self._hub = hub
        self._guard = guard
        self._now = now
        self._told = told
        self._reached: Reading | None = None
        self._position = hub.position

    def begin(self) -> Reading:
        """Note that a read of the store, which finds its head, begins now."""
        return Reading(self._now(), self._guard.generation, self._hub.restarts)

    def reached(self, reading: Reading) -> None:
        """Note that the hub has reached the head that a read has found, in the same lineage."""
        known = self._reached
        if not self.is_of_this_history(reading):
            return
        if known is None or reading.began >= known.began or not self.is_of_this_history(known):
            self._reached, self._position = reading, self._hub.position

    def read(self, reading: Reading, head: Position) -> None:
        """Note what a read of anything has found to be the head, if the hub is there already."""
        position = self._hub.position
        if head.same_lineage(position) and head.revision <= position.revision:
            self.reached(reading)

    def lag_s(self, moment: Reading | None = None) -> float:
        """Return how far what the hub has passed on lies behind the store at most, in seconds; infinity if unknown.

        Behind the store as it was at a `moment`, if one is given, rather than as it is now.
        """
        reading = self._reached
        if reading is None or not self.is_of_this_history(reading) or self._hub.position.revision < self._told():
            return math.inf
        return max((self._now() if moment is None else moment.began) - reading.began, 0.0)

    def certified(self) -> tuple[Position, float] | None:
        """Return a position up to which all was passed on, and when, by the node's clock, it was the end of history.

        None if this is not known of the present history.
        """
        reading = self._reached
        if reading is None or not self.is_of_this_history(reading):
            return None
        return self._position, reading.began

    def is_of_this_history(self, reading: Reading) -> bool:
        """Tell whether the store was not opened again since a read began, nor did the hub begin a new history."""
        generation = self._guard.generation
        return generation is not None and (generation, self._hub.restarts) == (reading.generation, reading.restarts)
