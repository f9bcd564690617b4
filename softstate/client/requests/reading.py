"""Plain reads over HTTP: one topic, a listing, a node's status. They take no lease and move no subscription.

Each read is tried on one node after another until one answers or the time is up: these generators choose the node, say
how long it may take and how long to wait, and put pages together. `softstate.client.shell.reader` does what they yield.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, TypeAlias, TypeVar, final
from urllib.parse import quote, urlencode

from softstate.client.machine.backoff import asked_s
from softstate.client.machine.credentials import TokenCell
from softstate.client.machine.knowledge import CLOCK_RATE_MIN
from softstate.client.machine.state import bars
from softstate.client.requests.reply import HttpFailed, lag_s_of, version_of
from softstate.client.requests.steps import AnotherToken, Ask, FirstToken, SleepUntil, Steps, TimeIsUp, ask
from softstate.client.url import NodeUrl
from softstate.errors import (
    Behind,
    Compacted,
    Denied,
    NotFound,
    Overloaded,
    RequestError,
    Rewound,
    Unauthenticated,
    Unavailable,
)
from softstate.model import Change
from softstate.wire import JSON
from softstate.wire.messages import Polled

T = TypeVar("T")

TRY_S_MIN = 1.0
"""How long one node may take at least before another one is asked; more if the time that is left allows it for all."""

TRY_S_MAX = 10.0
"""How long one node may take at most. It answers within ``timeout_ms`` (5 s), even if it waits for a version."""

RETRY_S_MIN = 0.01
"""Shortest wait that a node can ask for."""

RETRY_BASE_S = 0.1
RETRY_CAP_S = 5.0
"""A node that asked for no wait is asked again after a time from 0 to min(cap, base · 2^rounds): full jitter.

(Exponential Backoff And Jitter, AWS Architecture Blog, 2015.)
"""

_TRY_ELSEWHERE = (Behind, Overloaded, Unavailable, Compacted, Rewound)
"""Answers after which asking again makes sense; the last two cut a listing short, which then starts again."""

_Read: TypeAlias = Callable[[NodeUrl, float], Steps[T]]
"""A read of one node, which may take so many seconds for each request."""


class Listing(list[Change]):
    """A listing. Topics whose stored records are damaged are not in it, but named in `unreadable`."""

    unreadable: tuple[str, ...] = ()


class Aged(NamedTuple):
    """The state of a topic as a read found it, and how old that may be at most, in seconds."""

    change: Change | None
    age_s: float


@final
class Reading:
    """Reads through any of several nodes; with a provider of tokens, `provider`, also past refused ones.

    Each method returns a generator, to be driven for `timeout_s` at most; `TimeIsUp` thrown into it makes it raise what
    an application is told. `now` reads the clock by which its driver waits, `clock` the one by which ages are counted.
    """

    def __init__(
        self,
        urls: Sequence[NodeUrl],
        random: Random,
        cell: TokenCell,
        now: Callable[[], float],
        *,
        clock: Callable[[], float] | None = None,
        provider: bool = False,
    ) -> None:
        self._urls = urls
        self._random = random
        self._cell = cell
        self._now = now
        self._clock = clock or now
        self._provider = provider
        self._at = 0

    def get(self, topic: str, at_least: int | None, timeout_s: float) -> Steps[Aged]:
        """Read the state of a topic: a tombstone, if the node knows one; None if it knows nothing."""
        path = "/v1/topics/" + quote(topic, safe="/")
        if at_least is not None:
            path += f"?at_least={at_least}"

        def read(url: NodeUrl, timeout_s: float) -> Steps[Aged]:
            asked_s = self._clock()
            reply = yield from ask(Ask(url, "GET", path, timeout_s))
            age_s = (self._clock() - asked_s + lag_s_of(reply)) / CLOCK_RATE_MIN  # P-KNOW-8
            version = version_of(reply)
            try:
                value = reply.decode(object)
            except NotFound as missing:
                version = missing.version if version is None else version
                return Aged(None if version is None else Change(topic, version, deleted=True), age_s)
            if version is None:
                raise HttpFailed(f"{url} answered without an ETag")
            return Aged(Change(topic, version, value), age_s)

        return self._ask(read, timeout_s)

    def listing(self, prefix: str, timeout_s: float) -> Steps[Listing]:
        """Read every topic below a prefix that has a value, in order of their names."""
        return self._ask(lambda url, timeout_s: _pages(url, prefix, timeout_s), timeout_s)

    def count(self, prefix: str, most: int, timeout_s: float) -> Steps[int]:
        """Count the topics below a prefix that have a value, up to `most`, which has to fit into one page."""

        def read(url: NodeUrl, timeout_s: float) -> Steps[int]:
            path = "/v1/topics?" + urlencode({"prefix": prefix, "limit": most})
            page = (yield from ask(Ask(url, "GET", path, timeout_s))).decode(Polled)
            return most if page.more else len(page.changes) + len(page.unreadable)

        return self._ask(read, timeout_s)

    def status(self, timeout_s: float) -> Steps[dict[str, object]]:
        """Read a node's own account of what it holds."""

        def read(url: NodeUrl, timeout_s: float) -> Steps[dict[str, object]]:
            reply = yield from ask(Ask(url, "GET", "/v1/status", timeout_s, accept=JSON.content_type))
            return reply.decode(dict)

        return self._ask(read, timeout_s)

    def _ask(self, read: _Read[T], timeout_s: float) -> Steps[T]:
        """Try the nodes in turn, beginning with the one that answered last.

        A try may take what is left of the time, divided by the nodes left in this round, so that a silent node leaves
        the others theirs. A node that said when to come back is not asked before (P-CLI-5). One that refuses the name
        by which it was called is passed over; if all do, that is raised. One that refuses the token is asked again with
        another, if there is a provider of them.
        """
        last: RequestError | HttpFailed = HttpFailed("none of them was reached")
        count, first = len(self._urls), self._at
        free_s, refusing = [-math.inf] * count, set[int]()
        ends_s = self._now() + timeout_s
        try:
            for rounds in itertools.count():
                for number in range(count):
                    at = (first + number) % count
                    now = self._now()
                    if now < free_s[at]:
                        continue
                    left_s = (ends_s - now) / (count - number)
                    try:
                        answer = yield from self._read(read, self._urls[at], min(max(left_s, TRY_S_MIN), TRY_S_MAX))
                    except Denied as error:
                        refusing.add(at)
                        if not bars(error) or len(refusing) == count:
                            raise
                        last, told_ms = error, error.retry_ms
                    except (*_TRY_ELSEWHERE, HttpFailed) as error:
                        refusing.discard(at)
                        if not (isinstance(last, Behind) and isinstance(error, HttpFailed)):
                            last = error  # that a node is behind says more than that another one is silent
                        told_ms = error.retry_ms if isinstance(error, RequestError) else None
                    except RequestError:
                        self._at = at
                        raise
                    else:
                        self._at = at
                        return answer
                    free_s[at] = self._now() + self._wait_s(told_ms, rounds)
                yield SleepUntil(min(free_s))
        except TimeIsUp:
            pass
        if isinstance(last, RequestError):
            raise last
        raise Unavailable(f"no node answered within {timeout_s:g} s; the last one: {last}") from last

    def _read(self, read: _Read[T], url: NodeUrl, timeout_s: float) -> Steps[T]:
        """Read from one node; once more for each token that the provider gives for one that the node refuses."""
        if not self._provider:
            return (yield from read(url, timeout_s))
        yield FirstToken()
        while True:
            presented = self._cell.token
            try:
                return (yield from read(url, timeout_s))
            except Unauthenticated as error:
                yield AnotherToken(presented, error)

    def _wait_s(self, told_ms: int | None, rounds: int) -> float:
        if told_ms is not None:
            return max(asked_s(told_ms), RETRY_S_MIN)
        return self._random.uniform(0, min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(rounds, 16)))


def _pages(url: NodeUrl, prefix: str, timeout_s: float) -> Steps[Listing]:
    found: dict[str, Change] = {}
    damaged: dict[str, None] = {}
    query, cursors = {"prefix": prefix}, set[str]()
    while True:
        page = (yield from ask(Ask(url, "GET", "/v1/topics?" + urlencode(query), timeout_s))).decode(Polled)
        for change in page.changes:
            if change.topic not in found or found[change.topic].version < change.version:
                found[change.topic] = change
            damaged.pop(change.topic, None)
        for topic in page.unreadable:
            damaged[topic] = None
            found.pop(topic, None)
        if not page.more:
            listed = Listing(sorted((each for each in found.values() if not each.deleted), key=_topic))
            listed.unreadable = tuple(sorted(damaged))
            return listed
        if page.cursor is None or page.cursor in cursors:
            raise HttpFailed(f"{url} announced another page without saying where it begins")
        cursors.add(page.cursor)
        query["cursor"] = page.cursor


def _topic(change: Change) -> str:
    return change.topic
