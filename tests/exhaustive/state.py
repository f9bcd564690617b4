"""A state of the model's world, and the bounds within which a run explores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.exhaustive.node import Conn
from tests.exhaustive.oracle import Store, View

HTTP = "poll"
"""Names the poll over HTTP among the requests sent."""

END = -1
"""Stands in a channel for its end: no message has this number. Smaller numbers are -1 minus a close code."""


@dataclass(frozen=True)
class Bounds:
    """What a run covers. `commits` are made in order, each a topic and whether it is deleted; the rest are counts.

    `first` commits are there before anybody connects. `warm`: begin when everybody is live. `part`: where random
    draws fall within their range. `conflates`: outboxes are congested, so that a newer push replaces the older one;
    else everything is on its way at once. `split_reads`: a store read begins later than it is asked for. `late`: what
    a connection still says after it was left arrives. `in_flight_max`: steps beyond so many messages on connections
    are pruned, and counted.
    """

    names: tuple[tuple[str, ...], ...] = (("a",), ("a",))
    commits: tuple[tuple[str, bool], ...] = (("a", False), ("b", False), ("a", True))
    first: int = 0
    rewinds: int = 0
    crashes: int = 0
    cuts: int = 0
    expiries: int = 0
    forgets: int = 0
    ticks: int = 1
    in_flight_max: int = 4
    warm: bool = False
    part: float = 0.0
    conflates: bool = False
    split_reads: bool = True
    late: bool = False


class Net(NamedTuple):
    """What is between one client and the node. `stage` is that of the connection numbered `serial`."""

    serial: int = 0
    stage: str = "none"
    up: tuple[int, ...] = ()
    down: tuple[int, ...] = ()
    old_up: tuple[tuple[Conn, tuple[int, ...]], ...] = ()
    late: tuple[int, ...] = ()
    poll: tuple[str, int] | None = None


class Left(NamedTuple):
    """How much may still happen."""

    commits: int
    rewinds: int
    crashes: int
    cuts: int
    expiries: int
    forgets: int
    ticks: tuple[int, ...]


class State(NamedTuple):
    """The world; its components by their numbers."""

    store: Store
    node: int
    clients: tuple[int, ...]
    views: tuple[View, ...]
    nets: tuple[Net, ...]
    left: Left
