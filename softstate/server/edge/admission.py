"""Admission: whose turn it is, of those who come all at once, and who is told at once to come back later.

After a crash all clients of a node come back within seconds, by polls and handshakes. A node that serves them in order
of arrival, without looking at their age, soon serves only such as have given up (`softstate.session.load_advice`). So
each request that costs much waits here, in the queue of its kind, from the moment in which its head was read; and its
age is counted from the moment in which it came to the system, if that can tell (`softstate.server.edge.poller`).

- *In order of arrival*, as long as the newest one, too, is predicted to be served in time: its age, and what is ahead
  of it by the measured rate, are within `softstate.session.load_advice.SERVED_WITHIN` of what clients wait.
- *Newest first*, when that prediction fails: those that have waited for long would be served too late.
- *Shed*: one that would be too late if it were served now is refused, before any work; but no more than one for each
  that is served, as long as there is any that can be. A node that first refused all that are late would do nothing else
  at 16 times its capacity.

No client is shed for a prediction that may prove wrong: a node that has just started does not know its rate. Shedding
at half of the time that clients wait refused 2,503 to 4,572 of 15,000 whom plain order of arrival would have served
(a prototype). One turn serves for `SERVE_S_MAX`; publishes and probes do not wait here.

Refusing costs a fifth of serving, so a sixth of the time goes into it at most. Beyond `CAPACITIES` times what can be
served in time, the system is to refuse: the node is then `full`, and accepts no more.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol, final

from softstate.server.bulkhead import Bulkhead

SERVE_S_MAX = 0.002
"""Time that one turn serves for, in seconds: what others have sent meanwhile waits for so long, at most."""

CAPACITIES = 4
"""A node is `full` when so many times as many wait as it can serve in the time that clients wait."""


class Kind(Enum):
    """A kind of request that waits; each has a rate of its own."""

    UPGRADE = "handshakes"
    POLL = "polls"


class Rate(Protocol):
    """How many of a kind can be served a second, as measured; see `softstate.session.ServiceRate`."""

    @property
    def per_s(self) -> float:
        """The rate."""

    def backlog_s(self) -> float:
        """Return how many seconds it takes to serve what is in progress."""

    def in_time(self, timeout_s: float, age_s: float) -> bool:
        """Tell whether one that has waited for `age_s` would be served in time."""


class Applicant(Protocol):
    """A connection whose request waits."""

    def admitted(self) -> None:
        """Serve it."""

    def shed(self) -> None:
        """Refuse it."""

    def fail(self) -> None:
        """End: a bug was met here."""


@final
class Queue:
    """Those of one kind that wait, and since when, in order of arrival."""

    __slots__ = ("has_shed", "rate", "shed", "waiting")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.waiting: OrderedDict[Applicant, float] = OrderedDict()
        self.has_shed = False
        """Whether the last one was refused, and not served."""
        self.shed = 0
        """Those refused since the start."""


@final
class Admission:
    """The queues of one node. `timeout_s` is how long clients wait for an answer.

    `spread_s` draws the time over which those refused together come back. `clock` is a clock of seconds that runs
    during a turn.
    """

    def __init__(
        self,
        bulkhead: Bulkhead,
        rates: Mapping[Kind, Rate],
        timeout_s: float,
        spread_s: Callable[[], float],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._bulkhead = bulkhead
        self._queues = {kind: Queue(rate) for kind, rate in rates.items()}
        self._timeout_s = timeout_s
        self._spread_s = spread_s
        self._clock = clock
        self._in_turn = False

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def full(self) -> bool:
        """Whether so many wait that no more are to be accepted."""
        return any(
            len(queue.waiting) >= CAPACITIES * queue.rate.per_s * self._timeout_s for queue in self._queues.values()
        )

    def statistics(self) -> dict[str, int]:
        """Count those that wait, and those refused, under the names that are shown."""
        counts = {}
        for kind, queue in self._queues.items():
            counts[f"{kind.value}_waiting"] = len(queue.waiting)
            counts[f"{kind.value}_shed"] = queue.shed
        return counts

    def retry_s(self, kind: Kind) -> float:
        """Draw when one that is refused now is to come back."""
        queue = self._queues[kind]
        return queue.rate.backlog_s() + len(queue.waiting) / queue.rate.per_s + self._spread_s()

    def ask(self, kind: Kind, applicant: Applicant, since: float, now: float) -> None:
        """Queue a request that arrived at `since`.

        It is served at once where no pump has turns, as in simulation.
        """
        self._queues[kind].waiting[applicant] = since
        if not self._in_turn:
            self.serve(now)

    def leave(self, kind: Kind, applicant: Applicant) -> None:
        """Drop a request whose peer has gone."""
        self._queues[kind].waiting.pop(applicant, None)

    def begin_turn(self) -> None:
        """Have those that ask from now on wait for `serve`."""
        self._in_turn = True

    def serve(self, now: float) -> None:
        """Serve or refuse for `SERVE_S_MAX`: one of each kind in turn, and one at least."""
        queues = [queue for queue in self._queues.values() if queue.waiting]
        self._in_turn = bool(queues)
        try:
            until = self._clock() + SERVE_S_MAX
            while queues:
                for queue in queues:
                    self._serve_one(queue, now)
                if self._clock() >= until:
                    break
                queues = [queue for queue in queues if queue.waiting]
        finally:
            self._in_turn = False

    def _serve_one(self, queue: Queue, now: float) -> None:
        waiting, rate, timeout_s = queue.waiting, queue.rate, self._timeout_s
        newest_s = now - next(reversed(waiting.values()))
        late = not rate.in_time(timeout_s, now - next(iter(waiting.values())))
        if late and not (queue.has_shed and rate.in_time(timeout_s, newest_s)):
            applicant, _ = waiting.popitem(last=False)
            queue.shed += 1
            queue.has_shed = True
            self._bulkhead.each("admission", _shed, (applicant,), failed=_fail)
            return
        in_order = not late and rate.in_time(timeout_s, newest_s + len(waiting) / rate.per_s)
        applicant, _ = waiting.popitem(last=not in_order)
        queue.has_shed = False
        self._bulkhead.each("admission", _admit, (applicant,), failed=_fail)


def _admit(applicant: Applicant) -> None:
    applicant.admitted()


def _shed(applicant: Applicant) -> None:
    applicant.shed()


def _fail(applicant: Applicant) -> None:
    applicant.fail()
