"""Bounds of options, as data: checked at start, shown by ``serve --help`` and in `OPTIONS.md`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from softstate.errors import ConfigError

NUMBER_MAX = 2**53
"""Largest number that any option may have: above it, arithmetic with seconds is no longer exact."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The numbers that an option takes: from `low`, which itself is left out if `exclusive`, up to `high`."""

    low: float
    high: float = NUMBER_MAX
    exclusive: bool = False

    def text(self, write: Callable[[float], str] = str) -> str:
        """Return this bound in words, to follow "must be", its numbers as `write` writes them."""
        if self.high < NUMBER_MAX:
            return f"{write(self.low)} to {write(self.high)}"
        return f"{'above' if self.exclusive else 'at least'} {write(self.low)}"

    def check(self, name: str, value: float, unit: str = "") -> None:
        """Raise `ConfigError`, which names the option and the bound, unless `value` is within it.

        `unit` is put behind each number of the message.
        """
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, not {value}")
        if value > NUMBER_MAX:
            raise ConfigError(f"{name} must be at most {NUMBER_MAX}")
        if not self.low <= value <= self.high or (self.exclusive and value == self.low):
            raise ConfigError(f"{name} must be {self.text(lambda number: f'{number}{unit}')}, not {value}{unit}")


def above(low: float) -> Bound:
    """Return the bound of numbers greater than `low`."""
    return Bound(low, exclusive=True)


def at_least(low: float) -> Bound:
    """Return the bound of numbers not below `low`."""
    return Bound(low)


def between(low: float, high: float) -> Bound:
    """Return the bound of numbers from `low` to `high`, both included."""
    return Bound(low, high)
