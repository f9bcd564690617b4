"""The events of a simulated world, in order: everything an oracle needs, and nothing that the product computed.

Every event is frozen, and says when it happened (`at_s`, virtual seconds of the world's own clock, which no node and no
client can read). The disk records a commit at the instant it is made, before any node learns of it. A client knows what
its application was given. Values are as an application sees them.

Two runs of one seed have the same `Trace.digest`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Topics: TypeAlias = tuple[tuple[str, int, bool], ...]
"""The state that an application or a store holds: (topic, version, deleted) of every topic, in order of topics."""


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """Something happened at `at_s`."""

    at_s: float


# The store -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeCommitted(TraceEvent):
    """A change was committed, as `revision` of the history that the disk holds at the moment."""

    revision: int
    topic: str
    value: Any
    deleted: bool
    key: str | None
    """The idempotency key of the publish, if it had one."""


@dataclass(frozen=True, slots=True)
class LineageCommitted(TraceEvent):
    """A store was opened, which is a commit too: `revision` and all above it are of this lineage."""

    revision: int
    epoch: str
    lineage: str


@dataclass(frozen=True, slots=True)
class HistoryReplaced(TraceEvent):
    """The disk holds another history from now on: restored, wiped, or cut back to the durable part (`why`).

    `topics` is its whole state, tombstones included; `rows` are its lineage rows as (revision, lineage). An earlier
    commit is gone if it is above `revision`, or missing from `topics` although nothing there is newer.
    """

    why: str
    epoch: str
    revision: int
    rows: tuple[tuple[int, str], ...]
    topics: Topics


@dataclass(frozen=True, slots=True)
class TombstonesCompacted(TraceEvent):
    """The store forgot tombstones up to revision `floor`, or some of them."""

    floor: int


@dataclass(frozen=True, slots=True)
class RecordDamaged(TraceEvent):
    """The disk lost the record of a topic, which was committed at `version`: it is unreadable until it is replaced."""

    topic: str
    version: int


# Permissions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RightsChanged(TraceEvent):
    """All nodes know from now on that a subject may read what `names` cover, and nothing else."""

    subject: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenIssued(TraceEvent):
    """A token was made for a subject; it is good until `ends_at`, by the world's time."""

    subject: str
    token: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class KeyReplaced(TraceEvent):
    """All nodes know from now on that these tokens are not good any more."""

    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RevocationNamed(TraceEvent):
    """An administrator says what a topic revokes while it has a value: a subject's tokens, or one of them.

    Only those that were issued ahead of the ``before`` of its value, if that has one. The commit comes behind this.
    """

    topic: str
    subject: str
    token: str | None


@dataclass(frozen=True, slots=True)
class NamesDenied(TraceEvent):
    """An application was told that it may not read some names of a handle; `names` are those that are left."""

    client: str
    handle: int
    names: tuple[str, ...]


# Nodes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeStarted(TraceEvent):
    """A node listens. `incarnation` counts the starts of one place, from 1."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class NodeEnded(TraceEvent):
    """A node is gone, and everything that it held. `how`: killed, power (its peers get no reset), drained."""

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
    """A look at a node: its leases, its connections, and the fullest outbox of these, in entries and bytes.

    `revoked` counts the leases that it has ended before their time so far; it notifies the client of each.
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
    """Amnesia: leases were deleted in a running node; `clients` are the names of their holders."""

    node: str
    clients: tuple[str, ...]


# Clients, as their applications see it -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subscribed(TraceEvent):
    """An application subscribed to `names`; `handle` numbers the subscriptions of one client."""

    client: str
    handle: int
    names: tuple[str, ...]
    beat_s: float = math.inf
    """The time between two beats that its client asks for at most; infinite if it asks for none."""


@dataclass(frozen=True, slots=True)
class Unsubscribed(TraceEvent):
    """An application gave up a subscription: nothing more is delivered on its handle."""

    client: str
    handle: int


@dataclass(frozen=True, slots=True)
class ChangeDelivered(TraceEvent):
    """An application was given the newest state of a topic; `age_s` is `Updates.age` right after."""

    client: str
    handle: int
    topic: str
    version: int
    value: Any
    deleted: bool
    age_s: float


@dataclass(frozen=True, slots=True)
class ResetDelivered(TraceEvent):
    """An application received a `softstate.Reset`: the history changed."""

    client: str
    handle: int


@dataclass(frozen=True, slots=True)
class ModeChanged(TraceEvent):
    """An application received its client's new mode."""

    client: str
    handle: int
    mode: str


@dataclass(frozen=True, slots=True)
class AgeSampled(TraceEvent):
    """A look at a handle while every task was waiting: its age, and the state that its application was given.

    `known` leaves out everything from before the last reset.
    """

    client: str
    handle: int
    age_s: float
    mode: str
    known: Topics
    unreadable: tuple[str, ...] = ()
    """The topics that it was told are unreadable: its age leaves them out."""


@dataclass(frozen=True, slots=True)
class PublishStarted(TraceEvent):
    """An application publishes; `number` counts the publishes of one client, in their order."""

    client: str
    number: int
    topic: str
    value: Any
    deleted: bool
    expect: int | None
    key: str | None


@dataclass(frozen=True, slots=True)
class PublishAcknowledged(TraceEvent):
    """A publish was answered: it is durable, at `version`."""

    client: str
    number: int
    topic: str
    version: int


@dataclass(frozen=True, slots=True)
class PublishFailed(TraceEvent):
    """A publish ended in an error, named by its class; `current` is the version that a conflict carries."""

    client: str
    number: int
    topic: str
    error: str
    current: int | None


@dataclass(frozen=True, slots=True)
class ClientEnded(TraceEvent):
    """A client is gone. `counts` are its own counters that are not 0; `how`: closed, killed, power, stopped."""

    client: str
    how: str
    counts: tuple[tuple[str, int], ...]


# The network, and faults ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageWritten(TraceEvent):
    """A WebSocket message was written to a connection, even if it does not arrive. Only if the world records them.

    Where nodes check credentials, so is HTTP: as ``request`` and ``answer`` (`HttpTap`).
    """

    connection: int
    sender: str
    receiver: str
    op: str
    message: Any
    """The message, decoded by `FrameTap` or `HttpTap`."""


@dataclass(frozen=True, slots=True)
class FaultInjected(TraceEvent):
    """A fault began, or ended."""

    kind: str
    detail: str


@dataclass(slots=True)
class Trace:
    """All events so far, in order. `listeners` are called with each new one, and must not raise."""

    events: list[TraceEvent] = field(default_factory=list)
    listeners: list[Callable[[TraceEvent], None]] = field(default_factory=list, repr=False)

    def add(self, event: TraceEvent) -> None:
        """Record an event."""
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def of(self, *kinds: type[TraceEvent]) -> list[Any]:
        """Return the events of some kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    def digest(self) -> str:
        """Return a hash of all events: equal for equal runs, in every process."""
        digest = hashlib.sha256()
        for event in self.events:
            digest.update(repr(event).encode("utf-8", "backslashreplace") + b"\n")
        return digest.hexdigest()
