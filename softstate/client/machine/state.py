"""State that all parts of the client machine share: options, knowledge, advice, the present time, and its actions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from softstate.client.machine.backoff import Advice, Rotation, jittered_s
from softstate.client.machine.credentials import Credentials
from softstate.client.machine.events import Action, Deliver, NamesDenied, NodeRefused, TopicsUnreadable
from softstate.client.machine.knowledge import Knowledge, Question
from softstate.client.machine.portions import NAMES_MAX, Portions
from softstate.client.machine.publish_queue import PublishQueue
from softstate.client.machine.reach import Reach
from softstate.client.machine.triggers import Trigger
from softstate.errors import Denied, RequestError, SoftstateError, Unauthenticated
from softstate.model import Change, Mode
from softstate.position import Position
from softstate.wire.messages import Limits, Polled, Subscribed

BEAT_MS = 1_000
"""The time between two beats that a client asks for by default."""


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """How a client machine works. `urls` are normalised base URLs such as ``ws://127.0.0.1:8700``, at least one.

    Without `push` it never opens a WebSocket. `token` are its first credentials; with a `provider` others can be had.
    `ttl_ms` is the longest lease to ask for, `beat_ms` the longest time between two beats, None for no beats. `advice`
    holds until a node gives its own. After `offline_after` failed rounds of all URLs both paths share one retry budget.
    `publishes_waiting_max` bounds the publishes not yet settled, `inflight_max` those in flight on a connection.
    """

    urls: tuple[str, ...]
    push: bool = True
    name: str = ""
    token: str | None = field(default=None, repr=False)
    provider: bool = False
    ttl_ms: int | None = None
    beat_ms: int | None = BEAT_MS
    connect_timeout_s: float = 5.0
    hello_timeout_s: float = 5.0
    poll_timeout_s: float = 10.0
    advice: Advice = field(default_factory=Advice)
    offline_after: int = 3
    publishes_waiting_max: int = 10_000
    inflight_max: int = 128


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counters since the client was made.

    As long as nothing fails, all `repairs_…`, `history_mismatches` and `dropped` are 0.
    """

    repairs_mismatch: int = 0
    """Digests that differed."""
    repairs_sent_unequal: int = 0
    """Pushes that went missing on an open connection."""
    repairs_unanswered: int = 0
    """Renewals that were answered before a subscribe that went ahead of them."""
    repairs_no_lease: int = 0
    """Renewals that met no lease."""
    repairs_unknown: int = 0
    """Times a node said that something may have been missed."""
    connects: int = 0
    """WebSockets begun, the first included."""
    welcomes: int = 0
    resumed: int = 0
    """Welcomes that took up an earlier session."""
    misses: int = 0
    """Answers, or signs of life, that did not come in time."""
    beats: int = 0
    """Beats that came."""
    polls: int = 0
    """HTTP polls sent, each page counted."""
    history_mismatches: int = 0
    """Answers or connections given up because they might belong to another history."""
    resets: int = 0
    dropped: int = 0
    """Changes dropped because they were older than what was known."""
    publishes_repeated: int = 0
    """Publishes sent once more."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The details that a trigger carries with it, for the actions of its row."""

    position: Position | None = None
    retry_s: float = 0.0
    spread_s: float = 0.0
    error: SoftstateError | None = None
    names: tuple[str, ...] = ()
    version: int = 0
    barred: bool = False
    """The URL does not serve WebSocket; that is no failure."""
    unsent: bool = False
    """No stream came to be: the URL refuses connections."""


NO_CAUSE = Cause()


EARLY = 0.25
"""A poll goes beside a connection that takes longer than this part of the time waited for an answer."""

REFUSALS_MAX = 256
"""Refusals remembered, so that each is reported once."""

MISTRUSTED = "certificate"
"""`why` of the error that tells of a certificate that is not accepted."""

FOREIGN = "foreign"
"""`why` of the error for an answer 401 or 403 that no node gave: a proxy did."""

BARRING = frozenset({"host", "origin", FOREIGN})
"""Reasons of `denied` that concern the URL by which a node was called, and no credentials: its URL is barred."""


def bars(error: RequestError | None) -> bool:
    """Tell whether an error bars its URL, as 404 does, instead of stopping the client (P-CLI-6)."""
    return isinstance(error, Denied) and error.why in BARRING


class Fire(Protocol):
    """Runs the row of the table that a trigger has in the present state."""

    def __call__(self, trigger: Trigger, cause: Cause = ...) -> None:
        """Fire `trigger`."""
        ...


@dataclass(slots=True)
class Core:
    """The shared state. `now` is set before each event; actions are gathered in `out`."""

    options: MachineOptions
    random: Random
    knowledge: Knowledge
    queue: PublishQueue
    advice: Advice
    fire: Fire
    path_failed: Callable[[Rotation], None]
    """Take note of a failure of a path."""
    credentials: Credentials
    reach: Reach
    """The URLs that refuse connections. Change it by `refused_dial` and `reached`."""
    connect_at: Callable[[], float]
    """Return when the next connection is due; infinity if none is planned."""
    reach_changed: Callable[[], None]
    """Tell the paths that a URL began to refuse connections, refused a probe, or takes connections again."""
    mode: Mode = "closed"
    now: float = 0.0
    limits: Limits | None = None
    portions: Portions = field(default_factory=Portions)
    """The portions of requests by `limits`, or by defaults as long as there are none."""
    timeout_s: float = math.inf
    """How long the last node that spoke says to wait for an answer."""
    out: list[Action] = field(default_factory=list)
    fired: list[tuple[Mode, Trigger]] = field(default_factory=list)
    """The cells of the table that the present event has come to, in order, rows and ignored ones."""
    counts: Counter[str] = field(default_factory=Counter)
    stopped_by: SoftstateError | None = None
    """The error for publishes of a client that has stopped for good."""
    failures: int = 0
    """Rounds in a row in which every URL failed, on the path that decides whether the client is offline."""
    _number: int = 0
    answered_url: str | None = None
    """The URL that last answered anything."""
    last_error: SoftstateError | None = None
    """The newest error that a node answered with, of those that waiting does not mend."""
    newest_error: SoftstateError | None = None
    """That, or a failure that waiting mends, if it came later."""
    failure: tuple[str, str | None] | None = None
    """The failure that the present event tells, in words, and its URL."""
    _refusals: set[tuple[str, str]] = field(default_factory=set)
    narrowing: frozenset[str] = frozenset()
    """The prefixes in whose place the application wants names below them, if they are denied."""
    narrowed: list[str] = field(default_factory=list)
    """Names that have taken such a place, and are still to be asked for."""

    @property
    def poll_timeout_s(self) -> float:
        """How long to wait for a page of a poll, or a batch of publishes, over HTTP."""
        return min(self.options.poll_timeout_s, self.timeout_s)

    @property
    def answer_s(self) -> float:
        """How long an answer of a node may take."""
        return min(self.timeout_s, self.options.hello_timeout_s)

    def patience_s(self) -> float:
        """Draw how long a connection may take until a poll goes beside it: a poll at once would fetch a set twice."""
        return jittered_s(self.random, EARLY * self.answer_s)

    def number(self) -> int:
        """Choose the number of a connection or an HTTP request."""
        self._number += 1
        return self._number

    def act(self, *actions: Action) -> None:
        """Add actions, in order."""
        self.out.extend(actions)

    def deliver(self, changes: Sequence[Change]) -> None:
        """Hand changes to the application."""
        if changes:
            self.out.append(Deliver(changes))

    def take_page(self, question: Question, message: Subscribed | Polled) -> None:
        """Apply one page of an answer, and tell the application what is new."""
        self.deliver(self.knowledge.apply_page(question, message.changes, message.position.revision))
        unreadable = len(question.unreadable)
        if message.unreadable:
            damaged = self.knowledge.apply_unreadable(question, message.unreadable, message.position.revision)
            if damaged:
                self.act(TopicsUnreadable(damaged))
        newest = max((change.version for change in message.changes), default=0)
        question.note_page(self.now, newest, damage=len(question.unreadable) > unreadable)

    def deny(self, names: Iterable[str], narrow: Mapping[str, Sequence[str]] | None = None) -> list[str]:
        """Drop names that a node refuses from the set, and report them; return those that were in it.

        The names below a prefix that is to be narrowed take its place, ahead of that: what is known of them stays.
        """
        narrow = narrow or {}
        held = self.knowledge.subscriptions
        below = [each for name in names if name in held and name in self.narrowing for each in narrow.get(name, ())]
        self.narrowed += self.knowledge.add(below)
        self.narrowing = self.narrowing.union(below)
        denied = self.knowledge.remove(names)
        if denied:
            self.act(NamesDenied(denied, narrow))
        return denied

    def refused(self, url: str, error: RequestError) -> None:
        """Report that a node refuses this client, or a request of it, once for each URL and reason."""
        self.last_error = error
        if len(self._refusals) >= REFUSALS_MAX:
            self._refusals.clear()
        if (url, error.message) not in self._refusals:
            self._refusals.add((url, error.message))
            self.act(NodeRefused(url, error))

    def mistrusted(self, url: str, error: RequestError | None) -> None:
        """Report it, if one side did not accept the other's certificate; that may be mended, and is tried again."""
        if error is not None and error.why == MISTRUSTED:
            self.refused(url, error)

    def refused_dial(self, url: str, planned_at: float = math.inf, *, placed: bool = False) -> None:
        """Take note that no stream to `url` came to be.

        If that is news, it is dialled again at `planned_at`, if that is within one spread: a time that was drawn from
        it before. Else after a wait of its own. `placed`: the time of this dial was drawn from the spread.
        """
        advice = self.advice
        if self.now < planned_at <= self.now + advice.recover_spread_s and not self.reach.refuses(url):
            self.reach.wait(url, self.now, planned_at)
        else:
            spread_s = advice.recover_spread_s if self.options.push else advice.poll_spread_s
            self.reach.refused(url, self.now, advice, spread_s, placed=placed)
        self.reach_changed()

    def reached(self, url: str) -> None:
        """Take note that `url` takes connections, also if this one came to nothing."""
        if self.reach.reached(url):
            self.reach_changed()

    def unauthenticated(self, token: str | None, error: Unauthenticated, url: str) -> bool:
        """Take note that a node refused `token`; tell whether it is another one already that is presented."""
        credentials = self.credentials
        if not credentials.provider:
            self.fire(Trigger.FORBIDDEN, Cause(error=error))
        elif not credentials.is_present(token):
            return True
        else:
            hope = self.token_refused(token, error, url)
            self.fire(Trigger.CREDENTIALS_REFUSED if hope else Trigger.TOKEN_FINAL, Cause(error=error))
        return False

    def token_refused(self, token: str | None, error: Unauthenticated, url: str) -> bool:
        """Take note that a node refused a token; tell whether there is hope for another one.

        The end of a token that nodes have taken is no news. Of one that none has taken, the application hears.
        """
        fresh = self.credentials.fresh
        hope = self.credentials.refused(token, error)
        if hope and fresh:
            self.refused(url, error)
        return hope

    def spread(self, span_s: float) -> float:
        """Draw a time between now and `span_s` later."""
        return self.now + self.random.uniform(0.0, span_s)

    def limit(self, limits: Limits) -> None:
        """Take over the limits that a node told: everything is cut to them from now on."""
        self.limits, self.portions = limits, Portions.of(limits)
        self.queue.limit(self.portions)

    def cut(self, names: Iterable[str], names_max: int = NAMES_MAX) -> list[list[str]]:
        """Cut names into requests, in order."""
        return self.portions.cut(names, self.knowledge.position, names_max)
