"""A hashed timing wheel: finds what is due without a timer, task or heap entry for each item.

Scheme 6 of Varghese and Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987): time is cut into ticks, a tick is
hashed onto one of `slots` lists, and an item waits in the list of the tick that ends its time. Adding is O(1). Unlike
theirs, this wheel does not stop and restart timers: the deadline is a field of the item, and is read only when the
wheel reaches the item's slot. A renewal therefore writes one number and never touches the wheel; the price is one visit
for each TTL, or each revolution where that is shorter, however often the item was renewed in between.

Sans-I/O: `now` and deadlines are seconds of one clock that never goes back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

TICK_S = 0.25
"""Default length of a tick. A caller that is not late itself finds a due item at most this much late."""

SLOTS = 512
"""Default number of slots: with the default tick a revolution takes 128 s, longer than a usual TTL."""

VISITS_MAX = 1000
"""Default number of items that one `advance` visits, so that thousands of expiries at once do not block the node."""

LOOK_AHEAD_TICKS = 4
"""Most empty slots that a caller sleeps past. An item added meanwhile with less than that to go is found late."""

_WAIT_TICKS_MIN = 1 / 16
"""Shortest wait for a tick still ahead: with rounding, a caller could wake again and again just before it."""


class Wheel(Generic[T]):
    """Holds items until their deadlines, each as one entry of one list."""

    def __init__(self, now: float, tick_s: float = TICK_S, slots: int = SLOTS) -> None:
        self._origin = now
        self._tick_s = tick_s
        self._slots: list[list[T]] = [[] for _ in range(slots)]
        self._tick = 0  # the last one whose slot was emptied
        self._passed: deque[T] = deque()  # taken out of slots, not yet visited
        self._size = 0

    def __len__(self) -> int:
        """Return how many items are held, also those that are gone, until their slot is reached."""
        return self._size

    def add(self, item: T, deadline: float) -> None:
        """Hold an item until `deadline` (finite), or the next tick if that is over. Add an item only once."""
        self._file(item, deadline)
        self._size += 1

    def advance(self, now: float, deadline_of: Callable[[T], float], limit: int = VISITS_MAX) -> list[T]:
        """Return the items found due at `now`, in the order of their slots; they are no longer held.

        Each item in a slot passed since the last call is visited: it is filed again if its deadline is still ahead,
        else due. After `limit` visits the rest waits for the next call (`next_tick_s` is then 0). However far time
        jumped, no item is visited twice in one call.
        """
        self._take_slots_passed(now)
        take = self._passed.popleft
        visited = [take() for _ in range(min(limit, len(self._passed)))]
        deadlines = list(map(deadline_of, visited))
        if max(deadlines, default=now) <= now:
            # Nothing to file, as after many clients vanished at once: found for all together, without a step for each.
            due = visited
        else:
            due = []
            for item, deadline in zip(visited, deadlines, strict=True):
                if deadline <= now:
                    due.append(item)
                else:
                    self._file(item, deadline)
        self._size -= len(due)
        return due

    def discard(self, gone: Callable[[T], bool]) -> None:
        """Hold items that are `gone` no longer. It walks all items."""
        size = 0
        for slot in self._slots:
            slot[:] = [item for item in slot if not gone(item)]
            size += len(slot)
        self._passed = deque(item for item in self._passed if not gone(item))
        self._size = size + len(self._passed)

    def next_tick_s(self, now: float) -> float:
        """Return how many seconds to wait before `advance` can find more: 0 if it can now.

        It sleeps through empty slots, `LOOK_AHEAD_TICKS` at most: an idle wheel wakes its caller once a second.
        """
        # By the same division as in `advance`: where rounding differs, this would return 0 again and again.
        if self._passed or self._tick_at(now) > self._tick:
            return 0.0
        ahead = 1
        while ahead < LOOK_AHEAD_TICKS and not self._slots[(self._tick + ahead) % len(self._slots)]:
            ahead += 1
        wait_s = self._origin + (self._tick + ahead) * self._tick_s - now
        return max(wait_s, self._tick_s * _WAIT_TICKS_MIN)

    def _file(self, item: T, deadline: float) -> None:
        tick = math.ceil((deadline - self._origin) / self._tick_s)
        if tick <= self._tick:
            tick = self._tick + 1
        self._slots[tick % len(self._slots)].append(item)

    def _take_slots_passed(self, now: float) -> None:
        # Emptied before anything is visited: what a visit files again cannot come up in the same call.
        tick = self._tick_at(now)
        for passed in range(self._tick + 1, min(tick, self._tick + len(self._slots)) + 1):
            slot = self._slots[passed % len(self._slots)]
            self._passed.extend(slot)
            slot.clear()
        self._tick = max(tick, self._tick)

    def _tick_at(self, now: float) -> int:
        return math.floor((now - self._origin) / self._tick_s)
