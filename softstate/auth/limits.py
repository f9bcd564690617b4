"""Limits of rates (P-AUTH-10): how often an identity may publish and poll, how much may be published below a prefix.

A request that is one too many is not counted, so a client that waits as long as it is told is served. Sans-I/O: `now`
is the node's monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, final

from softstate.auth.rates import Rates
from softstate.auth.tickets import TICKET_S
from softstate.errors import Overloaded
from softstate.names import reaching

Who: TypeAlias = tuple[str, str]
"""A principal; or, for those without one, an empty issuer and their address."""

PUBLISHES, PUBLISH_BYTES, POLLS = "publishes_per_s", "publish_bytes_per_s", "polls_per_s"
"""The limits, as options, policy files and errors name them."""

TICKETS = "tickets_per_identity_max"

PUBLISHES_MORE = "this identity publishes more"

PAGE_COST = 1 / 16
"""A page of an answer to a poll, beyond the first, counts for so many polls."""

PAGES_OWED_MAX = 64.0
"""Polls by which somebody who asks for a further page may be ahead: 1,024 pages. If pages were refused as polls are, a
large answer would begin from its first page again and again, and never end."""


@dataclass(frozen=True, slots=True)
class NamespaceLimit:
    """How often all publishers together may publish below a prefix, and how many bytes of values; 0: without limit."""

    prefix: str
    publishes_per_s: float = 0.0
    publish_bytes_per_s: float = 0.0


class _Asked(NamedTuple):
    """One limit that a publish meets; `what` says in words what is more than it allows."""

    rates: Rates[Who]
    who: Who
    cost: float
    limit: str
    what: str


@final
class RateLimits:
    """The limits of one node, per second; 0 stands for none. Values count with their bytes as CBOR.

    An identity may ask for `tickets_max` tickets at once, and then for as many in the time for which one is good.
    """

    def __init__(
        self,
        publishes_per_s: float = 0.0,
        publish_bytes_per_s: float = 0.0,
        polls_per_s: float = 0.0,
        tickets_max: int = 0,
    ) -> None:
        self._publishes: Rates[Who] | None = Rates(publishes_per_s) if publishes_per_s else None
        self._bytes: Rates[Who] | None = Rates(publish_bytes_per_s) if publish_bytes_per_s else None
        self._polls: Rates[Who] | None = Rates(polls_per_s) if polls_per_s else None
        self._tickets: Rates[Who] | None = Rates(tickets_max / TICKET_S, TICKET_S) if tickets_max else None
        self._namespaces: dict[str, list[_Asked]] = {}
        self._limits: tuple[NamespaceLimit, ...] = ()

    @property
    def of_polls(self) -> bool:
        """Whether polls are limited."""
        return self._polls is not None

    @property
    def of_publishes(self) -> bool:
        """Whether publishes are limited."""
        return self._publishes is not None or self._bytes is not None or bool(self._namespaces)

    def limit(self, limits: tuple[NamespaceLimit, ...]) -> None:
        """Take other limits of namespaces. Those that stay as they are go on counting. Cheap if none has changed."""
        if limits is self._limits:
            return
        kept = {limit.prefix: limit for limit in self._limits}
        self._namespaces = {
            limit.prefix: self._namespaces[limit.prefix] if kept.get(limit.prefix) == limit else _of(limit)
            for limit in limits
        }
        self._limits = limits

    def check_publish(self, who: Who | None, topic: str, size: int, now: float) -> None:
        """Count a publish of `size` bytes. Raises `Overloaded`, with the time to wait, if it is one too many.

        `who` is None for somebody who is not limited.
        """
        if not self._namespaces and (who is None or self._charged(who, size, now)):
            return
        asked: list[_Asked] = []
        if who is not None:
            if self._publishes is not None:
                asked.append(_Asked(self._publishes, who, 1.0, PUBLISHES, PUBLISHES_MORE))
            if self._bytes is not None:
                asked.append(_Asked(self._bytes, who, size, PUBLISH_BYTES, PUBLISHES_MORE))
        if self._namespaces:
            for prefix in reaching(topic):
                met = self._namespaces.get(prefix, ())
                asked += [limit._replace(cost=size) if limit.limit is PUBLISH_BYTES else limit for limit in met]
        longest_s, refused = 0.0, None
        for one in asked:
            wait_s = one.rates.wait_s(one.who, now, one.cost)
            if wait_s > longest_s:
                longest_s, refused = wait_s, one
        if refused is not None:
            raise _overloaded(refused.limit, refused.what, longest_s)
        for one in asked:
            one.rates.charge(one.who, now, one.cost)

    def _charged(self, who: Who, size: int, now: float) -> bool:
        """Count a publish that only limits of its identity can refuse; False if one does: the usual case, in short."""
        publishes, size_rates = self._publishes, self._bytes
        if publishes is not None and publishes.wait_s(who, now):
            return False
        if size_rates is not None:
            if size_rates.wait_s(who, now, size):
                return False
            size_rates.charge(who, now, size)
        if publishes is not None:
            publishes.charge(who, now)
        return True

    def check_poll(self, who: Who | None, now: float, *, page: bool = False) -> None:
        """Count a poll, or a further page of one. Raises `Overloaded`, with the time to wait, if it is one too many."""
        if self._polls is None or who is None:
            return
        cost, owed_max = (PAGE_COST, PAGES_OWED_MAX) if page else (1.0, 0.0)
        wait_s = self._polls.wait_s(who, now, cost, owed_max)
        if wait_s:
            raise _overloaded(POLLS, "this identity polls more", wait_s)
        self._polls.charge(who, now, cost)

    def check_ticket(self, who: Who, now: float) -> None:
        """Count a ticket. Raises `Overloaded`, with the time to wait, if it is one too many."""
        if self._tickets is None:
            return
        wait_s = self._tickets.wait_s(who, now)
        if wait_s:
            raise _overloaded(TICKETS, "this identity asks for more tickets", wait_s)
        self._tickets.charge(who, now)


def _of(limit: NamespaceLimit) -> list[_Asked]:
    who, what = ("", ""), f"more is published below {limit.prefix!r}"
    asked: list[_Asked] = []
    if limit.publishes_per_s:
        asked.append(_Asked(Rates(limit.publishes_per_s), who, 1.0, PUBLISHES, what))
    if limit.publish_bytes_per_s:
        asked.append(_Asked(Rates(limit.publish_bytes_per_s), who, 0.0, PUBLISH_BYTES, what))
    return asked


def _overloaded(limit: str, what: str, wait_s: float) -> Overloaded:
    retry_ms = math.ceil(wait_s * 1000)
    return Overloaded(
        f"{what} than the limit allows ({limit}): send this again in {retry_ms} ms", retry_ms=retry_ms, why=limit
    )
