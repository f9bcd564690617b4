"""One WebSocket connection of the client machine: its requests in flight, its timers, its place in history."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from softstate.client.machine.knowledge import Question
from softstate.position import Position
from softstate.wire.messages import Welcome


@dataclass(slots=True)
class Session:
    """A session on some node, worth resuming while its lease may live and holds the very set that is wanted."""

    token: str
    lease_until: float
    agreed: tuple[str, int] | None = None
    """Digest and count of the set when both sides last agreed on it."""


@dataclass(slots=True)
class Asked:
    """A subscribe or a poll on the connection."""

    question: Question
    joins: bool
    """Whether it is a subscribe, whose names leave the lease if it fails."""
    moot: bool = False
    """Its timer has counted already."""


@dataclass(slots=True)
class Renewal:
    """A renewal on its way."""

    serial: int
    sent: float
    set_changed: bool = False
    """The node took names out of the set after it answered to an earlier subscribe: a mismatch is no wonder."""
    moot: bool = False


@dataclass(slots=True)
class Link:
    """The connection `conn`. Times are seconds on the machine's clock; infinity means never."""

    conn: int
    url: str
    deadline: float
    """When the present stage, before the welcome, has taken too long."""
    stage: Literal["opening", "hello", "open"] = "opening"
    hello_serial: int = 0
    hello_sent: float = math.inf
    hello_digest: tuple[str, int] = ("", 0)
    base: Position | None = None
    """The client's position that `hello` carried, or that this connection last moved."""
    latest: Position | None = None
    """The newest position that this connection named."""
    notifies: int = 0
    asked: dict[str, Asked] = field(default_factory=dict)
    renewals: dict[str, Renewal] = field(default_factory=dict)
    leased: bool = False
    lease_until: float = math.inf
    ttl_s: float = 0.0
    renew_s: float = 0.0
    timeout_s: float = 0.0
    paged: float = -math.inf
    """When a page last arrived: it restarts the timers of its request, and of those behind it (P-CLI-2)."""
    paged_sent: float = math.inf
    """When the request was sent that this page answers. A request of before that has been passed over."""
    renew_at: float = math.inf
    again_at: float = math.inf
    """When to subscribe everything again."""
    changed: int = 0
    """Serial of the last request that changed the node's set."""
    tries: int = 0
    """Subscribes in a row that failed and may succeed later."""

    def welcome(self, message: Welcome) -> None:
        """Begin a lease; it runs from the sending of `hello`."""
        self.stage = "open"
        self.leased = True
        self.ttl_s = message.ttl_ms / 1000
        self.renew_s = message.renew_ms / 1000
        self.timeout_s = message.timeout_ms / 1000
        self.lease_until = self.lease_end(self.hello_sent)

    def lease_end(self, sent: float) -> float:
        """Return when the lease ends that a request sent at `sent` extended: before the node's (S6, P-REN-6)."""
        return sent + 0.99 * self.ttl_s

    def extend(self, sent: float) -> None:
        """Take note that the node answered a request that extends the lease."""
        self.lease_until = max(self.lease_until, self.lease_end(sent))

    def page(self, now: float, sent: float) -> None:
        """Take note that a page of the answer to a request sent at `sent` arrived."""
        self.paged, self.paged_sent = now, sent

    def forget_requests(self) -> None:
        """Expect no answer any more: what still comes is ignored, but for publishes."""
        self.asked.clear()
        self.renewals.clear()

    def overdue(self, now: float) -> bool:
        """Tell whether an answer is missing."""
        return self._missed_at <= now

    def forgive(self) -> None:
        """Stop the timers of everything in flight: a miss has been counted, and a new renewal decides."""
        for asked in self.asked.values():
            asked.moot = True
        for renewal in self.renewals.values():
            renewal.moot = True

    @property
    def due(self) -> float:
        """When something of this connection is due."""
        if self.stage != "open":
            return self.deadline
        if not self.leased:
            return self.again_at
        renew_at = math.inf if self.renewing else self.renew_at
        return min(self.again_at, renew_at, self.lease_until, self._missed_at)

    @property
    def renewing(self) -> bool:
        """Whether a renewal is on its way and still in time."""
        return any(not renewal.moot for renewal in self.renewals.values())

    @property
    def _missed_at(self) -> float:
        """When the first answer that is due will be missed; requests are answered in the order they were sent."""
        asked_sent = next((asked.question.sent for asked in self.asked.values() if not asked.moot), math.inf)
        renew_sent = next((renewal.sent for renewal in self.renewals.values() if not renewal.moot), math.inf)
        return min(self._waits_since(asked_sent), self._waits_since(renew_sent)) + self.timeout_s

    def _waits_since(self, sent: float) -> float:
        return max(sent, self.paged) if sent >= self.paged_sent else sent
