"""What happened in a simulated world, as a list of events: all that an oracle needs, and nothing the product computed.

Every event is frozen, and says when it happened (`at`, virtual seconds of the one true clock, which no node and no
client can read). Commits are noted by the disk at the instant they are made, before any node hears of them; what a
client knows is what its application was given. Values are as an application sees them.

Two runs of one seed have the same `Trace.digest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Topics: TypeAlias = tuple[tuple[str, int, bool], ...]
"""What somebody holds: (topic, version, deleted) of every topic, in order of topics."""


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """Something happened at `at`."""

    at: float


# The store -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed(TraceEvent):
    """A change was committed, as `revision` of the history that the disk holds at the moment."""

    revision: int
    topic: str
    value: Any
    deleted: bool
    key: str | None
    """The idempotency key of the publish, if it had one."""


@dataclass(frozen=True, slots=True)
class LineageCommitted(TraceEvent):
    """A store was opened, which is a commit too: `revision` and those above it are of this lineage."""

    revision: int
    epoch: str
    lineage: str


@dataclass(frozen=True, slots=True)
class HistoryReplaced(TraceEvent):
    """The disk holds another history from now on: restored, wiped, or cut back to what was durable.

    `topics` is all of it, tombstones too; `rows` are its lineage rows as (revision, lineage). Commits of before that
    are above `revision`, or not in `topics` although nothing in it is newer, are gone.
    """

    why: str
    epoch: str
    revision: int
    rows: tuple[tuple[int, str], ...]
    topics: Topics


@dataclass(frozen=True, slots=True)
class Forgotten(TraceEvent):
    """Tombstones up to revision `floor`, or some of them, are no longer in the store."""

    floor: int


# Nodes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeStarted(TraceEvent):
    """A node listens. `incarnation` counts the starts of one place, from 1."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class NodeEnded(TraceEvent):
    """A node is gone, and everything that it held. `how`: killed, power (its peers hear nothing), drained."""

    node: str
    incarnation: int
    how: str


@dataclass(frozen=True, slots=True)
class HeldLease:
    """One lease: the client's name, how many names it holds, seconds to its end, and whether it has a connection."""

    client: str
    names: int
    left_s: float
    attached: bool


@dataclass(frozen=True, slots=True)
class NodeSampled(TraceEvent):
    """What a node holds: its leases, its connections, and the fullest outbox of them, in entries and bytes.

    `revoked` is how many leases it has ended before their time so far, each of which it tells the client.
    """

    node: str
    incarnation: int
    leases: tuple[HeldLease, ...]
    connections: int
    pending: int
    pending_bytes: int
    revoked: int


@dataclass(frozen=True, slots=True)
class LeasesDropped(TraceEvent):
    """Amnesia: leases were deleted in a running node; `clients` are the names of those who held them."""

    node: str
    clients: tuple[str, ...]


# Clients, as their applications see it -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted(TraceEvent):
    """An application subscribed to `names`; `handle` numbers the subscriptions of one client."""

    client: str
    handle: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unwanted(TraceEvent):
    """An application gave up a subscription: nothing of it follows."""

    client: str
    handle: int


@dataclass(frozen=True, slots=True)
class Applied(TraceEvent):
    """An application was given the newest state of a topic; `age_s` is what `Updates.age` said right after."""

    client: str
    handle: int
    topic: str
    version: int
    value: Any
    deleted: bool
    age_s: float


@dataclass(frozen=True, slots=True)
class ResetSeen(TraceEvent):
    """An application was told that the history changed."""

    client: str
    handle: int


@dataclass(frozen=True, slots=True)
class ModeSeen(TraceEvent):
    """An application was told that its client went into another mode."""

    client: str
    handle: int
    mode: str


@dataclass(frozen=True, slots=True)
class AgeSampled(TraceEvent):
    """A look at a handle, when everybody was waiting for something: its age, and what its application was given.

    `known` leaves out what was known before the last reset.
    """

    client: str
    handle: int
    age_s: float
    mode: str
    known: Topics


@dataclass(frozen=True, slots=True)
class Asked(TraceEvent):
    """An application publishes; `ticket` numbers the publishes of one client, in their order."""

    client: str
    ticket: int
    topic: str
    value: Any
    deleted: bool
    expect: int | None
    key: str | None


@dataclass(frozen=True, slots=True)
class Acknowledged(TraceEvent):
    """A publish was answered: it is durable, at `version`."""

    client: str
    ticket: int
    topic: str
    version: int


@dataclass(frozen=True, slots=True)
class Refused(TraceEvent):
    """A publish ended in an error, named by its class; `current` is the version that a conflict told."""

    client: str
    ticket: int
    topic: str
    error: str
    current: int | None


@dataclass(frozen=True, slots=True)
class ClientEnded(TraceEvent):
    """A client is gone. `counts` are its own counters that are not 0; `how`: closed, killed, power, stopped."""

    client: str
    how: str
    counts: tuple[tuple[str, int], ...]


# The network, and what was done to all of them -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spoken(TraceEvent):
    """A WebSocket message was written to a connection, whether or not it arrives. Only if the world records them."""

    connection: int
    sender: str
    receiver: str
    op: str
    message: Any
    """The message, decoded by the tap."""


@dataclass(frozen=True, slots=True)
class FaultInjected(TraceEvent):
    """A fault began, or was taken back."""

    kind: str
    detail: str


@dataclass(slots=True)
class Trace:
    """Every event so far, in order. `listeners` are called with each new one, and must not raise."""

    events: list[TraceEvent] = field(default_factory=list)
    listeners: list[Callable[[TraceEvent], None]] = field(default_factory=list, repr=False)

    def add(self, event: TraceEvent) -> None:
        """Note an event."""
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def of(self, *kinds: type[TraceEvent]) -> list[Any]:
        """Return the events of some kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    def digest(self) -> str:
        """Return a hash of everything that happened: equal for equal runs, in whichever process."""
        digest = hashlib.sha256()
        for event in self.events:
            digest.update(repr(event).encode("utf-8", "backslashreplace") + b"\n")
        return digest.hexdigest()
