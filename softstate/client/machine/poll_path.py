"""The HTTP path of the client machine: rounds of polls, their pages, and their failures.

It goes on beside the WebSocket path (P-CLI-1). One request is in flight at a time. A round asks for the whole set, in
portions. Every page goes through the path rule (P-REW-7). While there is no connection, a node that offers it holds the
polls of a client that has nothing to learn (P-CLI-20).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field

import msgspec

from softstate.client.machine.backoff import BARRED_CAPS, POLL_S_MIN, Rotation, asked_s, jittered_s
from softstate.client.machine.events import Abandon, SendPoll
from softstate.client.machine.knowledge import CLOCK_RATE_MIN, Question
from softstate.client.machine.portions import NAMES_MAX
from softstate.client.machine.state import Cause, Core, bars
from softstate.client.machine.triggers import Trigger
from softstate.errors import (
    Compacted,
    Denied,
    Invalid,
    RequestError,
    Rewound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from softstate.wire.messages import Poll, Polled


@dataclass(slots=True)
class _PollRequest:
    """The request in flight: `question` stays the same for all its pages."""

    request: int
    url: str
    body: Poll
    question: Question
    deadline: float
    token: str | None = field(repr=False)
    """The token that it presents."""
    cursors: set[str]
    """The cursors that its pages have named so far."""
    held_s: float = 0.0
    """How long the node has held it before it read, at least, by this client's clock."""

    @property
    def waits(self) -> bool:
        """Whether the node may hold it for a while."""
        return bool(self.body.wait_ms)


LOOK_AGAIN_S = 1.0
"""How long after a round that had nothing to ask, since a subscribe asked it already, the next one is due."""

WAIT_S_MAX = 25.0
"""How long a node is asked to hold a poll, at most: many proxies cut a connection that is idle for longer."""

REFUSED_MAX = 256
"""Refused questions remembered for each URL."""

_WITHOUT_PUSH = frozenset({"polling", "offline"})


class PollPath:
    """Polls whenever `poll_at` has come. The machine schedules the first poll and stops the last."""

    def __init__(self, core: Core, asked_elsewhere: Callable[[], frozenset[str]]) -> None:
        self._core = core
        self._asked_elsewhere = asked_elsewhere
        """Returns the names whose whole state the other path is about to bring: it is not fetched twice."""
        self.rotation = Rotation(core.options.urls, core.random, core.reach)
        self._pending: _PollRequest | None = None
        self._rest: deque[list[str]] = deque()
        self._round_sent = -math.inf
        self.poll_at = math.inf
        self._held = False
        """Whether it waits until a URL may be dialled again."""
        self._refused: dict[str, dict[frozenset[str], float]] = {}
        """The questions, by their names, that a URL has refused, and until when it is not asked again (P-CLI-12).

        Not those that were too large, unless they were of one name: they are asked in halves.
        """
        self._nothing_for: Hashable = None
        """The set and the limits for which every URL has refused all there is to ask; None if they have not."""
        self._nothing_until = -math.inf
        self._names_max = NAMES_MAX
        self._lowered_for: Hashable = None
        """The set and the limits for which `_names_max` was lowered; None if it was not."""
        self._holds: str | None = None
        """The URL that answered last, and offers to hold polls."""

    @property
    def in_flight(self) -> bool:
        """Whether a request is in flight."""
        return self._pending is not None

    def deadline(self) -> float:
        """Return when something here is due."""
        poll_at = math.inf if self._core.credentials.held else self.poll_at
        if self._pending is None:
            return poll_at
        return min(self._pending.deadline, poll_at) if self._pending.waits else self._pending.deadline

    @property
    def asks_at(self) -> float:
        """From when on there is something to ask: a time to come if every URL has refused all of it (P-CLI-12)."""
        nothing = self._nothing_for is not None and self._nothing_for == self._circumstances()
        return self._nothing_until if nothing else -math.inf

    def url_of(self, request: int) -> str | None:
        """Return where a request in flight was sent; None for another one."""
        return self._pending.url if self._pending is not None and self._pending.request == request else None

    def schedule(self, due: float) -> None:
        """Poll at `due`, if not before. If a round is in flight, that is enough, unless the node may hold it."""
        if self._pending is None or self._pending.waits:
            self.poll_at = min(self.poll_at, due)

    def avoid(self, url: str) -> None:
        """Poll another node first, if there is one: this one does not answer."""
        if self.rotation.url == url:
            self.rotation.pass_over()

    def reach_changed(self, due: float) -> None:
        """Poll at `due` at the latest, if a round waits for a URL that takes connections again."""
        if self._held and self.poll_at < math.inf and self.rotation.choose(self._core.now) <= self._core.now:
            self.poll_at = min(self.poll_at, due)
            self._held = False

    def schedule_again(self, due: float) -> None:
        """Poll at `due`, or right after the round in flight, whose requests may be too old for new names."""
        self.poll_at = min(self.poll_at, due)

    def stop(self) -> None:
        """Poll no more, and give up what is in flight."""
        self.abandon()
        self.poll_at = math.inf

    def abandon(self) -> None:
        """Give up the round in flight."""
        if self._pending is not None:
            self._core.act(Abandon(self._pending.request))
        self._pending = self._holds = None
        self._rest.clear()

    def tick(self) -> None:
        """Do what is due."""
        if self._pending is not None:
            if self._core.now >= self._pending.deadline:
                self._core.reached(self._pending.url)  # it does not refuse: it is silent
                url = self._pending.url
                self.abandon()
                self._failed(url, 0.0)
            elif self._pending.waits and self._core.now >= self.poll_at and not self._core.credentials.held:
                self.abandon()  # something asks for an answer before the node has news
                self.poll()
        elif self._core.now >= self.poll_at and not self._core.credentials.held:
            self.poll()

    def poll(self) -> None:
        """Begin a round now, or as soon as a URL may be dialled."""
        core = self._core
        self.poll_at = self.rotation.choose(core.now)
        self._held = self.poll_at > core.now
        if self._held:
            return
        self.poll_at = math.inf
        self._round_sent = core.now
        if self._lowered_for not in (None, self._circumstances()):
            self._lowered_for, self._names_max = None, NAMES_MAX
        elsewhere = self._asked_elsewhere()
        names = [name for name in core.knowledge.subscriptions if name not in elsewhere]
        self._nothing_for, all_free = None, True
        for _ in core.options.urls:
            self._rest = deque(core.cut(names, self._names_max))
            free = self.rotation.free_at(self.rotation.url) <= core.now
            if free and self._next_batch():
                return
            all_free = all_free and free
            if names:
                self.rotation.pass_over()  # this node refuses every question that there is
        if names and not elsewhere and all_free:
            self._nothing_for, self._nothing_until = self._circumstances(), self._first_lapse()
        if core.knowledge.subscriptions:
            self.schedule(core.now + jittered_s(core.random, core.advice.poll_every_s if names else LOOK_AGAIN_S))

    # Answers ---------------------------------------------------------------------------------------------------------

    def answered(self, request: int, message: Polled) -> None:
        """Take one page of an answer."""
        pending = self._pending
        if pending is None or pending.request != request:
            return
        self._pending = None
        core, question = self._core, pending.question
        core.reached(pending.url)
        if not core.knowledge.usable(message.position, question.base):
            self._history_mismatch()
            return
        if core.knowledge.move(message.position):
            question.base = message.position
        core.take_page(question, message)
        # The node has read after the hold. No more than has passed: an age would else be of the future.
        pending.held_s += min(message.held_ms / 1000 * CLOCK_RATE_MIN, core.now - question.sent - pending.held_s)
        if message.more:
            self._next_page(pending, message.cursor)
            return
        core.deny(message.denied, message.narrow)
        core.credentials.told(pending.token, message.credentials_ms, question.sent)
        lag_s = message.lag_ms / 1000 - pending.held_s
        offers = message.next_ms is not None and asked_s(message.next_ms) < core.advice.poll_every_s
        self._holds = pending.url if offers else None
        core.deliver(core.knowledge.finish(question, message.position.revision, lag_s, message.compacted))
        self.rotation.succeeded()
        core.answered_url = pending.url
        core.failures = 0
        if not self._next_batch():
            self._round_done(message.next_ms)
        core.fire(Trigger.HTTP_ANSWERED)

    def failed(self, request: int, error: RequestError | None, *, unsent: bool = False) -> None:
        """Take the failure of a request; `unsent`: no stream came to be."""
        pending = self._pending
        if pending is None or pending.request != request:
            return
        self._pending = None
        core = self._core
        if unsent:
            core.refused_dial(pending.url, core.connect_at())
        else:
            core.reached(pending.url)
        core.mistrusted(pending.url, error)
        if isinstance(error, TooLarge | Invalid | Unsupported):
            self._turned_down(pending, error)
            return
        self._rest.clear()
        if isinstance(error, Unauthenticated) and not core.unauthenticated(pending.token, error, pending.url):
            return
        match error:
            case Rewound(position=position) if position is not None:
                if core.knowledge.usable(position, pending.question.base):
                    core.fire(Trigger.REWOUND, Cause(position=position))
                else:
                    self._history_mismatch()
            case Denied() if bars(error):
                self._barred(pending.url, error)
            case Denied():
                core.fire(Trigger.FORBIDDEN, Cause(error=error))
            case Compacted():
                core.knowledge.relist(pending.question.since)
                self._failed(pending.url, 0.0)
            case _:
                self._failed(pending.url, asked_s(error.retry_ms) if error else 0.0)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _next_page(self, pending: _PollRequest, cursor: str | None) -> None:
        if cursor is None or cursor in pending.cursors or pending.question.endless:
            self._core.last_error = Unavailable(f"{pending.url} announces further pages without an end")
            self._failed(pending.url, 0.0)
            return
        if self._asked_elsewhere().issuperset(pending.question.since):
            self._rest.clear()
            self.schedule(self._core.now + LOOK_AGAIN_S)
            return  # a subscribe is bringing the rest
        pending.cursors.add(cursor)
        body = msgspec.structs.replace(pending.body, cursor=cursor, wait_ms=pending.body.wait_ms and 0)
        self._send(pending.url, body, pending.question, pending.cursors, pending.held_s)

    def _turned_down(self, pending: _PollRequest, error: RequestError) -> None:
        """Report it and go on with other questions: the same one would be refused again."""
        core, names = self._core, list(pending.question.since)
        halves = isinstance(error, TooLarge) and len(names) > 1
        if pending.body.cursor is not None and not halves:
            # The question was taken. Its cursor may be of a node of another version behind the same URL.
            core.last_error = error
            self._failed(pending.url, 0.0)
            return
        core.refused(pending.url, error)
        if halves:
            # Smaller portions alone keep it from being asked again: what is noted here would outlive them.
            self._lowered_for, self._names_max = self._circumstances(), (len(names) + 1) // 2
            names += [name for portion in self._rest for name in portion]
            self._rest = deque(core.cut(names, self._names_max))
        else:
            self._note_refused(pending.url, frozenset(names))
        core.failures = 0
        if not self._next_batch():
            self.rotation.pass_over()  # another node may take what this one refused
            self._round_done(None)
        core.fire(Trigger.HTTP_ANSWERED)

    def _note_refused(self, url: str, names: frozenset[str]) -> None:
        """Leave a URL alone with a question for a while, as if it were barred for it: nodes change."""
        core, refused = self._core, self._refused.setdefault(url, {})
        if len(refused) >= REFUSED_MAX:
            refused.clear()
        refused[names] = core.now + jittered_s(core.random, BARRED_CAPS * core.advice.cap_s)

    def _first_lapse(self) -> float:
        """Return when the first question may be asked again that a URL has refused."""
        now = self._core.now
        lapses = (until for refused in self._refused.values() for until in refused.values())
        return min((until for until in lapses if until > now), default=now)

    def _circumstances(self) -> Hashable:
        core = self._core
        return (*core.knowledge.digest, core.limits)

    def _next_batch(self) -> bool:
        """Ask about the next names of the round; tell whether there were any left."""
        core, refused = self._core, self._refused.get(self.rotation.url, {})
        while self._rest:
            names = [name for name in self._rest.popleft() if name in core.knowledge.subscriptions]
            if names and refused.get(frozenset(names), -math.inf) <= core.now:
                question = core.knowledge.ask(names, core.now)
                body = Poll(
                    position=core.knowledge.position,
                    topics=question.topics,
                    prefixes=question.prefixes,
                    wait_ms=self._wait_ms(names),
                    age_ms=core.knowledge.told_age_ms(core.now),
                    mode=core.mode,
                )
                self._send(self.rotation.url, body, question, set())
                return True
        return False

    def _wait_ms(self, names: Collection[str]) -> int | None:
        """Return for how long the node is to hold a poll of `names`; None for one that is never to wait (P-CLI-20)."""
        core = self._core
        if core.mode not in _WITHOUT_PUSH or len(names) != len(core.knowledge.subscriptions):
            return None
        if core.mode != "polling" or self._holds != self.rotation.url or core.knowledge.lowest_revision() is None:
            return 0
        return round(min(core.advice.poll_every_s, WAIT_S_MAX) * 1000)

    def _send(self, url: str, body: Poll, question: Question, cursors: set[str], held_s: float = 0.0) -> None:
        core = self._core
        timeout_s = core.poll_timeout_s + (body.wait_ms or 0) / 1000
        deadline, token = core.now + timeout_s, core.credentials.cell.token
        self._pending = _PollRequest(core.number(), url, body, question, deadline, token, cursors, held_s)
        core.counts["polls"] += 1
        core.reach.probe(url, self._pending.deadline)
        core.act(SendPoll(self._pending.request, url, body, timeout_s))

    def _round_done(self, next_ms: int | None) -> None:
        core = self._core
        # Always with jitter: all clients that a node answers at once are told the same.
        every_s = core.advice.poll_every_s if next_ms is None else max(asked_s(next_ms), POLL_S_MIN)
        pause_s = jittered_s(core.random, every_s)
        self.schedule(max(core.now, self._round_sent + pause_s))

    def _history_mismatch(self) -> None:
        """Discard an answer that may belong to another history, and poll again."""
        core = self._core
        core.counts["history_mismatches"] += 1
        self._rest.clear()
        self.schedule(core.spread(core.advice.base_s))

    def _barred(self, url: str, error: RequestError) -> None:
        core = self._core
        core.refused(url, error)
        self.poll_at = self.rotation.bar(url, core.now, core.advice)
        core.path_failed(self.rotation)

    def _failed(self, url: str, retry_s: float) -> None:
        core = self._core
        self._holds = None
        self._rest.clear()
        self.poll_at = self.rotation.failed(url, core.now, core.advice, retry_s, core.advice.poll_spread_s)
        core.path_failed(self.rotation)
