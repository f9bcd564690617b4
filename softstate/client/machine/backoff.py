"""Times of retries: jitter, backoff with full jitter, and the rotation through several URLs.

Nothing here reads a clock or draws from a generator of its own. Full jitter (P-CLI-4) is Brooker's ("Exponential
Backoff And Jitter", AWS, 2015): a wait is drawn evenly between nothing and the bound, so that a herd does not come back
as one. The bound is never below the spread that nodes advised: with a spread for the first attempt only, all clients
whose first attempt came too early would come again within the first, short backoff.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from softstate.wire.messages import PollAdvice, RecoverAdvice

JITTER = 0.2
"""Regular timers vary by this fraction either way."""

DOUBLINGS_MAX = 30
"""A backoff bound is doubled at most so often; any sane cap is reached long before."""

BARRED_CAPS = 10.0
"""When no URL serves WebSocket, that is asked again after this many backoff caps; so is a poll that was refused."""


RETRY_S_MAX = 3_600.0
"""A wait that an answer asks for (Retry-After) or advises counts as this at most: a mistaken one must not end a client.

Nodes of this version advise a third of it at most (P-CONN-10)."""

POLL_S_MIN = 0.05
BACKOFF_BASE_S_MIN = 0.02
BACKOFF_CAP_S_MIN = 0.2
RENEW_S_MIN = 0.2
TIMEOUT_S_MIN = 0.1
"""A client does not poll, come back or renew more often than this, nor wait shorter for an answer, even if a node
advises so: advice may be mistaken (P-CLI-18)."""

LEASE_S_MIN = 5.0
"""A lease that ended sooner counts as a failure, for the time until the next."""


@dataclass(frozen=True, slots=True)
class Advice:
    """How to poll, come back and back off: a node's advice, given before it is needed; seconds."""

    poll_every_s: float = 15.0
    poll_spread_s: float = 1.0
    recover_spread_s: float = 1.0
    base_s: float = 0.5
    cap_s: float = 30.0

    @classmethod
    def of(cls, poll: PollAdvice, recover: RecoverAdvice) -> Advice:
        """Take over what `welcome` or `renewed` says."""
        return cls(
            max(asked_s(poll.every_ms), POLL_S_MIN),
            asked_s(poll.spread_ms),
            asked_s(recover.spread_ms),
            max(asked_s(recover.base_ms), BACKOFF_BASE_S_MIN),
            max(asked_s(recover.cap_ms), BACKOFF_CAP_S_MIN),
        )

    def backoff_s(self, random: Random, tries: int) -> float:
        """Draw the wait after `tries` failures in a row before this one: U(0, min(cap, base · 2^tries))."""
        return self.pause_s(random, tries, 0.0)

    def pause_s(self, random: Random, tries: int, spread_s: float) -> float:
        """Draw the wait of a backoff that covers a spread, so that no retry is less spread than the first attempt was.

        U(0, max(spread, min(cap, base · 2^tries))), P-CLI-4.
        """
        bound_s = min(self.cap_s, self.base_s * 2.0 ** min(tries, DOUBLINGS_MAX))
        return random.uniform(0.0, max(bound_s, spread_s))


def jittered_s(random: Random, period_s: float) -> float:
    """Draw one period of a regular timer: ± 20 %."""
    return period_s * random.uniform(1.0 - JITTER, 1.0 + JITTER)


def asked_s(wait_ms: int | None) -> float:
    """Return the wait that an answer asks for or advises, in seconds: an hour at most, 0 if it does not ask."""
    return min((wait_ms or 0) / 1000, RETRY_S_MAX)


class Doors(Protocol):
    """Knows which URLs refuse connections (`reach.Reach`)."""

    def refuses(self, url: str) -> bool:
        """Tell whether the last dial to `url` was refused."""
        ...

    def allowed_at(self, url: str) -> float:
        """Return from when on `url` may be dialled; minus infinity unless it refuses."""
        ...


class Rotation:
    """One path's way through the URLs: which one to try next, and not before when.

    A failure moves on to the next URL at once; when every URL has failed in this round, it backs off first. What a
    node asked for (Retry-After) holds for its URL alone and is never cut short (P-CLI-5). A URL can be barred for this
    path. A URL that refuses connections, as `doors` know of all paths, is passed over until it may be dialled
    (P-CLI-13). Ask `choose` before each dial: times that were planned before may have become too early.
    """

    def __init__(self, urls: Sequence[str], random: Random, doors: Doors | None = None) -> None:
        self._urls = list(urls)
        self._random = random
        self._doors = doors
        self._at = 0
        self._tried: set[str] = set()
        self._rounds = 0
        self._not_before: dict[str, float] = {}
        self._barred: set[str] = set()
        self.not_before = -math.inf
        """Until when no URL is tried: a `bye` asked for it (P-CLI-5), or all were barred (P-CLI-6)."""
        self.round_over = False
        """Whether the last failure was the last of its round: every URL that may be tried has failed."""

    @property
    def url(self) -> str:
        """The URL to try next."""
        return self._urls[self._at]

    @property
    def left(self) -> int:
        """How many URLs are left to try in this round, the present one included."""
        return max(len(set(self._usable) - self._tried), 1)

    @property
    def fresh(self) -> bool:
        """Whether no URL has failed in this round yet."""
        return not self._tried

    def begin_at(self, url: str) -> None:
        """Try `url` next, unless it is barred."""
        if url not in self._barred:
            self._at = self._urls.index(url)

    def succeeded(self) -> None:
        """Record that the present URL works: stay with it, and begin a new round when it fails."""
        self._tried.clear()
        self._rounds = 0

    def failed(self, url: str, now: float, advice: Advice, retry_s: float = 0.0, spread_s: float = 0.0) -> float:
        """Move on from `url`, which asks for `retry_s` seconds of peace; return the time from which to try again.

        A backoff covers `spread_s`, and comes on top of `retry_s`. While all URLs refuse, the time is that of the next
        probe.
        """
        self._tried.add(url)
        self._not_before[url] = now
        if retry_s > 0.0:
            self._not_before[url] += retry_s + advice.pause_s(self._random, self._rounds, spread_s)
        waiting = [other for other in self._usable if other not in self._tried and self.free_at(other) <= now]
        self.round_over = not waiting
        if waiting:
            while self.url not in waiting:
                self._advance()
            return now
        if self.url == url:
            self._advance()
        earliest = now + advice.pause_s(self._random, self._rounds, spread_s)
        self._tried.clear()
        self._rounds += 1
        asked = min(self._not_before.get(other, now) for other in self._usable)
        return max(earliest, asked) if self.probe_at is None else self.probe_at

    def free_at(self, url: str) -> float:
        """Return from when on `url` may be tried."""
        allowed_at = -math.inf if self._doors is None else self._doors.allowed_at(url)
        return max(self.not_before, allowed_at, self._not_before.get(url, -math.inf))

    @property
    def probe_at(self) -> float | None:
        """When the next probe is due, if all URLs of this path refuse connections; else None."""
        if self._doors is None or not all(map(self._doors.refuses, self._usable)):
            return None
        return min(map(self.free_at, self._usable))

    def choose(self, now: float) -> float:
        """Pass over URLs that may not be tried yet; return when the present one, the first that may, may be."""
        for _ in self._urls:
            if self.free_at(self.url) <= now:
                return now
            self._advance()
        return min(map(self.free_at, self._usable))

    def heed(self, other: Rotation) -> None:
        """Leave URLs alone for as long as they asked `other` for it."""
        for url, until in other._not_before.items():
            self._not_before[url] = max(until, self._not_before.get(url, until))

    def pass_over(self) -> None:
        """Move on to the next URL, though this one has not failed here."""
        self._advance()

    def bar(self, url: str, now: float, advice: Advice) -> float:
        """Never try `url` again on this path (P-CLI-6); return when to try the next.

        When all are barred, all are allowed again, much later: nodes get new roles.
        """
        self._barred.add(url)
        self.round_over = not self._usable
        if self.round_over:
            self._barred.clear()
            self._tried.clear()
            self.not_before = now + jittered_s(self._random, BARRED_CAPS * advice.cap_s)
            return self.not_before
        if self.url == url:
            self._advance()
        return now

    @property
    def _usable(self) -> list[str]:
        return [url for url in self._urls if url not in self._barred]

    def _advance(self) -> None:
        self._at = (self._at + 1) % len(self._urls)
        while self.url in self._barred:
            self._at = (self._at + 1) % len(self._urls)
