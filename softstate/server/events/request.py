"""A request for a stream, once it was checked, and the times of the stream that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from softstate.auth.presented import NOTHING_PRESENTED, Presented
from softstate.position import Position


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The names with what is known of each, or all of them `after` a revision.

    `position` is the highest that its client has seen; `presented` is what it presents.
    """

    topics: Mapping[str, int]
    prefixes: Mapping[str, int]
    position: Position | None = None
    after: int = 0
    presented: Presented = field(default=NOTHING_PRESENTED, repr=False)


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """The times of all streams of a node: the longest between two `sync`s, in seconds; `uniform` draws others."""

    sync_s: float
    uniform: Callable[[float, float], float]
