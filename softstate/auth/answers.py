"""Answers of a callout: which tokens it says are good, for how long that holds, and when to ask again. No I/O.

A shell asks about what `next_due` returns, and tells what came of it. An answer holds for as long as it says; then the
callout is asked again, if anything still rests on the answer. While it fails, the last answer holds for `stale_s` more.
All who wait for one token share one question; nothing is asked twice because it failed.

An identity holds the `Standing` of its answer, and so do all sessions, leases and requests that have the identity: as
long as one does, the answer is kept up to date. Others are kept in case the callout fails when they are presented.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple, final
from weakref import ReferenceType, ref

from softstate.auth.identity import Identity
from softstate.auth.rules import Known
from softstate.errors import Overloaded, RequestError, Unavailable

INFLIGHT_MAX = 64
"""Default for the questions that may be on their way at once."""

WAITING_MAX = 1_024
"""Most tokens that may wait to be asked about; beyond it a token is `overloaded`."""

ANSWERS_MAX = 10_000
"""Answers that are kept although nothing rests on them; beyond it the oldest is forgotten."""

LOOKED_AT = 8
"""Answers that are looked at, whether they can be forgotten, whenever another token comes."""

AGAIN_S = 5.0
"""Time after which a callout is asked again about an answer that holds only because it fails."""

DOWN_RETRY_MS = 1_000
"""Delay after which a client is told to present its token again while the callout does not answer."""


class Waiter(NamedTuple):
    """Somebody who waits: `settled` is called when an answer has come, or with the reason why none has.

    `broken` is called if that meets a bug.
    """

    settled: Callable[[RequestError | None], None]
    broken: Callable[[], None]


@dataclass(frozen=True, slots=True)
class CalloutTimes:
    """For how long an answer holds that does not say so, and for how much longer if no other comes, in seconds."""

    ttl_s: float = 60.0
    stale_s: float = 300.0
    timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer about a token: `known` tells of its principal (None: it is not good), and holds for `ttl_s`."""

    known: Known | None
    ttl_s: float


class Unasked(Unavailable):
    """The callout has to be asked about a token first. One that cannot wait for that tells its client to come again."""

    def __init__(self, token: str) -> None:
        super().__init__(
            "this token has to be asked about at the callout of this node: present it again", retry_ms=DOWN_RETRY_MS
        )
        self.token = token


def out_of_reach() -> Unavailable:
    """Return the error of credentials of which nobody has been able to tell for too long."""
    text = "the callout of this node has not answered for too long: present the token again"
    return Unavailable(text, retry_ms=DOWN_RETRY_MS)


@final
class Standing:
    """The hold of an identity on the answer that it rests on."""

    __slots__ = ("__weakref__", "entry")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


@dataclass(eq=False, slots=True)
class Entry:
    """All that is known of one token. `digest` names it, `peer` is the address that presented it first.

    `identity` is kept for those who come while the answer holds, as of the generation that it has. `failing`: the
    callout has failed since the last answer.
    """

    token: str = field(repr=False)
    digest: str
    peer: str
    answer: Answer | None = None
    identity: Identity | None = None
    changed: int = 0
    """The generation in which the answer changed."""
    failing: bool = False
    watched: bool = False
    """Whether `over` looks at it when it is stale."""
    asking: bool = False
    good_until: float = -math.inf
    stale_until: float = math.inf
    due_at: float = math.inf
    waits_since: float = 0.0
    waiters: list[Waiter] = field(default_factory=list)
    _standing: ReferenceType[Standing] | None = None

    @property
    def known(self) -> Known | None:
        """Everything that is known of its principal; None if it is not good, as far as is known."""
        return None if self.answer is None else self.answer.known

    def hold(self) -> Standing:
        """Return what an identity holds on to."""
        found = None if self._standing is None else self._standing()
        if found is None:
            found = Standing(self)
            self._standing = ref(found)
        return found

    def release(self) -> bool:
        """Hold the answer no more for those who may come; tell whether anybody else does."""
        self.identity = None
        return self._standing is not None and self._standing() is not None


@final
class Answers:
    """The answers of one callout. `woken` is called when something is due sooner than before."""

    def __init__(self, times: CalloutTimes, inflight_max: int = INFLIGHT_MAX) -> None:
        self.times = times
        self.inflight_max = inflight_max
        self.inflight = 0
        self.woken: Callable[[], object] = lambda: None
        self._entries: dict[str, Entry] = {}
        self._asked: deque[Entry] = deque()  # those that somebody waits for
        self._asked_last = False  # whether the last question was of those
        self._turned_away: list[Waiter] = []
        self._due: list[tuple[float, int, Entry]] = []
        self._stale: list[tuple[float, int, Entry]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        """Tell whether an answer is one of these still: what rests on another one is over."""
        return self._entries.get(entry.digest) is entry

    # Those who present tokens ----------------------------------------------------------------------------------------

    def find(self, digest: str, now: float) -> Entry | None:
        """Return what is known of a token, if that holds now; None if the callout has to be asked."""
        entry = self._entries.get(digest)
        if entry is None or entry.answer is None:
            return None
        holds = now < entry.good_until or (entry.failing and now < entry.stale_until)
        return entry if holds else None

    def ask(self, token: str, digest: str, peer: str, waiter: Waiter, now: float) -> None:
        """Have the callout asked about a token, and a waiter told, later in any case; that too many wait, maybe."""
        entry = self._entries.get(digest)
        if entry is None or not (entry.asking or entry.waiters):
            if len(self._asked) >= WAITING_MAX:
                self._turned_away.append(waiter)
                self.woken()
                return
            if entry is None:
                self._make_room()
                entry = self._entries[digest] = Entry(token, digest, peer)
            entry.waits_since = now
            self._asked.append(entry)
            self.woken()
        entry.waiters.append(waiter)

    # The shell -------------------------------------------------------------------------------------------------------

    def next_due(self, now: float) -> Entry | None:
        """Return what to ask about now, if anything; `got` or `failed` is to be told of it."""
        while self.inflight < self.inflight_max:
            # In turn, so that a flood of new tokens does not keep those in that are not good any more.
            entry = self._take_due(now) if self._asked_last or not self._asked else None
            self._asked_last = entry is None and bool(self._asked)
            if self._asked_last:
                entry = self._asked.popleft()
            if entry is None:
                return None
            if not entry.asking:
                return self._begin(entry)
        return None

    def turned_away(self) -> list[tuple[Waiter, RequestError]]:
        """Return those that are not waited for, and are to be told so."""
        waiters, self._turned_away = self._turned_away, []
        text = f"{WAITING_MAX} tokens wait to be asked about at the callout of this node: present it again later"
        return [(waiter, Overloaded(text, retry_ms=DOWN_RETRY_MS)) for waiter in waiters]

    def late(self, now: float) -> Iterator[Entry]:
        """Take out those that have waited too long to be asked about; `failed` is to be told of each."""
        while self._asked and self._asked[0].waits_since + self.times.timeout_s <= now:
            entry = self._asked.popleft()
            if not entry.asking:
                yield self._begin(entry)

    def over(self, now: float) -> Iterator[Entry]:
        """Take out those whose last answer has held for as long as it may, and on which something rests still."""
        while self._stale and self._stale[0][0] <= now:
            _, _, entry = heappop(self._stale)
            entry.watched = False
            if entry not in self:
                continue
            if entry.stale_until > now:
                self._watch(entry)
            elif not (entry.asking or entry.waiters):  # else `failed` finds it out
                held = entry.release()
                self._end(entry)
                if held:
                    yield entry

    def due_at(self) -> float:
        """Return when to look again, but for what comes in between."""
        if self._turned_away:
            return -math.inf
        at = self._asked[0].waits_since + self.times.timeout_s if self._asked else math.inf
        if self._due and self.inflight < self.inflight_max:
            at = min(at, self._due[0][0])
        return min(at, self._stale[0][0]) if self._stale else at

    def got(self, entry: Entry, answer: Answer, now: float) -> bool:
        """Take an answer; tell whether it says something else than the one before."""
        self._finish(entry)
        before, entry.answer, entry.failing = entry.answer, answer, False
        entry.good_until = now + answer.ttl_s
        entry.stale_until = entry.good_until + self.times.stale_s
        self._plan(entry, entry.good_until)
        if not entry.watched:
            self._watch(entry)
        if before is None or before.known == answer.known:
            return False
        entry.identity = None
        return True

    def failed(self, entry: Entry, now: float) -> bool:
        """Take a failure; tell whether that is the end of an answer on which something rests."""
        self._finish(entry)
        entry.failing = True
        if entry.answer is None:
            del self._entries[entry.digest]
            return False
        if now < entry.stale_until:
            self._plan(entry, min(now + AGAIN_S, entry.stale_until))
            return False
        held = entry.release()
        self._end(entry)
        return held

    def forget(self, times: CalloutTimes, inflight_max: int) -> None:
        """Have all asked about again: the callout is another one, or answers count otherwise."""
        self.times, self.inflight_max = times, inflight_max
        for entry in self._entries.values():
            entry.good_until = -math.inf
            if entry.answer is not None and not entry.asking:
                self._plan(entry, -math.inf)
        self.woken()

    # Inside ----------------------------------------------------------------------------------------------------------

    def _take_due(self, now: float) -> Entry | None:
        while self._due and self._due[0][0] <= now:
            at, _, entry = heappop(self._due)
            if entry not in self or entry.due_at != at or entry.waiters:
                continue
            if entry.release():
                return entry
            # Asked about when it is presented again; until it is stale, it is there in case that fails.
            entry.failing = False
        return None

    def _begin(self, entry: Entry) -> Entry:
        entry.asking, entry.due_at = True, math.inf
        self.inflight += 1
        return entry

    def _finish(self, entry: Entry) -> None:
        entry.asking = False
        self.inflight -= 1

    def _end(self, entry: Entry) -> None:
        entry.identity = None
        del self._entries[entry.digest]

    def _plan(self, entry: Entry, at: float) -> None:
        entry.due_at = at
        self._push(self._due, at, entry)

    def _watch(self, entry: Entry) -> None:
        entry.watched = True
        self._push(self._stale, entry.stale_until, entry)

    def _push(self, heap: list[tuple[float, int, Entry]], at: float, entry: Entry) -> None:
        self._number += 1
        heappush(heap, (at, self._number, entry))

    def _make_room(self) -> None:
        """Forget the oldest answers that nothing rests on, as long as there are too many."""
        for _ in range(LOOKED_AT):
            if len(self._entries) < ANSWERS_MAX:
                return
            oldest = next(iter(self._entries.values()))
            del self._entries[oldest.digest]
            if oldest.asking or oldest.waiters or oldest.release():
                self._entries[oldest.digest] = oldest
