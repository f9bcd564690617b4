"""Rates, for any number of keys: how often each may do something, as a leaky bucket of one number for each key.

It is the generic cell rate algorithm (ITU-T I.371): for each key it is known until when what it has done pays for all
of its time. A key may be ahead of its time by a burst, and one that is not ahead needs no number.

Sans-I/O: `now` is in seconds of one clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar, final

from softstate.auth.remembering import remember

BURST_S = 1.0
"""A burst: so many seconds' worth may be done at once; one thing, if the rate is below one a second."""

KEPT_MAX = 65_536
"""Keys that are remembered; of more, those that did something longest ago are taken for such as did nothing."""

ROUNDING_S = 1e-6
"""Time below which nobody waits: who waits as long as told must not be told to wait once more."""

K = TypeVar("K", bound=Hashable)


@final
class Rates(Generic[K]):
    """The rate of each key: `per_s` times a second, and ahead of that by `burst_s` seconds' worth."""

    __slots__ = ("_burst_s", "_each_s", "_kept_max", "_paid_until")

    def __init__(self, per_s: float, burst_s: float = BURST_S, kept_max: int = KEPT_MAX) -> None:
        assert per_s > 0
        self._each_s = 1 / per_s
        self._burst_s = max(burst_s, self._each_s)
        self._kept_max = kept_max
        self._paid_until: dict[K, float] = {}

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._paid_until)

    def wait_s(self, key: K, now: float, cost: float = 1.0, owed_max: float = 0.0) -> float:
        """Return how long a key has to wait until it may do something that counts as `cost` times; 0 if it may now.

        Something that counts for more than a burst waits until all before it is paid for. With `owed_max` the key may
        be ahead by so many times more than a burst.
        """
        paid_until = self._paid_until.get(key)
        if paid_until is None or paid_until <= now:
            return 0.0
        room_s = self._burst_s - min(cost * self._each_s, self._burst_s) + owed_max * self._each_s
        wait_s = paid_until - now - room_s
        return wait_s if wait_s > ROUNDING_S else 0.0

    def charge(self, key: K, now: float, cost: float = 1.0) -> None:
        """Note that a key does it, whether it may or not."""
        paid = self._paid_until
        remember(paid, key, max(paid.pop(key, now), now) + cost * self._each_s, self._kept_max)
