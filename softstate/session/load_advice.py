"""A node's terms for its clients, and its advice for the time after a crash, when no node is left to give any.

When a node dies, all N clients learn of it in the same instant. If it serves mu handshakes a second, their return takes
N/mu seconds at best. It may never end if the node also serves requests that their clients have given up: with a client
timeout q and a mean backoff b, the node never recovers once N/mu > 2q + b, since clients that were not served in time
come back faster than it serves them (a metastable failure: Bronson et al., HotOS 2021; `bench herd` simulates it). Two
guards, each for the case in which the other fails:

- *Spread*: every client waits a random part of N / (2/3 mu) seconds before it comes back. It learned the number in
  its last `renewed`. (etcd fills three quarters of its revocation rate when it spreads lease expiries after a leader
  change, `server/lease/lessor.go`; see `LOAD`.)
- *Shed*: a request that would wait too long is refused at once, before any work is done for it (`ServiceRate.in_time`).

After a long outage, clients that back off with full jitter, U(0, cap), arrive fastest in the moment in which the node
is back: 2N/cap a second. Hence cap >= 2N / (2/3 mu).

Sans-I/O: `now` is in seconds of one clock that never goes back; random draws are the caller's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from softstate.model import Durability
from softstate.wire.messages import Limits, PollAdvice, RecoverAdvice

LOAD = 2 / 3
"""Fraction of a service rate that clients which come back as advised may use; the rest is for all others, and for what
a node that has just started lacks of the rate that the one before it had measured. 3,000 clients on the same two cores
(`bench recovery --down 2s`) were fresh 2.3 s after the node listened at 0.5, 1.7 at 2/3, 1.6 at 0.75; with one core
busy 2.1, 1.8 and 2.1, and at 0.75 three of a hundred publishes were late."""

SERVED_WITHIN = 0.8
"""Part of the time that clients wait within which the node has to be done; the rest is the network's, and for errors of
the prediction."""

RATE_PRIOR_PER_S = 500.0
RATE_FLOOR_PER_S = 10.0
RATE_CEILING_PER_S = 20_000.0
"""Defaults of `ServiceRate`: the rate before anything was measured, and the bounds of any rate."""

SMOOTHING_S = 5.0
"""Default time constant of `ServiceRate`: busy seconds after which a new rate has replaced 63 % of the old one."""

PRIOR_S = 0.25
"""Busy seconds for which the rate before anything was measured counts: a node whose clients all come in its first
second has to know how fast it was, when it dies in the next."""

TOGETHER = 16
"""Requests that fill the time in which the node only waits for its store. One that waits alone takes a sixteenth of
it, since a call of the store answers many for little more than the price of one. An estimate."""

SPREAD_MS_MIN = 100
SPREAD_MS_MAX = 600_000
"""Default bounds of every spread. Beyond the upper one, shedding has to do the rest."""

POLL_MS = 15_000
"""Default interval between polls, while the node can serve all of its clients that often."""

RECOVER_BASE_MS = 500
"""Default for the first backoff of a client."""

TIMEOUT_MS = 5_000
"""Default for the time that a client waits for an answer."""

RECOVER_CAP_MS = 30_000
"""Default for the longest backoff of a client, while the node can serve all of its clients that often."""

POLLED_BEFORE = 0.5
"""Clients poll before a connect that is due later than this part of the time waited for an answer (P-CLI-14)."""

POLL_LATE = 1.2
"""A poll is expected for this many times the interval that its client was told: clients vary it by 20 % (P-CLI-1)."""

RENEWALS_PER_TTL = 3
"""A client renews this often within a TTL, so that losing one costs nothing (P-REN-11); etcd's clients do the same."""


class ServiceRate:
    """Measures how many requests of a kind (handshakes, polls) this node can serve a second.

    The rate is requests served per *busy* second, one in which at least one was in progress, so that an idle node
    does not look slow. While the node itself has nothing to do (`waits`), and all wait for its store, time counts in
    part, by how many do (`TOGETHER`): else the rate of a node whose clients come one by one would be one over the
    *time* that a request takes, while its capacity is one over the *work* (the utilization law: Denning and Buzen,
    "The Operational Analysis of Queueing Network Models", 1978).

    The rate is a mean in which `prior_per_s` weighs as much as `PRIOR_S` busy seconds, smoothed exponentially once
    `smoothing_s` of them have passed, and is kept within `floor_per_s` and `ceiling_per_s`. Between `began` and `ended`
    put only what the node does itself: waiting there for a peer's bytes would count as slowness of the node.
    `MeasuredRequest` does that for a request in several parts, and for one that does not come to an end.
    """

    def __init__(
        self,
        *,
        prior_per_s: float = RATE_PRIOR_PER_S,
        floor_per_s: float = RATE_FLOOR_PER_S,
        ceiling_per_s: float = RATE_CEILING_PER_S,
        smoothing_s: float = SMOOTHING_S,
    ) -> None:
        assert 0 < floor_per_s <= prior_per_s <= ceiling_per_s
        self._floor_per_s = floor_per_s
        self._ceiling_per_s = ceiling_per_s
        self._smoothing_s_max = smoothing_s
        self._smoothing_s = min(PRIOR_S, smoothing_s)
        self._per_s = prior_per_s
        self._waits = False
        self._in_progress = 0
        self._measured_until = 0.0
        self._charged_each = 0.0

    @property
    def per_s(self) -> float:
        """The rate, in requests a second, as of the last `began` or `ended`."""
        return self._per_s

    @property
    def in_progress(self) -> int:
        """The number of requests that have begun and not ended."""
        return self._in_progress

    def began(self, now: float) -> None:
        """Count a request in: work for it begins, or it begins to wait for the node to have time."""
        self._measure(now)
        self._in_progress += 1

    def free_since(self, since: float, now: float) -> float:
        """Return from when on a request that came at `since` may count: what counts for another does not count twice.

        Give `began` that instead of `now` if the node has worked on it since it came.
        """
        return now if self._in_progress else min(max(since, self._measured_until), now)

    def waits(self, now: float) -> None:
        """Note that the node has nothing to do, and waits: for its store, if anything is in progress."""
        self._measure(now)
        self._waits = True

    def goes_on(self, now: float) -> None:
        """Note that the node waits no longer."""
        self._measure(now)
        self._waits = False

    def ended(self, now: float) -> None:
        """Count a request out, also one that its client gave up: it has cost as much."""
        self.paused(now)
        self.served()

    def paused(self, now: float) -> None:
        """Stop to count a request as in progress: the node waits for its peer, or the request is over."""
        assert self._in_progress > 0
        self._measure(now)
        self._in_progress -= 1

    def served(self) -> None:
        """Count a request as served, whose parts were counted in and out."""
        self._per_s = min(self._per_s + 1 / self._smoothing_s, self._ceiling_per_s)

    @property
    def charged_each(self) -> float:
        """The sum, since the start, of what time has taken from the rate, in equal shares for all in progress."""
        return self._charged_each

    def refund(self, charge: float) -> None:
        """Give back what a request was charged that says nothing about the rate, such as a failed one."""
        self._per_s = min(self._per_s + charge, self._ceiling_per_s)

    def backlog_s(self) -> float:
        """Return how many seconds it takes to serve what is in progress."""
        return self._in_progress / self._per_s

    def in_time(self, timeout_s: float, age_s: float = 0.0) -> bool:
        """Tell whether one more request, which has waited for `age_s`, would be served before its client gives up.

        That is within `SERVED_WITHIN` of `timeout_s`: later, the work would be for clients that have gone.
        """
        return age_s + self.backlog_s() <= SERVED_WITHIN * timeout_s

    def _measure(self, now: float) -> None:
        # dr/dt = (true rate - r) / smoothing: time takes away here what `ended` gives, so both meet at the true rate.
        if self._in_progress:
            before = self._per_s
            busy_s = now - self._measured_until
            if self._waits:
                busy_s *= min(1.0, self._in_progress / TOGETHER)
            # As long as this grows, the rate is the mean of all that was measured, and of the prior.
            weight_s = min(self._smoothing_s + busy_s, self._smoothing_s_max)
            grown_s = weight_s - self._smoothing_s
            decay = self._smoothing_s / weight_s * math.exp((grown_s - busy_s) / self._smoothing_s_max)
            self._smoothing_s = weight_s
            self._per_s = max(before * decay, self._floor_per_s)
            self._charged_each += (before - self._per_s) / self._in_progress
        self._measured_until = now


class MeasuredRequest:
    """One request as a `ServiceRate` sees it, in parts: the node works, waits for the peer, and works again.

    It ends as `served`, or as `left`: then it leaves the rate as if it had not been, so that neither errors, which are
    fast while the store is down and slow when it is stuck, nor peers that go away in the middle, move it. Once it has
    ended, nothing counts any more. `since`: the node has worked on it before it is known what kind of request it is.
    """

    __slots__ = ("_charge", "_mark", "_over", "_rate", "_since", "_working")

    def __init__(self, rate: ServiceRate, since: float = math.inf) -> None:
        self._rate = rate
        self._since = since
        self._mark = self._charge = 0.0
        self._working = self._over = False

    def works(self, now: float) -> None:
        """Note that the node works on it, or that it waits for the node to have time. Idempotent."""
        if not (self._working or self._over):
            self._rate.began(self._rate.free_since(self._since, now))
            self._mark = self._rate.charged_each
            self._since = math.inf
            self._working = True

    def waits(self, now: float) -> None:
        """Note that the next step is the peer's. Idempotent."""
        if self._working:
            self._rate.paused(now)
            self._charge += self._rate.charged_each - self._mark
            self._working = False

    def served(self, now: float) -> None:
        """Count it as served, unless it has ended."""
        if not self._over:
            self.waits(now)
            self._rate.served()
            self._over = True

    def left(self, now: float) -> None:
        """End it without a result, unless it has ended."""
        if not self._over:
            self.waits(now)
            self._rate.refund(self._charge)
            self._over = True


class ExpectedPolls:
    """Counts the polls that are to come: those of clients that were told when to poll again, and for as long.

    With it a node that holds no lease knows how many clients it has. A connection that polls again before its time is
    one client still. Costs two numbers for each second of the longest interval, and one for each connection.
    """

    def __init__(self) -> None:
        self._due: dict[int, int] = {}
        self._passed: int | None = None
        self._count = 0

    def count(self, now: float) -> int:
        """Return how many are expected."""
        second = math.floor(now)
        if self._passed is None or second - self._passed > len(self._due):
            for due in [due for due in self._due if due <= second]:
                self._count -= self._due.pop(due)
        else:
            for due in range(self._passed + 1, second + 1):
                self._count -= self._due.pop(due, 0)
        self._passed = second
        return self._count

    def expect(self, now: float, after_ms: int, instead_of: int = 0) -> int:
        """Expect one more, `after_ms` from now; return what stands for it when its connection polls again."""
        if self._due.get(instead_of, 0):
            self._due[instead_of] -= 1
            self._count -= 1
        self.count(now)
        # Clients vary their timers by 20 %.
        due = math.ceil(now + after_ms * POLL_LATE / 1000) + 1
        self._due[due] = self._due.get(due, 0) + 1
        self._count += 1
        return due


@dataclass(frozen=True, slots=True)
class NodeTerms:
    """All that `welcome` and `renewed` tell a client about its node (P-CONN-3)."""

    node: str
    ttl_ms: int
    timeout_ms: int
    poll: PollAdvice
    recover: RecoverAdvice
    limits: Limits
    durability: Durability


def spread_ms(sessions: int, rate_per_s: float, least_ms: int = SPREAD_MS_MIN, most_ms: int = SPREAD_MS_MAX) -> int:
    """Return the time over which `sessions` must spread to use `LOAD` of `rate_per_s` (above 0), between two bounds."""
    return min(max(math.ceil(sessions * 1000 / (LOAD * rate_per_s)), least_ms), most_ms)


def renew_ms(ttl_ms: int) -> int:
    """Return how long after a renewal to send the next: a third of the TTL."""
    return ttl_ms // RENEWALS_PER_TTL


def advise(
    sessions: int,
    handshakes_per_s: float,
    polls_per_s: float,
    *,
    polling: int = 0,
    poll_ms: int = POLL_MS,
    base_ms: int = RECOVER_BASE_MS,
    cap_ms: int = RECOVER_CAP_MS,
    timeout_ms: int = TIMEOUT_MS,
    least_ms: int = SPREAD_MS_MIN,
    most_ms: int = SPREAD_MS_MAX,
) -> tuple[PollAdvice, RecoverAdvice]:
    """Return what to advise to clients of a node with so many `sessions` and such service rates, above 0 (P-CONN-10).

    `polling` clients poll already; they, and those with a session if pushes fail, share the rate of polls. Poll every
    `every_ms`, the first time after U(0, `spread_ms`). Reconnect after U(0, `spread_ms`), then, at attempt k, after
    U(0, max(`spread_ms`, min(`cap_ms`, `base_ms` · 2^k))) (P-CLI-4), or as P-CLI-13 says if the dial was refused.

    `poll_ms` and `cap_ms` are what clients get while the node is fast enough. Otherwise the poll interval grows to
    N / (2/3 · polls per second), the cap to 2N / (2/3 · handshakes per second), with N / (2/3 · rate) bounded by
    `least_ms` and `most_ms` as in `spread_ms`. Clients that wait up to `timeout_ms` for an answer poll before a connect
    that is due later than half of that (P-CLI-14): time for these polls is added to the spread of all.
    """
    polls_ms = spread_ms(sessions + polling, polls_per_s, least_ms, most_ms)
    handshakes_ms = spread_ms(sessions, handshakes_per_s, least_ms, most_ms)
    late = max(1 - timeout_ms * POLLED_BEFORE / handshakes_ms, 0)
    # A poll costs no more than a connect, also on a node that has measured none.
    rate_per_s = LOAD * max(polls_per_s, handshakes_per_s)
    handshakes_ms = min(handshakes_ms + math.ceil(late * sessions * 1000 / rate_per_s), most_ms)
    poll = PollAdvice(every_ms=max(poll_ms, polls_ms), spread_ms=polls_ms)
    return poll, RecoverAdvice(spread_ms=handshakes_ms, base_ms=base_ms, cap_ms=max(cap_ms, 2 * handshakes_ms))
