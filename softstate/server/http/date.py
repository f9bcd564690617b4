"""The ``Date`` of replies: the only place in a node that reads the wall clock, and nothing is decided by it."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import final


@final
class SharedDate:
    """Writes the present time as ``Date`` has it (RFC 9110 section 5.6.7), once for all replies of a second.

    `clock` returns seconds since 1970.
    """

    __slots__ = ("_clock", "_second", "_text")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        """Return the time, in whole seconds of GMT."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True)
        return self._text
