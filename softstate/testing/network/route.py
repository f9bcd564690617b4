"""One direction between two hosts, its delays and faults; and the parts that all connections of a network share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, final

from softstate.testing.network.capacity import Processor
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.network.frame_tap import Frame, Kind

WINDOW_BYTES = 64 * 1024
"""Bytes of one direction that may be under way or unread before its writer must wait, as with socket buffers; the
default of a route."""

Delay: TypeAlias = Callable[[Random], float]
"""Draws how long some bytes travel, in seconds."""


def uniform(least_s: float, most_s: float) -> Delay:
    """Return a delay that is uniform between two bounds, in seconds."""
    return lambda random: random.uniform(least_s, most_s)


LOCAL = uniform(0.0002, 0.002)
"""The default delay of a route: a local network's."""


@final
@dataclass(slots=True, eq=False)
class Route:
    """One direction between two hosts. Change it through `SimNetwork`, which also wakes waiting tasks.

    `chunk_bytes`: bytes arrive in random pieces of at most so many, and writes are taken in part (None: as written).
    `stalled`: bytes stay where they are until the stall ends. `ignore_new`: new connections get no answer, while
    existing ones go on. `blocked`: for each blocked kind of connection, whether it is swallowed or reset.
    """

    sender: str
    receiver: str
    delay: Delay = LOCAL
    chunk_bytes: int | None = None
    window_bytes: int = WINDOW_BYTES
    stalled: bool = False
    ignore_new: bool = False
    blocked: dict[Kind, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sender}→{self.receiver}"


@final
@dataclass(frozen=True, slots=True)
class Medium:
    """The parts of a network that its connections use; `SimNetwork` makes one `Medium` for all of them.

    `at` calls something at a time of Trio's clock. `rule_for` returns the rule that hits a frame of a route, if any
    does. `on_frame` is called with all that is written, cut into frames, and the number of its connection.
    `not_reading` are the hosts whose programs read nothing from their connections; `reading_pause_s` is how long others
    wait before each read; `processors` are those of hosts whose programs can do only so much.
    """

    random: Random
    at: Callable[[float, Callable[[], None]], None]
    rule_for: Callable[[Route, Frame], FrameRule | None]
    on_frame: Callable[[int, Route, Frame], None]
    not_reading: dict[str, None]
    reading_pause_s: dict[str, float]
    processors: dict[str, Processor]
