"""One WebSocket connection of the client machine: its stage, requests in flight, timers, and place in history."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from softstate.client.machine.backoff import RENEW_S_MIN, TIMEOUT_S_MIN
from softstate.client.machine.beat_watch import BeatWatch
from softstate.client.machine.credentials import CREDENTIALS_MARGIN
from softstate.client.machine.knowledge import Question
from softstate.position import Position
from softstate.wire.messages import Renewed, Welcome

LEASE_MARGIN = 0.99
"""The fraction of its TTL for which a client relies on a lease: the node's clock may run faster (S6, P-REN-6)."""

RENEWALS_LATE = 1.2
"""A renewal is sent, at the latest, after this many times its interval."""


class Stage(Enum):
    """How far a connection is, and what its lease is worth."""

    OPENING = auto()
    """The WebSocket handshake is under way."""
    GREETING = auto()
    """`hello` was sent, and no welcome has come."""
    LEASED = auto()
    """The lease holds what was subscribed on it."""
    RETRYING = auto()
    """A subscribe failed, and everything is subscribed again at `resubscribe_at`. The lease is extended meanwhile."""
    REVOKED = auto()
    """The lease is over. Another begins on this connection at `resubscribe_at`."""


@dataclass(slots=True)
class Session:
    """A session on some node, worth resuming while its lease may live and holds the very set that is wanted."""

    token: str
    lease_until: float
    agreed: tuple[str, int] | None = None
    """Digest and count of the set when both sides last agreed on it."""


@dataclass(slots=True)
class InFlight:
    """A subscribe or a poll on the connection."""

    question: Question
    joins: bool
    """Whether it is a subscribe, whose names leave the lease if it fails."""
    early: bool = False
    """Whether it was sent behind hello, before the node had told its limits."""
    timed_out: bool = False
    """Its timer has counted already."""


@dataclass(slots=True)
class Renewal:
    """A renewal in flight."""

    serial: int
    sent: float
    set_changed: bool = False
    """The node took names out of the set after it answered an earlier subscribe: a mismatch is to be expected."""
    timed_out: bool = False


@dataclass(slots=True)
class Connection:
    """The connection `conn`. Times are seconds on the machine's clock; infinity means never."""

    conn: int
    url: str
    deadline: float
    """When the present stage, before the welcome, has taken too long."""
    stage: Stage = Stage.OPENING
    hello_serial: int = 0
    hello_sent: float = math.inf
    hello_digest: tuple[str, int] = ("", 0)
    base: Position | None = None
    """The client's position that `hello` carried, or that this connection last moved."""
    latest: Position | None = None
    """The newest position that this connection named."""
    notify_count: int = 0
    """The pushes that arrived, to be compared with what `renewed` says was sent."""
    requests: dict[str, InFlight] = field(default_factory=dict)
    renewals: dict[str, Renewal] = field(default_factory=dict)
    voided: frozenset[str] = frozenset()
    """Requests that a reset at the welcome has made void: nothing that answers them counts."""
    lease_began: float = -math.inf
    lease_until: float = math.inf
    ttl_s: float = 0.0
    credentials_until: float = math.inf
    """When the credentials end that were presented here, and every lease with them (P-AUTH-3)."""
    presented: str | None = field(default=None, repr=False)
    """The token that the node has taken, or was sent with hello."""
    presenting: tuple[str, str, float] | None = field(default=None, repr=False)
    """The `auth` in flight: its id, its token, and when it was sent."""
    awaits_credentials: bool = False
    """Whether the lease is over until other credentials were taken."""
    renew_s: float = 0.0
    timeout_s: float = 0.0
    page_at: float = -math.inf
    """When a page last arrived: it restarts the timers of its request, and of those behind it (P-CLI-2)."""
    page_sent: float = math.inf
    """When the request was sent that this page answers. An earlier request has been passed over."""
    renew_at: float = math.inf
    resubscribe_at: float = math.inf
    """When to subscribe everything again, in the stages that wait for that."""
    beats: BeatWatch = field(default_factory=BeatWatch)
    changed: int = 0
    """Serial of the last request that changed the node's set."""
    tries: int = 0
    """Subscribes in a row that failed and may succeed later."""

    @property
    def open(self) -> bool:
        """Whether it has had its welcome."""
        return self.stage not in (Stage.OPENING, Stage.GREETING)

    @property
    def leased(self) -> bool:
        """Whether there is a lease."""
        return self.stage in (Stage.LEASED, Stage.RETRYING)

    def welcome(self, message: Welcome, now: float) -> None:
        """Begin a lease; it runs from the sending of `hello`. The timers of what was sent behind it begin again."""
        self.stage, self.lease_began = Stage.LEASED, now
        self.timeout_s = max(message.timeout_ms / 1000, TIMEOUT_S_MIN)
        self.beats.timeout_s = self.timeout_s
        self.agree_on(message, self.hello_sent, now)
        self.lease_until = self.lease_end(self.hello_sent)
        if self.requests or self.renewals:
            self.page(now, self.hello_sent)

    def agree_on(self, message: Welcome | Renewed, sent: float, now: float) -> None:
        """Take over how long the lease lasts, and how often to renew it, from the answer to a request of `sent`."""
        self.ttl_s = message.ttl_ms / 1000
        self.told_credentials(message.credentials_ms, sent)
        self.renew_s = max(message.renew_ms / 1000, RENEW_S_MIN)
        self.beats.grant(message.beat_ms, self.renew_s, now)
        self.beats.answered(sent, now, message.clock_ms)

    def lease_end(self, sent: float) -> float:
        """Return when the lease ends that a request sent at `sent` extended: before the node's."""
        return min(sent + LEASE_MARGIN * self.ttl_s, self.credentials_until)

    def told_credentials(self, credentials_ms: int | None, sent: float) -> None:
        """Take note for how long the credentials are good, from an answer to a request of `sent`."""
        left_s = math.inf if credentials_ms is None else credentials_ms / 1000
        self.credentials_until = sent + CREDENTIALS_MARGIN * left_s

    def extend(self, sent: float) -> None:
        """Take note that the node answered a request that extends the lease."""
        self.lease_until = max(self.lease_until, self.lease_end(sent))

    def page(self, now: float, sent: float) -> None:
        """Take note that a page of the answer to a request sent at `sent` arrived."""
        self.page_at, self.page_sent = now, sent

    def resubscribe(self, now: float) -> None:
        """Forget what is in flight; the lease, another one after `revoked`, holds what is subscribed from now on."""
        self.forget_requests()
        self.beats.begin_again()
        if not self.leased:
            self.lease_began = now
        self.stage, self.resubscribe_at = Stage.LEASED, math.inf

    def end_wait(self) -> None:
        """Take note that `resubscribe_at` has come."""
        self.resubscribe_at = math.inf
        if self.stage is Stage.RETRYING:
            self.stage = Stage.LEASED

    def retry(self, due: float) -> None:
        """Subscribe everything again at `due`, on the present lease."""
        self.requests.clear()
        self.stage, self.resubscribe_at = Stage.RETRYING, due

    def revoked(self, due: float) -> None:
        """Subscribe everything again at `due`: the lease is over."""
        self.forget_requests()
        self.stage, self.resubscribe_at = Stage.REVOKED, due

    def forget_requests(self) -> None:
        """Expect no answer any more: what still comes is ignored, but for publishes."""
        self.requests.clear()
        self.renewals.clear()

    def void_requests(self) -> None:
        """Ignore every answer to what was sent behind hello: its history is gone."""
        self.voided = frozenset((*self.requests, *self.renewals))
        self.forget_requests()

    def overdue(self, now: float) -> bool:
        """Tell whether an answer is missing."""
        return self._missed_at <= now

    def clear_timers(self) -> None:
        """Stop the timers of everything in flight: a miss has been counted, and a new renewal decides."""
        for request in self.requests.values():
            request.timed_out = True
        for renewal in self.renewals.values():
            renewal.timed_out = True

    @property
    def due(self) -> float:
        """When something of this connection is due."""
        if not self.open:
            return self.deadline
        if not self.leased:
            return self.resubscribe_at
        renew_at = math.inf if self.renewing else self.renew_at
        return min(self.resubscribe_at, renew_at, self.lease_until, self._missed_at, self.ask_at, self.silent_at)

    @property
    def ask_at(self) -> float:
        """When to renew because no beat came."""
        return math.inf if self.renewing or self.stage is not Stage.LEASED else self.beats.ask_at

    @property
    def silent_at(self) -> float:
        """When the lack of any sign of life means something."""
        return math.inf if self.stage is not Stage.LEASED else self.beats.silent_at

    @property
    def bound_s(self) -> float:
        """How old what is known becomes at most until silence counts: by beats, or else by renewals."""
        return self.beats.bound_s if self.beats.every_s else RENEWALS_LATE * self.renew_s + self.timeout_s

    @property
    def renewing(self) -> bool:
        """Whether a renewal is in flight and still in time."""
        return any(not renewal.timed_out for renewal in self.renewals.values())

    @property
    def _missed_at(self) -> float:
        """When the first answer that is due will be missed; requests are answered in the order they were sent."""
        request_sent = next((each.question.sent for each in self.requests.values() if not each.timed_out), math.inf)
        renewal_sent = next((each.sent for each in self.renewals.values() if not each.timed_out), math.inf)
        return min(self._waits_since(request_sent), self._waits_since(renewal_sent)) + self.timeout_s

    def _waits_since(self, sent: float) -> float:
        return max(sent, self.page_at) if sent >= self.page_sent else sent
