"""The request that a session has under way, one class for each kind that needs the store.

The pages of one answer add up (P-SUB-7). When an answer cannot be continued, because compaction has forgotten deletions
that its next page would have named, it is refused as `compacted`, and the client asks again (P-SUB-8). Pages of a new
answer to the same request would not do: a topic that the old ones listed, and that was deleted and forgotten since,
would never be swept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, TypeAlias

from softstate.auth.answers import Unasked
from softstate.auth.name_answers import NamesUnasked
from softstate.errors import Compacted, RequestError, TooLarge
from softstate.model import Page, Query
from softstate.names import check_prefix, check_topic
from softstate.session.effects import Effect, Send
from softstate.session.gap_buffer import GapBuffer
from softstate.wire.messages import Auth, Error, Hello, Id, Message, Poll, Publish, Renew, Subscribe

NAMES_PER_TURN = 256
"""Default for the names that one turn of the loop deals with: 1 ms."""

FREE_FRACTION = 16
"""A request of at most this fraction of `NAMES_PER_TURN` asks for no turn of its own: a message costs as much."""

Steps: TypeAlias = Generator[int, None, list[Effect]]
"""Work on many names: yields the number of names of its next portion, before it; returns the effects."""

OVERFLOW_ROUNDS_MAX = 8
"""Most times that an answer is read on because its gap buffer overflowed; then it is `overloaded` (P-SUB-6)."""


@dataclass(slots=True)
class PendingRenew:
    """A renew, received `at`, which waits until the hub has reached the head of the store."""

    request: Renew
    at: float
    ticket: int = 0
    rests_on_lease: ClassVar[bool] = True


@dataclass(slots=True)
class PendingPages:
    """A request whose answer comes in pages; `query` is for the next one.

    `overflows` counts the complete answers that had to be read on. `compacted` are the prefixes that the first page
    answered as if nothing of them were known. `denied` are the names of the request that are not answered for, as they
    were judged under the rules of `generation`.
    """

    query: Query
    ticket: int = field(default=0, kw_only=True)
    overflows: int = field(default=0, kw_only=True)
    compacted: frozenset[str] = field(default=frozenset(), kw_only=True)
    denied: list[str] = field(default_factory=list, kw_only=True)
    generation: int = field(default=0, kw_only=True)

    def deny(self, names: Collection[str]) -> None:
        """Answer for these names no more."""
        self.denied += names
        lost = set(names)
        topics, prefixes = (
            {name: known for name, known in asked.items() if name not in lost}
            for asked in (self.query.topics, self.query.prefixes)
        )
        self.query = replace(self.query, topics=topics, prefixes=prefixes)

    def continues(self, page: Page) -> bool:
        """Tell whether `page` and those before it are one answer.

        A prefix that is compacted now, and was not on the first page, was told there as a difference: its topics
        that did not change are unlisted, but alive.
        """
        return not page.restart and (self.query.after == 0 or self.compacted == frozenset(page.compacted))

    def advance(self, page: Page) -> None:
        """Move the query to what comes after `page`: the next page, or all that has changed since a last one."""
        query = self.query
        if query.after == 0:
            self.compacted = frozenset(page.compacted)
        listed = query.listed
        if query.after == 0 and (page.compacted or not all([*query.topics.values(), *query.prefixes.values()])):
            listed = page.position.revision
        after = page.next_after if page.more else page.position.revision
        self.overflows += not page.more
        self.query = replace(query, after=after, listed=listed, witness=None)


@dataclass(slots=True)
class PendingSubscribe(PendingPages):
    """A subscribe; `gap_buffer` holds the pushes of its names back. `digest` is the sum of the names' hashes."""

    request: Subscribe
    gap_buffer: GapBuffer = field(repr=False)
    digest: int = 0
    rests_on_lease: ClassVar[bool] = True


@dataclass(slots=True)
class Unreadable:
    """A message that could not be decoded: why, and its id, if that could be read."""

    error: RequestError
    request: Id | None


@dataclass(slots=True)
class PendingHello:
    """A hello, received `at`, and the read for it. With a `gap_buffer` it asks to resume: the query is for all missed.

    One message is taken behind one that does not (P-CONN-16): a subscribe that `joined` it, whose query is asked then;
    or one that is `kept` until the welcome.
    """

    query: Query
    request: Hello
    at: float
    gap_buffer: GapBuffer | None = field(default=None, repr=False)
    joined: PendingSubscribe | None = None
    kept: Message | Unreadable | None = None
    ticket: int = 0
    rests_on_lease: ClassVar[bool] = False

    @property
    def takes_more(self) -> bool:
        """Whether the next message may be taken now."""
        return self.gap_buffer is None and self.joined is None and self.kept is None


@dataclass(slots=True)
class PendingPoll(PendingPages):
    """A poll, received `at`."""

    request: Poll
    at: float
    rests_on_lease: ClassVar[bool] = False


@dataclass(slots=True)
class PendingWork:
    """A request with too many names for one turn of the loop; `steps` goes on from where it stopped.

    The end of the connection drops this, as does that of the lease if the request rests on it. The portions that are
    done stay done: the lease holds some of the names, which are in no answer, so that no certificate of the client
    counts for them (P-KNOW-4).
    """

    steps: Steps = field(repr=False)
    request: Id | None
    rests_on_lease: bool
    ticket: int = 0


@dataclass(slots=True)
class PendingInquiry:
    """A request with a token, or with names, about which the callout has to be asked first; then it is taken again."""

    request: Hello | Auth | Subscribe | Poll | Publish
    about: Unasked | NamesUnasked = field(repr=False)
    ticket: int = 0

    @property
    def rests_on_lease(self) -> bool:
        """Whether it ends with the lease."""
        return isinstance(self.request, Subscribe)


PendingRead: TypeAlias = PendingHello | PendingRenew | PendingSubscribe | PendingPoll
"""A request that waits for the store."""

PendingRequest: TypeAlias = PendingRead | PendingWork | PendingInquiry


def check_count(count: int, names_max: int) -> None:
    """Check the number of names of a request. Raises `TooLarge` beyond `names_max`."""
    if count > names_max:
        raise TooLarge(f"{count} names in one request, the limit (subscriptions) is {names_max}")


def check_topics(topics: Iterable[str]) -> None:
    """Check topics of a request. Raises `Invalid`."""
    for topic in topics:
        check_topic(topic, "topics")


def check_prefixes(prefixes: Iterable[str]) -> None:
    """Check prefixes of a request. Raises `Invalid`."""
    for prefix in prefixes:
        check_prefix(prefix, "prefixes")


def in_portions(
    names: Collection[str], size: int, act: Callable[[Collection[str]], object], weight: int = 1
) -> Generator[int, None, None]:
    """Call `act` with `size` names at a time, and yield the number of names before each call.

    Names that cost more than others have a `weight`: each counts as so many. Few names are dealt with at once, without
    a yield (`FREE_FRACTION`).
    """
    if len(names) * weight <= size // FREE_FRACTION:
        act(names)
        return
    rest = iter(names)
    while portion := list(islice(rest, max(size // weight, 1))):
        yield len(portion) * weight
        act(portion)


def not_continued(page: Page) -> Compacted:
    """Return the error for an answer that `page` does not continue."""
    why = "the store forgot deletions that the next page would have named: ask again from the beginning"
    return Compacted(why, position=page.position)


def lag_ms(page: Page) -> int:
    """Return how much older than its request a page may be."""
    return math.ceil(page.lag_s * 1000)


def clock_ms(now: float) -> int:
    """Return what an answer that is made now tells of the node's clock: rounded up, as a lag is (P-BEAT-3)."""
    return math.ceil(now * 1000)


def send_error(error: RequestError, request: Id | None) -> Send:
    """Return the effect that answers a request with an error, or, without an id, a message that could not be read."""
    return Send(Error(error.code, error.message, request, error.retry_ms, error.current, error.position, error.why))
