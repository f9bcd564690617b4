"""Clients that come, go, vanish and return, in the product's lease table alone, event by event in virtual time.

Arrivals are a Poisson process, lifetimes those of `bench.load.lifetimes`: Pareto, cut off. A quarter vanish without a
word; of these, the *mobile* ones come back after a while, and resume their session if its lease is still there. A
*flash crowd* arrives within a second; in a *mass departure* each client leaves with some probability, in order.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from bench.load.lifetimes import VANISHING, lifetime_s, mean_lifetime_s
from softstate.lease.table import Lease, LeaseTable
from softstate.session.load_advice import RENEWALS_PER_TTL

TOPICS = 50
CROWD_S = 1.0


@dataclass(frozen=True, slots=True)
class Course:
    """One run, times in seconds. `sessions` is the mean number of clients once it is steady."""

    sessions: int
    mean_s: float = 60.0
    ttl_s: float = 60.0
    lasts_s: float = 600.0
    crowd: int = 0
    crowd_at_s: float = math.inf
    departure: float = 0.0
    departure_at_s: float = math.inf
    mobile: float = 0.0
    away_s: tuple[float, float] = (5.0, 120.0)
    sample_s: float = 10.0


@dataclass(slots=True)
class Churned:
    """Figures of a run. `samples` are (time, leases, present clients); `orphan_s` how long each lease outlived one."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)
    orphan_s: list[float] = field(default_factory=list)
    resumed: int = 0
    returned: int = 0
    renewals: int = 0
    operations: int = 0
    cpu_s: float = 0.0
    most: int = 0


@dataclass(slots=True, eq=False)
class _Client:
    number: int
    ends_s: float
    vanishes: bool
    lease: Lease | None = None
    present: bool = True
    gone_at: float = 0.0
    renew_at: float = 0.0
    """When it renews next; what was planned for another time is over."""


class Churn:
    """Runs a course, by `run`."""

    def __init__(self, course: Course, seed: int) -> None:
        self._course = course
        self._random = Random(f"{seed} {course}")
        self._table = LeaseTable(0.0, sessions_max=10 * course.sessions + course.crowd)
        self._names = [f"churn/{number}" for number in range(TOPICS)]
        self._heap: list[tuple[float, int, Callable[[_Client], None], _Client]] = []
        self._of_lease: dict[Lease, _Client] = {}
        self._present: dict[_Client, None] = {}
        self._pushed = self._numbers = 0
        self._now = 0.0
        self._found = Churned()

    def run(self) -> Churned:
        """Run it."""
        course, random = self._course, self._random
        nobody = _Client(-1, math.inf, vanishes=False)
        per_s = course.sessions / mean_lifetime_s(course.mean_s)
        arrives_s = random.expovariate(per_s)
        crowd = [course.crowd_at_s + random.uniform(0.0, CROWD_S) for _ in range(course.crowd)]
        for at_s in crowd:
            self._at(at_s, self._arrive, nobody)
        self._at(course.departure_at_s, self._depart, nobody)
        sample_s, began = course.sample_s, time.process_time()
        while self._now < course.lasts_s:
            due_s = self._heap[0][0] if self._heap else math.inf
            expire_s = self._now + max(self._table.next_expire_s(self._now), 1e-3)
            at_s = min(due_s, arrives_s, sample_s, expire_s)
            self._now = at_s
            if at_s == arrives_s:
                self._arrive(nobody)
                arrives_s += random.expovariate(per_s)
            elif at_s == due_s:
                _, _, call, client = heapq.heappop(self._heap)
                call(client)
            elif at_s == sample_s:
                self._found.samples.append((at_s, len(self._table), len(self._present)))
                sample_s += course.sample_s
            self._expire()
        self._found.cpu_s = time.process_time() - began
        return self._found

    def _at(self, at_s: float, call: Callable[[_Client], None], client: _Client) -> None:
        if at_s < math.inf:
            self._pushed += 1
            heapq.heappush(self._heap, (at_s, self._pushed, call, client))

    def _arrive(self, _: _Client) -> None:
        random, course = self._random, self._course
        self._numbers += 1
        ends_s = self._now + lifetime_s(random.random(), course.mean_s)
        client = _Client(self._numbers, ends_s, random.random() < VANISHING)
        self._grant(client)
        self._at(ends_s, self._end, client)

    def _grant(self, client: _Client) -> None:
        lease = self._table.grant(f"{client.number}", self._now, self._course.ttl_s)
        self._table.add(lease, [self._names[client.number % TOPICS]])
        client.lease = lease
        self._of_lease[lease] = client
        self._present[client] = None
        client.present = True
        self._found.operations += 2
        self._found.most = max(self._found.most, len(self._table))
        self._renew_later(client)

    def _renew_later(self, client: _Client) -> None:
        renew_s = self._course.ttl_s / RENEWALS_PER_TTL
        client.renew_at = self._now + renew_s * self._random.uniform(0.8, 1.2)
        self._at(client.renew_at, self._renew, client)

    def _renew(self, client: _Client) -> None:
        if client.present and client.lease is not None and self._now == client.renew_at:
            self._table.extend(client.lease, self._now)
            self._found.renewals += 1
            self._found.operations += 1
            self._renew_later(client)

    def _end(self, client: _Client) -> None:
        if not client.present:
            return
        client.present = False
        client.gone_at = self._now
        del self._present[client]
        if not client.vanishes:
            self._release(client)
        elif self._random.random() < self._course.mobile:
            self._at(self._now + self._random.uniform(*self._course.away_s), self._return, client)

    def _release(self, client: _Client) -> None:
        assert client.lease is not None
        del self._of_lease[client.lease]
        self._table.release(client.lease)
        client.lease = None
        self._found.operations += 1

    def _return(self, client: _Client) -> None:
        """Come back, and stay for another lifetime; then vanish again.

        Not counted are those that vanished shortly before the end: of them only the quick ones are back by then.
        """
        counted = client.gone_at < self._course.lasts_s - self._course.away_s[1]
        self._found.returned += counted
        if client.lease is not None:
            self._found.resumed += counted
            self._table.extend(client.lease, self._now)
            self._present[client] = None
            client.present = True
            self._renew_later(client)
        else:
            self._numbers += 1
            client.number = self._numbers
            self._grant(client)
        client.ends_s = self._now + lifetime_s(self._random.random(), self._course.mean_s)
        self._at(client.ends_s, self._end, client)

    def _depart(self, _: _Client) -> None:
        for client in list(self._present):
            if self._random.random() < self._course.departure:
                client.vanishes = False
                self._end(client)

    def _expire(self) -> None:
        for lease in self._table.expire(self._now):
            client = self._of_lease.pop(lease)
            client.lease = None
            self._found.operations += 1
            self._found.orphan_s.append(self._now - client.gone_at)
        if self._table.reapable:
            self._table.reap(1_000)


def run(course: Course, seed: int) -> Churned:
    """Run a course; the same seed is the same run, but for its CPU time."""
    return Churn(course, seed).run()
