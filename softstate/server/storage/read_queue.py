"""The order of reads (P-CONN-13): each asker pays for its own, and cheap reads do not wait for dear ones.

One store call looks at a bounded number of names and records (`read_cost_max`), so others wait by what reads cost, not
by how many there are. Reads wait in three *lanes*: cheap ones (topics, and prefixes that were cheap when they were last
read), those whose cost is not known yet, and dear ones. The lanes take turns, so a cheap read waits for one call of
each other lane at most, and a dear one is never starved. Within a lane reads are made in the order of their arrival,
and one connection has one read at a time: each page of a long answer goes to the end of its lane.

A read whose asker has hung up is not made. Nor is one that has waited for half of the time that clients wait for an
answer, and none is taken that would: it would be answered too late, and work for clients that have given up keeps a
node from recovering (the same reason as in `softstate.session.load_advice`). Each that is refused is told another time
to come back, so far apart as the node can serve them: told the same, all would come back at once, and the node would be
idle until then.

Sans-I/O, but for asking whether an asker is gone.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from softstate.errors import Overloaded, RequestError, Unavailable
from softstate.model import Page, Query
from softstate.server.storage.asker import Asker
from softstate.server.storage.batcher import Ticket

LIGHT_COST_MAX = 2_000
"""A read that is known to cost no more than this is cheap."""

RECORD_COST = 8
"""The cost of a record that is answered, beyond looking at it: its value is loaded, and encoded. A page of 1,024 takes
SQLite 15 to 20 ms, to look at 50,000 rows 50 ms."""

UNKNOWN_COST = 1_024
"""The cost that is assumed of a prefix until it was read: that of a tenth of a page."""

PREFIXES_KNOWN = 8_192
"""Prefixes whose cost is remembered."""

GONE_AFTER_S = 0.1
"""A read that has waited for so long, in seconds, is not made if its asker has hung up. A peer that closes its half
behind its request, as some tools do, is answered all the same by a node that is not overloaded."""

COST_S = 2e-6
"""The time that a cost of 1 takes, in seconds, until calls were measured."""

SMOOTHING = 0.2
"""The part of a measured time that goes over into the estimate."""

RETRY_MS_MIN = 100
RETRY_MS_MAX = 10_000
"""Bounds of the times at which refused reads are told to come back."""

RETRY_LOAD = 2.0
"""Refused reads are told to come back so many times as often as they can be served: to refuse one again costs little,
while a node that waits for them is idle."""

SHARED_COST = 1
"""The cost that is assumed of a read for which an equal one waits: the two get one page."""

SHARED_NAMES_MAX = 64
"""Names of a query that may share its page, so that a key stays small."""

CHEAP, UNKNOWN, DEAR = range(3)


@dataclass(slots=True, eq=False)
class ReadRequest:
    """A query, the asker it is for, and when it was asked, in seconds; `cost` and `lane` are those assumed of it.

    `key` is shared by requests that one page answers: those with equal queries, of a few names.
    """

    query: Query
    asker: Asker
    asked_at: float
    cost: int = field(default=0, init=False)
    lane: int = field(default=CHEAP, init=False)
    key: Hashable = field(init=False)

    def __post_init__(self) -> None:
        """Work the key out once: the queue and the call look at it."""
        few = len(self.query.topics) + len(self.query.prefixes) <= SHARED_NAMES_MAX
        self.key = self.query.key if few else self


ReadTicket: TypeAlias = Ticket[ReadRequest, Page]

Refusal: TypeAlias = tuple[ReadTicket, RequestError]
"""A read that is not made, and the answer to it."""


class ReadQueue:
    """Reads that wait for the store. `cost_max` bounds what is assumed of one call, `patience_s` how long clients wait.

    Implements `softstate.server.storage.batcher.Queue`.
    """

    def __init__(self, cost_max: int, patience_s: float) -> None:
        self.shed = 0
        """Reads that were refused, or not made, because they would have been answered too late."""
        self.gone = 0
        """Reads that were not made because their asker had gone."""
        self._cost_max = cost_max
        self._patience_s = patience_s
        self._lanes: tuple[deque[ReadTicket], ...] = (deque(), deque(), deque())
        self._lane_costs = [0, 0, 0]
        self._waiting: Counter[Hashable] = Counter()
        self._turn = CHEAP
        self._cost_s = COST_S
        self._page_s = math.inf
        self._appointed_at = 0.0
        self._costs: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many reads wait."""
        return sum(map(len, self._lanes))

    def append(self, ticket: ReadTicket) -> None:
        """Queue a read. Raises `Overloaded` if it would wait for too long."""
        request = ticket.item
        self._assess(request)
        lane = self._lanes[request.lane]
        if lane:
            oldest_s = request.asked_at - lane[0].item.asked_at
            if max(oldest_s, self._wait_s(request.lane)) > self._patience_s / 2:
                raise self._overloaded(request, request.asked_at)
        lane.append(ticket)
        self._came(request)

    def _wait_s(self, lane: int) -> float:
        """Return how long the next read of a lane would wait: the others get as much at most meanwhile."""
        own = self._lane_costs[lane]
        return self._cost_s * sum(min(cost, own) for cost in self._lane_costs)

    def put_back(self, tickets: Iterable[ReadTicket]) -> None:
        """Queue reads again, ahead of all others, that a call did not come to."""
        for ticket in reversed(list(tickets)):
            self._assess(ticket.item)
            self._lanes[ticket.item.lane].appendleft(ticket)
            self._came(ticket.item)

    def _came(self, request: ReadRequest) -> None:
        self._waiting[request.key] += 1
        self._lane_costs[request.lane] += request.cost

    def _went(self, request: ReadRequest) -> None:
        self._waiting[request.key] -= 1
        if not self._waiting[request.key]:
            del self._waiting[request.key]
        self._lane_costs[request.lane] -= request.cost

    def take(self, count_max: int, now: float) -> tuple[list[ReadTicket], list[Refusal]]:
        """Return the reads of the next call: those of one lane, as many as one call may cost; perhaps none.

        And those that are not made, of this lane and of those that were passed over for want of others.
        """
        refused: list[Refusal] = []
        for _ in self._lanes:
            lane = self._lanes[self._turn]
            self._turn = (self._turn + 1) % len(self._lanes)
            if lane and (taken := self._take(lane, count_max, now, refused)):
                return taken, refused
        return [], refused

    def _take(self, lane: deque[ReadTicket], count_max: int, now: float, refused: list[Refusal]) -> list[ReadTicket]:
        taken: list[ReadTicket] = []
        cost = 0
        while lane and len(taken) < count_max and (not taken or cost + lane[0].item.cost <= self._cost_max):
            ticket = lane.popleft()
            self._went(ticket.item)
            refusal = self._refusal(ticket, now)
            if refusal is not None:
                refused.append((ticket, refusal))
            elif ticket.open:
                taken.append(ticket)
                cost += ticket.item.cost
        return taken

    def _refusal(self, ticket: ReadTicket, now: float) -> RequestError | None:
        waited_s = now - ticket.item.asked_at
        if waited_s < GONE_AFTER_S:
            return None
        if not ticket.open or ticket.item.asker.gone():
            self.gone += 1
            return Unavailable("the connection was closed before the read was made")
        if waited_s >= self._patience_s / 2:
            return self._overloaded(ticket.item, now)
        return None

    def _overloaded(self, request: ReadRequest, now: float) -> Overloaded:
        self.shed += 1
        takes_s = min(request.cost * self._cost_s, self._page_s)
        self._appointed_at = max(self._appointed_at, now) + takes_s / RETRY_LOAD
        retry_ms = round((self._appointed_at - now) * 1000)
        return Overloaded(
            f"reads like this one wait longer than half of {self._patience_s:g} s, which is how long clients wait:"
            " ask for less at once, or later",
            retry_ms=min(max(retry_ms, RETRY_MS_MIN), RETRY_MS_MAX),
        )

    def drain(self) -> list[ReadTicket]:
        """Return all reads; none waits any more."""
        tickets = [ticket for lane in self._lanes for ticket in lane]
        for lane in self._lanes:
            lane.clear()
        self._lane_costs = [0, 0, 0]
        self._waiting.clear()
        return tickets

    # The cost of reads -----------------------------------------------------------------------------------------------

    def _assess(self, request: ReadRequest) -> None:
        query, costs = request.query, self._costs
        cost = len(query.topics)
        lane = CHEAP
        for prefix in query.prefixes:
            known = costs.get(prefix)
            if known is None:
                lane = UNKNOWN
            cost += UNKNOWN_COST if known is None else known
        if cost > LIGHT_COST_MAX and lane == CHEAP:
            lane = DEAR
        # A page costs no more than a call may, except for its names.
        request.cost, request.lane = max(min(cost, self._cost_max), len(query.topics)), lane
        if request.key in self._waiting:
            request.cost = SHARED_COST

    def measured(self, pages: Iterable[Page], took_s: float) -> None:
        """Note how long a call took; a cheap one tells of the call alone, and not of what its pages cost."""
        weights = list(map(weight, pages))
        cost = sum(weights)
        if cost >= LIGHT_COST_MAX:
            self._cost_s += SMOOTHING * (took_s / cost - self._cost_s)
            page_s = took_s / len(weights)
            self._page_s = page_s if self._page_s == math.inf else self._page_s + SMOOTHING * (page_s - self._page_s)

    def learn(self, query: Query, page: Page) -> None:
        """Note what a page has cost, for the next reads of its prefixes."""
        if not query.prefixes:
            return
        each = max((weight(page) - len(query.topics)) // len(query.prefixes), 1)
        costs = self._costs
        for prefix in query.prefixes:
            costs[prefix] = each
            costs.move_to_end(prefix)
        while len(costs) > PREFIXES_KNOWN:
            costs.popitem(last=False)


def weight(page: Page) -> int:
    """Return what a page has cost: what was looked at for it, and its records."""
    return max(page.cost, len(page.records)) + RECORD_COST * len(page.records)
