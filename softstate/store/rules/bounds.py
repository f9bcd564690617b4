"""Telling that a store nears the most that it may remember, while there is still time to do something about it."""

from __future__ import annotations

from collections.abc import Sequence

NEAR = 0.8
"""The part of a bound from which on it is warned of."""


def near_bounds(*, keys: int, keys_max: int, publishers: int, publishers_max: int) -> Sequence[str]:
    """Return a sentence for each bound that is nearly reached: what is held, what happens then, and what to do."""
    bounds = (
        ("idempotency keys", keys, keys_max, "publishes with a new key", "keys_max, or lower key_ms"),
        ("publishers", publishers, publishers_max, "publishes of new publishers", "publishers_max, or lower key_ms"),
    )
    return [
        f"{NEAR:.0%} or more of the {what} that may be held ({most:,}) are: beyond it {refused} are refused as"
        f" overloaded; raise {remedy}"
        for what, held, most, refused, remedy in bounds
        if held >= NEAR * most
    ]
