"""Minimise a failing input: remove chunks of decreasing size while it still fails.

Delta debugging's ddmin without its complements (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
Input", IEEE TSE 2002): no single byte of the result can be removed, unless `tries_max` ran out.
"""

from __future__ import annotations

from collections.abc import Callable

TRIES_MAX = 2_000


def minimise(data: bytes, fails: Callable[[bytes], bool], tries_max: int = TRIES_MAX) -> bytes:
    """Return a smaller input for which `fails` still holds, after at most `tries_max` calls of it."""
    size = max(len(data) // 2, 1)
    while size and tries_max > 0:
        at, shrunk = 0, False
        while at < len(data) and tries_max > 0:
            tries_max -= 1
            smaller = data[:at] + data[at + size :]
            if fails(smaller):
                data, shrunk = smaller, True
            else:
                at += size
        if not (shrunk and size == 1):
            size //= 2
    return data
