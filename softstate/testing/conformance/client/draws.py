"""Random draws: recorded as they are made, and given again in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TypeAlias, final

Draw: TypeAlias = float | str
"""A number from 0 up to 1, from which `uniform` is made, or the 32 hexadecimal digits of a publisher's id."""

PUBLISHER_BITS = 128
DIGITS = 3
"""Digits behind the point that a number drawn for a trace has: they are read by people."""


class DrawsDiffer(AssertionError):
    """A machine draws what the trace does not have, or leaves some of it."""


@final
class RecordedDraws(Random):
    """Draws from a generator of its own, and notes each draw. `seed` after the first is ignored: a fork draws on."""

    def __init__(self, seed: int) -> None:
        self._source = Random(seed)
        self._noted: list[Draw] = []
        super().__init__(seed)

    def take(self) -> list[Draw]:
        """Return the draws since this was last called."""
        noted, self._noted = self._noted, []
        return noted

    def random(self) -> float:
        """Draw a number."""
        number = round(self._source.random(), DIGITS) % 1.0
        self._noted.append(number)
        return number

    def getrandbits(self, k: int, /) -> int:
        """Draw a publisher's id."""
        _check_bits(k)
        number = self._source.getrandbits(k)
        self._noted.append(f"{number:032x}")
        return number

    def seed(self, *_: object) -> None:
        """Go on with the same generator."""


@final
class GivenDraws(Random):
    """Gives the draws of a trace in order, and raises `DrawsDiffer` for any other."""

    def __init__(self) -> None:
        self._given: list[Draw] = []
        self._drawn: list[Draw] = []
        super().__init__()

    def give(self, draws: Iterable[Draw]) -> None:
        """Have these drawn next."""
        self._given = list(draws)

    def take(self) -> list[Draw]:
        """Return the draws since this was last called."""
        drawn, self._drawn = self._drawn, []
        return drawn

    def check_all_drawn(self) -> None:
        """Raise `DrawsDiffer` if some that were given have not been drawn."""
        if self._given:
            raise DrawsDiffer(f"not drawn: {self._given}")

    def random(self) -> float:
        """Draw a number."""
        number = self._next("a number")
        if not isinstance(number, int | float):
            raise DrawsDiffer(f"a number was drawn where a publisher's id was: {number}")
        return number

    def getrandbits(self, k: int, /) -> int:
        """Draw a publisher's id."""
        _check_bits(k)
        digits = self._next("a publisher's id")
        if not isinstance(digits, str):
            raise DrawsDiffer(f"a publisher's id was drawn where a number was: {digits}")
        return int(digits, 16)

    def seed(self, *_: object) -> None:
        """Go on with the draws that were given."""

    def _next(self, what: str) -> Draw:
        if not self._given:
            raise DrawsDiffer(f"{what} was drawn, and the trace has no further draw in this step")
        draw = self._given.pop(0)
        self._drawn.append(draw)
        return draw


def _check_bits(bits: int) -> None:
    if bits != PUBLISHER_BITS:
        raise DrawsDiffer(f"{bits} random bits were drawn: only a publisher's id, of {PUBLISHER_BITS}, is")
