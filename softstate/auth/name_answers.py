"""Answers of a callout about names: what each principal may read and write beside its grant, and for how long. No I/O.

A shell asks about what `next_due` returns, and tells what came of it. All questions of one principal wait together, and
go out one after the other, with many names each. An answer holds for as long as it says. Then the callout is asked
again if a lease holds the name (`held`), and the answer holds until that is answered; any other name is asked about
when somebody asks for it again. While the callout fails, a name that was allowed stays so for `stale_s` more; a name
about which nothing is known is never allowed.

`changed` is told when a principal has lost something, so that all is judged again that rests on it; `lost` when nobody
can tell any more about names that leases hold. A reserved name is never asked about, nor one that nobody of this issuer
may get.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import NamedTuple, final
from weakref import WeakValueDictionary

from softstate.auth.answers import AGAIN_S, DOWN_RETRY_MS, INFLIGHT_MAX, CalloutTimes, Waiter
from softstate.auth.asked import AllowedNames, Asked, NameAction
from softstate.auth.identity import Identity, is_reserved
from softstate.auth.patterns import Pattern, fill, pattern_of
from softstate.auth.rules import Known
from softstate.errors import Overloaded, RequestError, Unavailable

NAMES_PER_QUESTION = 256
"""Most names of one question, which has 75 KB then."""

UNASKED_MAX = 1_024
"""Most names that `NameAnswers.unasked` returns, 2 us each; a request with more asks again."""

QUESTIONS_MAX = 16
"""Most times that one request waits for answers: for 16,384 names, or since others have ended meanwhile."""

PRINCIPALS_WAITING_MAX = 1_024
"""Most principals whose names wait to be asked about; beyond it requests are `overloaded`."""

NAMES_PER_PRINCIPAL_MAX = 10_000
"""Most names of one principal that are asked about, or whose answers are kept.

Those that no lease holds are forgotten when there are so many."""

NAMES_MAX = 100_000
"""The same, of all principals together: 300 bytes each."""

BOOKS_LOOKED_AT = 8
"""Principals of which answers are forgotten, if no lease holds the names, when there are `NAMES_MAX`."""


class NamesUnasked(Unavailable):
    """The callout has to be asked about names first. One that cannot wait for that tells its client to come again."""

    def __init__(self, identity: Identity, action: NameAction, names: Sequence[str]) -> None:
        super().__init__(
            "the callout of this node has to be asked about these names: ask again", retry_ms=DOWN_RETRY_MS
        )
        self.identity = identity
        self.action = action
        self.names = names


@dataclass(slots=True)
class Said:
    """An answer about one name, looked at again at `due_at`. A name that is allowed may be so until `stale_until`.

    A name that is allowed, and not among the allowed names of its principal, is kept in case the callout fails.
    """

    allowed: bool
    good_until: float
    stale_until: float
    due_at: float


class _Wait(NamedTuple):
    """Somebody who waits, and the names that are `left` to be answered for."""

    left: set[Asked]
    waiter: Waiter


@dataclass(eq=False, slots=True)
class Book:
    """All that is known, and asked, of the names of one principal; `peer` is the address that asked for one first."""

    principal: str
    issuer: str
    subject: str
    peer: str
    allowed: AllowedNames
    said: dict[Asked, Said] = field(default_factory=dict)
    wanted: dict[Asked, None] = field(default_factory=dict)
    asking: tuple[Asked, ...] = ()
    new: set[Asked] = field(default_factory=set)
    """Those of `wanted` and `asking` that are in `said` not yet."""
    waits: list[_Wait] = field(default_factory=list)
    waits_since: float = math.inf
    """Since when it waits to be asked about; infinite if it does not."""
    due_at: float = math.inf

    @property
    def count(self) -> int:
        """How many names are kept, or are going to be."""
        return len(self.said) + len(self.new)

    def holds(self, asked: Asked, now: float) -> bool:
        """Tell whether there is an answer about a name that holds."""
        said = self.said.get(asked)
        return asked in self.allowed or (said is not None and not said.allowed and now < said.good_until)


Settled = list[tuple[Waiter, RequestError | None]]
"""Those that need not wait any more, and the reason why there is no answer for them, if there is none."""


@final
class NameAnswers:
    """The answers of one callout about names, if it is asked about any (`active`). `woken` is called if there is news.

    `known_of` returns what is known of the principal of an identity, None if that is nobody any more.
    """

    def __init__(self, known_of: Callable[[Identity], Known | None]) -> None:
        self.active = False
        self.times = CalloutTimes()
        self.inflight_max = INFLIGHT_MAX
        self.inflight = 0
        self.count = 0
        """Names that are asked about, or whose answers are kept."""
        self.woken: Callable[[], object] = lambda: None
        self.changed: Callable[[str, bool], object] = lambda _principal, _held: None
        """Called with the digest of a principal, and whether leases may have lost something."""
        self.lost: Callable[[str, Collection[str]], object] = lambda _principal, _names: None
        self.held: Callable[[str], Callable[[str], bool]] = lambda _principal: lambda _name: False
        """Returns, for the digest of a principal, what tells whether one of its leases holds a name."""
        self._known_of = known_of
        self._ceiling: Sequence[str] | None = None
        self._allowed: WeakValueDictionary[str, AllowedNames] = WeakValueDictionary()
        self._books: dict[str, Book] = {}
        self._queue: deque[Book] = deque()
        self._settled: Settled = []
        self._due: list[tuple[float, int, Book]] = []
        self._number = 0

    def configure(
        self, times: CalloutTimes, inflight_max: int, ceiling: Sequence[str] | None = None, *, active: bool
    ) -> None:
        """Ask a callout, another than before or by other settings, or none any more: nothing that was said holds on."""
        self.active, self.times, self.inflight_max, self._ceiling = active, times, inflight_max, ceiling
        for book in tuple(self._books.values()):
            self._finish(book, "the policy of this node has changed")
            # The callout is asked again about the names that leases hold; these stay allowed until then.
            self._keep(book, self._held_of(book) if active else (), -math.inf)
        self.woken()

    # Those who ask for names -----------------------------------------------------------------------------------------

    def allowed_of(self, principal: str) -> AllowedNames:
        """Return the names that are allowed a principal, as all of its grants have them."""
        found = self._allowed.get(principal)
        if found is None:
            found = self._allowed[principal] = AllowedNames()
        return found

    def unasked(self, identity: Identity, action: NameAction, names: Iterable[str], now: float) -> list[str]:
        """Return those of some names, which the grant of an identity does not reach, that have to be asked about.

        They are the first `UNASKED_MAX` of these.
        """
        if not self.active or identity.is_anonymous:
            return []
        book = self._books.get(identity.digest)
        ceilings = self._ceilings_of(identity)
        unasked = (
            name
            for name in names
            if not (is_reserved(name) or self._is_refused(book, (action, name), now)) and _within(ceilings, name)
        )
        return [*islice(unasked, UNASKED_MAX)]

    def _ceilings_of(self, identity: Identity) -> list[list[Pattern]]:
        """Return lists of patterns, of each of which one has to cover a name."""
        known = self._known_of(identity)
        if known is None:
            return [[]]
        return [
            [pattern for text in ceiling if (pattern := fill(text, known.value_of)) is not None]
            for ceiling in (known.ceiling, self._ceiling)
            if ceiling is not None
        ]

    @staticmethod
    def _is_refused(book: Book | None, asked: Asked, now: float) -> bool:
        said = None if book is None else book.said.get(asked)
        return said is not None and not said.allowed and now < said.good_until

    def ask(self, unasked: NamesUnasked, peer: str, waiter: Waiter, now: float) -> None:
        """Have a waiter told, later in any case, when all of its names have an answer, or why not."""
        identity = unasked.identity
        book = self._books.get(identity.digest)
        if book is None:
            allowed = self.allowed_of(identity.digest)
            book = Book(identity.digest, identity.issuer, identity.subject, peer, allowed)
        asked = [(unasked.action, name) for name in unasked.names]
        wanted = [each for each in asked if not book.holds(each, now)]
        error = self._refusal(book, sum(each not in book.said and each not in book.new for each in wanted))
        if error is not None or not wanted:
            self._settled.append((waiter, error))
            self.woken()
            return
        self._books[identity.digest] = book
        book.waits.append(_Wait(set(wanted), waiter))
        asking = set(book.asking)
        self._want(book, [each for each in wanted if each not in asking], now)

    def _refusal(self, book: Book, count: int) -> Overloaded | None:
        if len(self._queue) >= PRINCIPALS_WAITING_MAX:
            why = f"names of {len(self._queue)} principals wait to be asked about at the callout of this node"
            return Overloaded(f"{why}: ask again later", retry_ms=DOWN_RETRY_MS)
        if book.count + count > NAMES_PER_PRINCIPAL_MAX:
            self._keep(book, self._held_of(book))
            if book.count + count > NAMES_PER_PRINCIPAL_MAX:
                return _too_many(f"{book.count} names of this identity", NAMES_PER_PRINCIPAL_MAX)
        if self.count + count > NAMES_MAX:
            for _ in range(min(BOOKS_LOOKED_AT, len(self._books))):
                oldest = next(iter(self._books.values()))
                self._books[oldest.principal] = self._books.pop(oldest.principal)
                self._keep(oldest, self._held_of(oldest))
            if self.count + count > NAMES_MAX:
                return _too_many(f"{self.count} names", NAMES_MAX)
        return None

    def _want(self, book: Book, wanted: Collection[Asked], now: float) -> None:
        book.wanted.update(dict.fromkeys(wanted))
        new = {each for each in wanted if each not in book.said} - book.new
        book.new |= new
        self.count += len(new)
        if book.wanted and not book.asking and book.waits_since == math.inf:
            book.waits_since = now
            self._queue.append(book)
            self.woken()

    # The shell -------------------------------------------------------------------------------------------------------

    def next_due(self) -> Book | None:
        """Return whose names, `asking`, to ask about now, if anything; `got` or `failed` is to be told of it."""
        if not self._queue or self.inflight >= self.inflight_max:
            return None
        book = self._queue.popleft()
        book.waits_since = math.inf
        book.asking = tuple(islice(book.wanted, NAMES_PER_QUESTION))
        for asked in book.asking:
            del book.wanted[asked]
        self.inflight += 1
        return book

    def late(self, now: float) -> Iterator[Book]:
        """Take out those that have waited too long to be asked about; `failed` is to be told of each."""
        while self._queue and self._queue[0].waits_since + self.times.timeout_s <= now:
            book = self._queue.popleft()
            book.waits_since = math.inf
            yield book

    def settled(self) -> Settled:
        """Take out those that wait for no question."""
        settled, self._settled = self._settled, []
        return settled

    def due_at(self) -> float:
        """Return when to look again, but for what comes in between."""
        if self._settled:
            return -math.inf
        at = self._queue[0].waits_since + self.times.timeout_s if self._queue else math.inf
        return min(at, self._due[0][0]) if self._due else at

    def got(self, book: Book, allowed: Sequence[bool], ttl_s: float, now: float) -> Settled:
        """Take an answer: which of the names that are `asking` are allowed."""
        asking = self._answered(book)
        good_until, lost = now + ttl_s, []
        for asked, yes in zip(asking, allowed, strict=True):
            stale_until = good_until + self.times.stale_s if yes else good_until
            self.count += asked not in book.said
            book.said[asked] = Said(yes, good_until, stale_until, good_until)
            if yes:
                book.allowed.add(asked)
            elif asked in book.allowed:
                lost.append(asked)
        if lost:
            self._take_away(book, lost)
        self._plan(book)
        self._want(book, (), now)
        for wait in book.waits:
            wait.left.difference_update(asking)
        done: Settled = [(wait.waiter, None) for wait in book.waits if not wait.left]
        book.waits = [wait for wait in book.waits if wait.left]
        return done

    def failed(self, book: Book, because: str, now: float) -> Settled:
        """Take a failure: names that were allowed before stay so for a while, and all who wait are told."""
        asked_about = (*self._answered(book), *book.wanted)
        over: list[Asked] = []
        for asked in asked_about:
            said = book.said.get(asked)
            if said is None or not said.allowed:
                continue
            if now < said.stale_until:
                said.due_at = min(now + AGAIN_S, said.stale_until)
                book.allowed.add(asked)
            else:
                over.append(asked)
        self._drop_new(book, book.wanted)
        book.wanted.clear()
        self._end(book, over)
        self._plan(book)
        text = f"the callout of this node cannot be asked about these names now ({because}): ask again"
        error = Unavailable(text, retry_ms=DOWN_RETRY_MS)
        waits, book.waits = book.waits, []
        known = [all(book.holds(asked, now) for asked in wait.left) for wait in waits]
        return [(wait.waiter, None if each else error) for wait, each in zip(waits, known, strict=True)]

    def lapse(self, now: float) -> Iterator[Book]:
        """Look at the principals whose answers have ended, one at a time, and ask about those names that are held."""
        while self._due and self._due[0][0] <= now:
            at, _, book = heappop(self._due)
            if book.due_at == at:
                book.due_at = math.inf
                self._lapse(book, now)
                yield book

    def _lapse(self, book: Book, now: float) -> None:
        held, busy = self.held(book.principal), {*book.asking, *book.wanted}
        again: list[Asked] = []
        unheld: list[Asked] = []
        over: list[Asked] = []
        for asked, said in tuple(book.said.items()):
            if said.due_at > now or asked in busy:
                continue
            if asked not in book.allowed:
                self._forget(book, asked)
            elif now >= said.stale_until:
                over.append(asked)
            elif asked[0] == "read" and held(asked[1]):
                again.append(asked)
            else:
                said.due_at = said.stale_until
                unheld.append(asked)
        self._end(book, over)
        if unheld:
            self._take_away(book, unheld, held=False)
        self._want(book, again, now)
        self._plan(book)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _answered(self, book: Book) -> tuple[Asked, ...]:
        asking, book.asking = book.asking, ()
        self.inflight -= bool(asking)
        self._drop_new(book, asking)
        return asking

    def _drop_new(self, book: Book, asked: Iterable[Asked]) -> None:
        gone = book.new.intersection(asked)
        book.new -= gone
        self.count -= len(gone)

    def _held_of(self, book: Book) -> list[Asked]:
        held = self.held(book.principal)
        return [asked for asked in book.said if asked in book.allowed and asked[0] == "read" and held(asked[1])]

    def _take_away(self, book: Book, lost: Iterable[Asked], *, held: bool = True) -> None:
        book.allowed = self._allowed[book.principal] = book.allowed.without(lost)
        self.changed(book.principal, held)

    def _end(self, book: Book, over: Sequence[Asked]) -> None:
        """Take away names about which nobody has been able to tell for too long."""
        if over:
            for asked in over:
                self._forget(book, asked)
            self._take_away(book, over, held=False)
            self.lost(book.principal, {name for action, name in over if action == "read"})

    def _keep(self, book: Book, kept: Collection[Asked], due_at: float | None = None) -> None:
        """Forget all answers but some, which are looked at when they end, or else at `due_at`."""
        gone = book.said.keys() - set(kept)
        lost = [asked for asked in gone if asked in book.allowed]
        for asked in gone:
            self._forget(book, asked)
        if due_at is not None:
            for said in book.said.values():
                said.due_at = due_at
        if lost:
            self._take_away(book, lost)
        self._plan(book)

    def _finish(self, book: Book, because: str) -> None:
        """Wait for nothing that was asked, nor is to be."""
        if book.waits_since < math.inf:
            self._queue.remove(book)
            book.waits_since = math.inf
        self._drop_new(book, book.wanted)
        book.wanted.clear()
        error = Unavailable(f"{because}: ask again", retry_ms=DOWN_RETRY_MS)
        self._settled += [(wait.waiter, error) for wait in book.waits]
        book.waits = []

    def _forget(self, book: Book, asked: Asked) -> None:
        del book.said[asked]
        self.count -= 1

    def _plan(self, book: Book) -> None:
        """Have a principal's answers looked at when the first of them ends, or forget it if there is nothing of it."""
        busy = {*book.asking, *book.wanted}
        at = min((said.due_at for asked, said in book.said.items() if asked not in busy), default=math.inf)
        if at < book.due_at:
            book.due_at = at
            self._number += 1
            heappush(self._due, (at, self._number, book))
        if not (book.said or busy) and self._books.get(book.principal) is book:
            del self._books[book.principal]
            book.due_at = math.inf
        if len(self._due) > 2 * len(self._books) + BOOKS_LOOKED_AT:
            # Else those that are forgotten would be kept until their answers end, in a day.
            self._due = [each for each in self._due if each[0] == each[2].due_at]
            heapify(self._due)


def too_many_questions() -> Overloaded:
    """Return the error of a request that was asked about `QUESTIONS_MAX` times, and would have to be once more."""
    text = f"the callout of this node was asked {QUESTIONS_MAX} times for this request, which names more: name fewer"
    return Overloaded(text, retry_ms=DOWN_RETRY_MS)


def _within(ceilings: Iterable[Sequence[Pattern]], name: str) -> bool:
    return all(any(pattern.covers(pattern_of(name)) for pattern in ceiling) for ceiling in ceilings)


def _too_many(what: str, most: int) -> Overloaded:
    text = f"{what} were asked about at the callout of this node, the limit is {most}: ask for fewer, or later"
    return Overloaded(text, retry_ms=DOWN_RETRY_MS)
