"""Times of retries: jitter, backoff with full jitter, and the rotation through several URLs.

Nothing here reads a clock or draws from a generator of its own. Full jitter (P-CLI-4) is Brooker's ("Exponential
Backoff And Jitter", AWS, 2015): a wait is drawn evenly between nothing and the bound, so that a herd does not come back
as one. The bound is never below the spread that nodes advised: with a spread for the first attempt only, all clients
whose first attempt came too early would come again within the first, short backoff.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from softstate.wire.messages import PollAdvice, RecoverAdvice

JITTER = 0.2
"""Regular timers vary by this fraction either way."""

DOUBLINGS_MAX = 30
"""A backoff bound is doubled at most so often; any sane cap is reached long before."""

BARRED_CAPS = 10.0
"""When no URL serves WebSocket, that is asked again after this many backoff caps."""


RETRY_S_MAX = 3_600.0
"""A wait that an answer asks for (Retry-After) counts as this at most: a mistaken one must not end a client."""

POLL_S_MIN = 0.05
BACKOFF_BASE_S_MIN = 0.02
BACKOFF_CAP_S_MIN = 0.2
"""A client does not poll or come back more often than this, even if a node advises so: advice may be mistaken."""


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
            max(poll.every_ms / 1000, POLL_S_MIN),
            poll.spread_ms / 1000,
            recover.spread_ms / 1000,
            max(recover.base_ms / 1000, BACKOFF_BASE_S_MIN),
            max(recover.cap_ms / 1000, BACKOFF_CAP_S_MIN),
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


class Doors(Protocol):
    """Knows which URLs refuse connections (`reach.Reach`)."""

    def allowed_at(self, url: str) -> float:
        """Return from when on `url` may be dialled; minus infinity unless it refuses."""
        ...

    def next_probe_at(self, urls: Iterable[str]) -> float | None:
        """Return when the first of `urls` may be dialled if all refuse, else None."""
        ...


class Rotation:
    """One path's way through the URLs: which one to try next, and not before when.

    A failure moves on to the next URL at once; when every URL has failed in this round, it backs off first. What a
    node asked for (Retry-After) holds for its URL and is never cut short (P-CLI-5). A URL can be barred for this path.
    A URL that refuses connections, as `doors` know of all paths, is passed over until it may be dialled (P-CLI-13).
    """

    def __init__(self, urls: Sequence[str], random: Random, doors: Doors | None = None) -> None:
        self._urls = list(urls)
        self._random = random
        self._doors = doors
        self._at = 0
        self._tried = 0
        self._rounds = 0
        self._not_before: dict[str, float] = {}
        self._barred: set[str] = set()
        self.round_over = False
        """Whether the last failure was the last of its round: every URL has failed."""

    @property
    def url(self) -> str:
        """The URL to try next."""
        return self._urls[self._at]

    @property
    def left(self) -> int:
        """How many URLs are left to try in this round, the present one included."""
        return max(len(self._usable) - self._tried, 1)

    @property
    def fresh(self) -> bool:
        """Whether no URL has failed in this round yet."""
        return self._tried == 0

    def begin_at(self, url: str) -> None:
        """Try `url` next, unless it is barred."""
        if url not in self._barred:
            self._at = self._urls.index(url)

    def succeeded(self) -> None:
        """Record that the present URL works: stay with it, and begin a new round when it fails."""
        self._tried = self._rounds = 0

    def failed(self, now: float, advice: Advice, retry_s: float = 0.0, spread_s: float = 0.0) -> float:
        """Move on to the next URL; return the time from which it may be tried.

        A backoff covers `spread_s`. While all URLs refuse, the time is that of the next probe.
        """
        self._not_before[self.url] = now + min(retry_s, RETRY_S_MAX)
        self._tried += 1
        self._advance()
        earliest = max(now, self._not_before.get(self.url, now))
        self.round_over = self._tried >= len(self._usable)
        if self.round_over:
            earliest += advice.pause_s(self._random, self._rounds, spread_s)
            self._tried = 0
            self._rounds += 1
        probe_at = self.probe_at
        return earliest if probe_at is None else probe_at

    @property
    def probe_at(self) -> float | None:
        """When the next probe is due, if all URLs of this path refuse connections; else None."""
        if self._doors is None or (probe_at := self._doors.next_probe_at(self._usable)) is None:
            return None
        return max(probe_at, min(self._not_before.get(url, probe_at) for url in self._usable))

    def choose(self, now: float) -> float:
        """Pass over URLs that may not be dialled yet; return when the present one, the first that may, may be."""
        if self._doors is None or self._doors.allowed_at(self.url) <= now:
            return now
        waits = []
        for _ in self._urls:
            self._advance()
            waits.append(max(self._doors.allowed_at(self.url), self._not_before.get(self.url, now)))
            if waits[-1] <= now:
                return now
        return min(waits)

    def pass_over(self) -> None:
        """Move on to the next URL, though this one has not failed here."""
        self._advance()

    def bar(self, now: float, advice: Advice) -> float:
        """Never try the present URL again on this path (P-CLI-6); return when to try the next.

        When all are barred, all are allowed again, much later: nodes get new roles.
        """
        self._barred.add(self.url)
        self.round_over = len(self._barred) == len(self._urls)
        if self.round_over:
            self._barred.clear()
            self._tried = 0
            return now + jittered_s(self._random, BARRED_CAPS * advice.cap_s)
        self._advance()
        return max(now, self._not_before.get(self.url, now))

    @property
    def _usable(self) -> list[str]:
        return [url for url in self._urls if url not in self._barred]

    def _advance(self) -> None:
        self._at = (self._at + 1) % len(self._urls)
        while self.url in self._barred:
            self._at = (self._at + 1) % len(self._urls)
