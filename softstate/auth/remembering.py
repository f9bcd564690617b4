"""Dicts that hold what was wanted last, in order: a bounded memory."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

FORGOTTEN_FRACTION = 16
"""The part of a memory that is forgotten at once. To find the first entry of a dict takes as long as there are entries
that were deleted ahead of it: 2 us on average, if one of 10,000 is deleted whenever another comes; 0.2 so."""


def remember(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Put a value last, whose key is not there; of more than `most`, forget those that have been there for longest."""
    kept[key] = value
    if len(kept) > most:
        for old in [*islice(kept, 1 + most // FORGOTTEN_FRACTION)]:
            del kept[old]
