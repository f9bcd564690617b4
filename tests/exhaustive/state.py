"""A state of a small world, and the bounds within which a search explores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.exhaustive.node import Conn
from tests.exhaustive.oracle import Store, View

HTTP = "poll"
"""Names the poll over HTTP among the requests sent."""

END = -1
"""In a channel, its end: no message has this number. A smaller number is -1 minus a close code."""


@dataclass(frozen=True)
class Bounds:
    """The extent of a search.

    `names` are those of each client. `commits` are made in order, each a topic and whether it is deleted.
    `rewinds` to `ticks` say how often each fault, and each client's timer while others can act, may happen; `beats` may
    be sent, and as many heads read for them. `first` commits are there before any client connects. `warm`: begin when
    every client is live. `part`: where random draws fall within their range. `conflates`: outboxes are congested, so
    that a newer push replaces the waiting one of its topic; else every message is on its way at once. `split_reads`: a
    store read may begin later than the machine asks. `later` is a name that each client wants in the midst of it.
    `late`: messages of a connection that the client has left still arrive. `unnoticed`: a node may read of the history
    that follows a rewind before it notices. `denied` is a name that rules take away, once. `in_flight_max`: steps that
    lead to more messages on connections are pruned, and counted.
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
    beats: int = 0
    in_flight_max: int = 4
    warm: bool = False
    part: float = 0.0
    conflates: bool = False
    split_reads: bool = True
    later: str = ""
    late: bool = False
    unnoticed: bool = False
    denied: str = ""


class Channel(NamedTuple):
    """All that is between one client and the node. `stage` is that of the connection numbered `serial`.

    Numbers stand for messages. `up` and `down` are on that connection; `old_up` was sent on earlier ones, and `late`
    comes from one that the client has left. `poll` is the poll over HTTP: "asked" or "reply", and the message.
    """

    serial: int = 0
    stage: str = "none"
    up: tuple[int, ...] = ()
    down: tuple[int, ...] = ()
    old_up: tuple[tuple[Conn, tuple[int, ...]], ...] = ()
    late: tuple[int, ...] = ()
    poll: tuple[str, int] | None = None


class Budget(NamedTuple):
    """The number of times that each thing may still happen."""

    commits: int
    rewinds: int
    crashes: int
    cuts: int
    expiries: int
    forgets: int
    ticks: tuple[int, ...]
    levels: int = 0
    beats: int = 0
    later: tuple[bool, ...] = ()
    denials: int = 0


class WorldState(NamedTuple):
    """The whole world; nodes and clients stand as numbers of their component's states."""

    store: Store
    node: int
    clients: tuple[int, ...]
    views: tuple[View, ...]
    channels: tuple[Channel, ...]
    budget: Budget
