"""The request that a session has under way: what was asked of the store for it, and how the asking goes on.

The pages of one answer add up (P-SUB-7). When an answer cannot be continued, because compaction has forgotten deletions
that its next page would have named, it is refused as `compacted`, and the peer asks anew (P-SUB-8). Pages of a new
answer to the same request would not do: a topic that the old ones listed, and that was deleted and forgotten since,
would never be swept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from softstate.errors import Compacted, Overloaded, RequestError, TooLarge
from softstate.model import Page, Query
from softstate.names import check_prefix, check_topic
from softstate.position import Position
from softstate.session.effects import Send
from softstate.session.gap_buffer import split
from softstate.wire.messages import Error, Hello, Id, Poll, Renew, Subscribe

HOLD_ROUNDS_MAX = 8
"""How often a complete answer is read on because its hold overflowed, before the request is refused as overloaded."""


@dataclass(slots=True)
class PendingRequest:
    """A request, the `query` it led to, and its `ticket`.

    `resuming`: a hello that asks to resume. `rounds`: how often a complete answer had to be read on. `compacted`: the
    prefixes that the first page answered as if nothing of them were known.
    """

    ticket: int
    request: Hello | Subscribe | Renew | Poll
    query: Query
    resuming: bool = False
    rounds: int = 0
    compacted: frozenset[str] = frozenset()

    @property
    def endless(self) -> bool:
        """Whether it has been read on so often that it might be for ever."""
        return self.rounds > HOLD_ROUNDS_MAX

    def continues(self, page: Page) -> bool:
        """Tell whether `page` and those before it are one answer.

        A prefix that is compacted now, and was not on the first page, was told there as a difference: its topics
        that did not change are unlisted, but alive.
        """
        return not page.restart and (self.query.after == 0 or self.compacted == frozenset(page.compacted))

    def turn(self, page: Page) -> None:
        """Move the query to what comes after `page`: the next page, or whatever has changed since a last one."""
        query = self.query
        if query.after == 0:
            self.compacted = frozenset(page.compacted)
        listed = query.listed
        if query.after == 0 and (page.compacted or not all([*query.topics.values(), *query.prefixes.values()])):
            listed = page.position.revision
        after = page.records[-1].version if page.more else page.position.revision
        self.rounds += not page.more
        self.query = replace(query, after=after, listed=listed, witness=None)


def missed_since(since: int, names: Iterable[str], seen: Position, limit: int) -> Query:
    """Ask for every change of `names` above `since`, tombstones included, on behalf of somebody who has `seen` more."""
    topics, prefixes = split(names)
    known = dict.fromkeys(prefixes, since)
    return Query(dict.fromkeys(topics, 0), known, seen, after=since, listed=since, limit=limit)


def check_names(topics: Collection[str], prefixes: Collection[str], names_max: int) -> None:
    """Refuse names that are none, and too many of them. Raises `Invalid` or `TooLarge`."""
    count = len(topics) + len(prefixes)
    if count > names_max:
        raise TooLarge(f"{count} names in one request, the limit (subscriptions) is {names_max}")
    for topic in topics:
        check_topic(topic, "topics")
    for prefix in prefixes:
        check_prefix(prefix, "prefixes")


def forgotten(page: Page) -> Compacted:
    """Return the error for an answer that `page` does not continue."""
    why = "the store forgot deletions that the next page would have named: ask again from the beginning"
    return Compacted(why, position=page.position)


def too_fast(retry_ms: int) -> Overloaded:
    """Return the error for an answer that is `endless`."""
    crowd = "the topics asked for change faster than they can be listed: ask for fewer, or later"
    return Overloaded(crowd, retry_ms=retry_ms)


def lag_ms(page: Page) -> int:
    """Return how much older than its request a page may be."""
    return math.ceil(page.lag_s * 1000)


def send_error(error: RequestError, request: Id | None) -> Send:
    """Return the effect that answers a request with an error, or, without an id, whatever could not be read."""
    return Send(Error(error.code, error.message, request, error.retry_ms, error.current, error.position))
