"""One direction between two hosts: how it behaves, and what all directions of one network share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, final

from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.network.frame_tap import Frame, Kind

WINDOW_BYTES = 64 * 1024
"""Bytes of one direction that may be on their way or unread, before its writer is made to wait (the socket buffers),
unless its route says otherwise."""

Delay: TypeAlias = Callable[[Random], float]
"""Draws how long some bytes travel, in seconds."""


def uniform(least_s: float, most_s: float) -> Delay:
    """Return a delay that is anything between two bounds, in seconds."""
    return lambda random: random.uniform(least_s, most_s)


LOCAL = uniform(0.0002, 0.002)
"""Delay of a route unless told otherwise: a local network."""


@final
@dataclass(slots=True, eq=False)
class Route:
    """How one direction between two hosts behaves. Change it through `SimNetwork`, which also tells those who wait.

    `chunk_bytes`: bytes arrive in random pieces of at most so many, and writes are taken in part (None: as written).
    `stalled`: bytes stay where they are until it is over. `no_new`: new connections get no answer, old ones go on.
    `blocked`: what becomes of connections that turn out to be of a kind.
    """

    sender: str
    receiver: str
    delay: Delay = LOCAL
    chunk_bytes: int | None = None
    window_bytes: int = WINDOW_BYTES
    stalled: bool = False
    no_new: bool = False
    blocked: dict[Kind, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.sender}→{self.receiver}"


@final
@dataclass(frozen=True, slots=True)
class Medium:
    """What the connections of one network share; `SimNetwork` makes one for all of them.

    `at` calls something at a time of Trio's clock. `rule_for` returns the rule that chooses a frame of a route, if any
    does. `not_reading` are the hosts whose programs read nothing from their connections; `reading_pause_s` says how
    long others wait before each time they do. `on_frame` is given every WebSocket frame as it is written, with the
    number of its connection.
    """

    random: Random
    at: Callable[[float, Callable[[], None]], None]
    rule_for: Callable[[Route, Frame], FrameRule | None]
    on_frame: Callable[[int, Route, Frame], None]
    not_reading: dict[str, None]
    reading_pause_s: dict[str, float]
