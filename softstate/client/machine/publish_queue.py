"""The publishes of a client: which may be sent when, which must be sent again, and which have an unknown outcome.

Publishes of one topic go one at a time, in the order of the calls; different topics go side by side. A publish always
carries a number or an idempotency key, so sending it again does no harm while the store remembers it; once that is
over and its outcome is still unknown, it ends in `OutcomeUnknown` (P-CLI-10).

A number is given when a publish is first sent, and each message tells up to which number all is settled. So the store
has to remember what is in flight, at any rate (P-PUB-9). A publish that is sent again keeps its number, and goes
ahead of new ones: they may have to wait for it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from msgspec import UNSET, UnsetType

from softstate.client.machine.backoff import Advice, asked_s
from softstate.client.machine.events import PublishRequested, Settled
from softstate.client.machine.numbering import Numbered, Numbering
from softstate.client.machine.portions import HEAD_BYTES, Portions, text_bytes
from softstate.errors import (
    ERRORS_BY_CODE,
    ClientClosed,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    SoftstateError,
    TooLarge,
    Unavailable,
)
from softstate.model import Value
from softstate.position import Position
from softstate.wire.messages import UNTRIED, Batch, BatchChange, BatchResult, Publish, Published

EXPIRED = "the publish of {!r} was not answered in time: read the topic to learn its outcome"

UNSEEN = (
    "the publish of {!r} was sent and may have been applied, and asking again is refused ({}): read the topic to learn"
    " its outcome"
)

FORKED = "this process is a child of fork(): the publish is its parent's; read the topic to learn its outcome"

BATCH_MAX = 100
"""Most publishes in one HTTP request."""

KEY_MS_DEFAULT = 600_000
"""Life of an idempotency key, until a node says otherwise."""

KEY_MARGIN = 0.9
"""Fraction of the life of a key, and of a silent publisher, that is made use of: the node's clock may run faster."""

NUMBERS_MAX = 1_024
"""Numbers that may be used beyond what is settled, until a node says otherwise."""

RETRIED = frozenset({"unavailable", "overloaded", "behind"})
"""Answers after which the same publish is sent again."""

VERDICTS = frozenset({"conflict", "key_reused"})
"""Refusals by a store that has looked for earlier attempts; all others are made without (P-CLI-17)."""


@dataclass(slots=True, eq=False)
class Entry:
    """One publish that is not settled."""

    asked: PublishRequested
    order: int
    path: str | int | None = None
    """Where it is in flight: a connection's number, `HTTP`, or None."""
    sent: float = -math.inf
    maybe_applied: bool = False
    """An attempt before the present one may have been applied."""
    tries: int = 0
    dropped: bool = False
    refusal: RequestError | None = None
    """The last answer of a node that did not take it, for which it is sent again."""
    number: Numbered | None = None
    """The number that it was given when it was first sent."""

    @property
    def size(self) -> int:
        """How many bytes its message has, at most."""
        asked = self.asked
        return HEAD_BYTES + text_bytes(asked.topic) + text_bytes(asked.key or NO_KEY) + asked.wire_bytes

    @property
    def value(self) -> Value | UnsetType:
        """The value as the messages carry it."""
        return UNSET if self.asked.deleted else self.asked.value


HTTP = "http"

NO_KEY = "-" * 64
"""Stands for publisher and number where a publish has no key, when its message is measured."""


def _message(entry: Entry) -> Publish:
    asked = entry.asked
    if entry.number is None:
        return Publish(asked.ticket, asked.topic, entry.value, asked.deleted, asked.expect, asked.key)
    numbering, seq = entry.number
    return Publish(
        asked.ticket,
        asked.topic,
        entry.value,
        asked.deleted,
        asked.expect,
        None,
        numbering.publisher,
        seq,
        numbering.settled,
    )


def _outcome(entry: Entry, error: SoftstateError) -> SoftstateError:
    """Return the outcome of a publish that ends with `error`: unknown if an attempt may have been applied (P-CLI-17).

    A verdict by looking stays what it is, and so does `ClientClosed`, which claims nothing about the outcome.
    """
    verdict = isinstance(error, RequestError) and error.code in VERDICTS
    if verdict or not entry.maybe_applied or isinstance(error, ClientClosed | OutcomeUnknown):
        return error
    return OutcomeUnknown(UNSEEN.format(entry.asked.topic, error))


def error_of(
    code: str,
    message: str,
    retry_ms: int | None,
    current: int | None,
    position: Position | None,
    why: str | None = None,
) -> RequestError:
    """Build the error that a node answered with; an unknown code gives a plain `RequestError` that names it."""
    known = ERRORS_BY_CODE.get(code)
    if known is None:
        return RequestError(f"{code}: {message}", retry_ms=retry_ms, current=current, position=position, why=why)
    return known(message, retry_ms=retry_ms, current=current, position=position, why=why)


class PublishQueue:
    """The queue of publishes: at most `waiting_max` in all, `inflight_max` of them in flight on a connection."""

    def __init__(self, random: Random, waiting_max: int, inflight_max: int) -> None:
        self._random = random
        self._waiting_max = waiting_max
        self._inflight_max = inflight_max
        self.key_s = KEY_MS_DEFAULT / 1000
        self.numbers_max = NUMBERS_MAX
        self.repeats = 0
        self._order = 0
        self._entries: dict[int, Entry] = {}
        self._by_topic: dict[str, deque[Entry]] = {}
        self._ready: list[tuple[int, int]] = []
        self._again: list[tuple[int, int]] = []
        """Those that may be sent now and have a number, by it: they are ahead of `_ready`."""
        self._own = Numbering(self._new_publisher())
        self._numbered_at = -math.inf
        self._waiting: list[tuple[float, int, int]] = []
        self._in_flight: dict[int, Entry] = {}
        # First sending of each publish whose fate is unknown. Time never goes back, so the oldest comes first.
        self._unknown_since: dict[int, float] = {}
        self._batch_max = BATCH_MAX
        self._portions = Portions()
        self._unfit = False
        """Whether publishes may wait that are too large for the limits told since."""

    def __len__(self) -> int:
        return len(self._entries)

    # The application ---------------------------------------------------------------------------------------------

    def ask(self, asked: PublishRequested) -> list[Settled]:
        """Queue a publish; it is settled at once, with `Overloaded`, if too many wait already."""
        if len(self._entries) >= self._waiting_max:
            text = f"{self._waiting_max} publishes are waiting already: wait for some of them, then publish again"
            return [Settled(asked.ticket, Overloaded(text))]
        self._order += 1
        entry = Entry(asked, self._order)
        if (too_large := self._too_large(entry)) is not None:
            return [Settled(asked.ticket, too_large)]
        self._entries[asked.ticket] = entry
        line = self._by_topic.setdefault(asked.topic, deque())
        line.append(entry)
        if len(line) == 1:
            self._make_ready(entry)
        return []

    def drop(self, ticket: int) -> None:
        """Forget a publish; in flight, it holds back later ones of its topic until it is answered or lost."""
        entry = self._entries.get(ticket)
        if entry is None:
            return
        if entry.path is not None:
            entry.dropped = True
        else:
            self._remove(entry)

    def limit(self, portions: Portions) -> None:
        """Take over limits: publishes that are too large for them are settled at the next `tick`."""
        self._portions, self._unfit = portions, True

    def settle_all(self, error: SoftstateError, if_sent: SoftstateError | None = None) -> list[Settled]:
        """Settle every publish with `error`, or `if_sent` if it may have been applied; no answer is heard any more."""
        settled = []
        for ticket, entry in self._entries.items():
            entry.maybe_applied = entry.maybe_applied or entry.path is not None
            ending = if_sent if if_sent is not None and entry.maybe_applied else error
            if not entry.dropped:
                settled.append(Settled(ticket, _outcome(entry, ending)))
        for table in (self._entries, self._by_topic, self._in_flight, self._unknown_since):
            table.clear()
        for heap in (self._ready, self._again, self._waiting):
            heap.clear()
        return settled

    def forked(self) -> list[Settled]:
        """Begin in a child of fork(), with an id of its own (P-PUB-10); what the parent goes on with is settled."""
        self._own = Numbering(self._new_publisher())
        return self.settle_all(OutcomeUnknown(FORKED))

    # Sending -----------------------------------------------------------------------------------------------------

    def over_connection(self, conn: int, now: float) -> list[Publish]:
        """Take what may be sent on `conn` now, in order."""
        taken = self._take(self._inflight_max - len(self._in_flight), math.inf, conn, now)
        return [_message(entry) for entry in taken]

    def over_http(self, now: float) -> tuple[list[int], Batch]:
        """Take what may go into one HTTP request now, in order; return the tickets and the batch."""
        taken = self._take(self._batch_max, self._portions.batch_bytes - HEAD_BYTES, HTTP, now)
        changes = [
            BatchChange(entry.asked.topic, entry.value, entry.asked.deleted, entry.asked.expect, entry.asked.key)
            for entry in taken
        ]
        tickets = [entry.asked.ticket for entry in taken]
        if not taken or taken[0].number is None:
            return tickets, Batch(changes)
        numbering, seq = taken[0].number
        return tickets, Batch(changes, numbering.publisher, seq, numbering.settled)

    def sent_since(self, conn: int) -> float:
        """Return when the oldest publish in flight on `conn` was sent; infinity if there is none."""
        return next((entry.sent for entry in self._in_flight.values() if entry.path == conn), math.inf)

    # Answers -----------------------------------------------------------------------------------------------------

    def published(self, answer: Published) -> list[Settled]:
        """Settle the publish that `answer` is about, if it is still waited for."""
        entry = self._entries.get(answer.id) if isinstance(answer.id, int) else None
        if entry is None or entry.path is None:
            return []
        return self._settle(entry, answer)

    def refused(self, ticket: int, error: RequestError, now: float, advice: Advice) -> list[Settled]:
        """Settle a publish in flight with `error`, or send it again later if that may help."""
        entry = self._in_flight.get(ticket)
        if entry is None:
            return []
        if error.code not in RETRIED:
            return self._settle(entry, _outcome(entry, error))
        entry.refusal = error
        if error.code == "unavailable" and error.why != UNTRIED:
            entry.maybe_applied = True
        elif not entry.maybe_applied:
            self._unknown_since.pop(ticket, None)
        wait_s = max(asked_s(error.retry_ms), advice.backoff_s(self._random, entry.tries))
        entry.tries += 1
        self._requeue(entry, now + wait_s)
        return []

    def lost(self, path: str | int) -> None:
        """Queue again, in order, what was in flight on a connection or in the HTTP request that is no more."""
        for entry in [entry for entry in self._in_flight.values() if entry.path == path]:
            entry.maybe_applied = True
            self._requeue(entry)
        self._unfit = True

    def returned(self, path: str, refusal: RequestError | None = None) -> None:
        """Queue again, in order, what no node has seen, or what a node refused unseen, as `refusal` says."""
        for entry in [entry for entry in self._in_flight.values() if entry.path == path]:
            entry.refusal = refusal or entry.refusal
            if not entry.maybe_applied:
                self._unknown_since.pop(entry.asked.ticket, None)
            self._requeue(entry)
        self._unfit = True

    def put_back(self, ticket: int, refusal: RequestError) -> None:
        """Queue a publish in flight again that a node refused unseen, for a reason that concerns all of them."""
        if (entry := self._in_flight.get(ticket)) is None:
            return
        entry.refusal = refusal
        if not entry.maybe_applied:
            self._unknown_since.pop(ticket, None)
        self._requeue(entry)

    def refusal(self, ticket: int) -> RequestError | None:
        """Return why a publish is still waiting if it is certain not to be applied, else None."""
        entry = self._entries.get(ticket)
        if entry is None or entry.path is not None or entry.maybe_applied:
            return None
        return entry.refusal

    def batch_answered(
        self, tickets: Sequence[int], results: Sequence[BatchResult], now: float, advice: Advice
    ) -> list[Settled]:
        """Settle the publishes of an HTTP request, each with its own verdict."""
        self._batch_max = min(BATCH_MAX, self._batch_max * 2)
        settled = []
        for ticket, result in zip(tickets, results, strict=False):
            if not result.code and result.position is not None:
                answer = Published(ticket, result.topic, result.version, result.position, result.repeated)
                settled += self.published(answer)
            elif result.code:
                error = error_of(
                    result.code, result.message, result.retry_ms, result.current, result.position, result.why
                )
                settled += self.refused(ticket, error, now, advice)
            else:  # neither an answer nor an error: the node is at fault, and may have applied it
                settled += self.refused(ticket, Unavailable("a result without code and position"), now, advice)
        self.lost(HTTP)
        return settled

    def batch_refused(self, tickets: Sequence[int], error: RequestError) -> list[Settled]:
        """Settle the publish of an HTTP request that was refused as a whole; of several, find out which, one by one."""
        in_flight = [entry for ticket in tickets if (entry := self._in_flight.get(ticket)) is not None]
        if len(tickets) == 1:
            return [action for entry in in_flight for action in self._settle(entry, _outcome(entry, error))]
        self._batch_max = max(1, len(tickets) // 2)
        self.returned(HTTP)
        return []

    # Time --------------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """Return when something here has to be done, whether or not a path is open."""
        due = self._waiting[0][0] if self._waiting else math.inf
        oldest = next(iter(self._unknown_since.values()), math.inf)
        return min(due, oldest + KEY_MARGIN * self.key_s)

    def tick(self, now: float) -> list[Settled]:
        """Make ready what has waited long enough; settle publishes whose outcome can no longer be asked about."""
        while self._waiting and self._waiting[0][0] <= now:
            _, order, ticket = heapq.heappop(self._waiting)
            if self._is_next(order, ticket):
                self._make_ready(self._entries[ticket])
        settled = []
        for ticket, since in list(self._unknown_since.items()):
            if now < since + KEY_MARGIN * self.key_s:
                break
            entry = self._entries[ticket]
            settled += self._settle(entry, OutcomeUnknown(EXPIRED.format(entry.asked.topic)))
        if self._unfit:
            settled += self._refuse_unfit()
        return settled

    @property
    def ready(self) -> bool:
        """Whether something may be sent now."""
        return self._first(math.inf) is not None

    # Inside ------------------------------------------------------------------------------------------------------

    def _take(self, most: int, bytes_max: float, path: str | int, now: float) -> list[Entry]:
        """Take what goes at once: at most so many, and so many bytes, but one at least.

        Over HTTP they have consecutive numbers, or all have keys, since a batch has one number.
        """
        taken: list[Entry] = []
        while len(taken) < most and (entry := self._first(now)) is not None:
            bytes_max -= entry.size
            if (bytes_max < 0 and taken) or (path == HTTP and taken and not self._follows(entry, taken[-1])):
                break
            heapq.heappop(self._again if entry.number is not None else self._ready)
            if entry.number is None and entry.asked.key is None:
                entry.number = self._own, self._own.take()
                self._numbered_at = now
            self.repeats += entry.sent > -math.inf
            entry.path, entry.sent = path, now
            self._in_flight[entry.asked.ticket] = entry
            self._unknown_since.setdefault(entry.asked.ticket, now)
            taken.append(entry)
        return taken

    def _first(self, now: float) -> Entry | None:
        """Return the publish to be sent next, None if there is none, or a node would not take its number yet."""
        for heap in (self._again, self._ready):
            while heap and not self._is_next_in(heap):
                heapq.heappop(heap)
        if self._again:
            entry = self._entries[self._again[0][1]]
            assert entry.number is not None
            numbering, seq = entry.number
            if numbering.has_room(seq, self.numbers_max):
                return entry
        if not self._ready:
            return None
        entry = self._entries[self._ready[0][1]]
        if entry.asked.key is None:
            if self._own.idle and now - self._numbered_at >= KEY_MARGIN * self.key_s and now < math.inf:
                # P-PUB-10: nodes may have forgotten this one, and with it what was settled.
                self._own = Numbering(self._new_publisher())
            if not self._own.has_room(self._own.last + 1, self.numbers_max):
                return None
        return entry

    def _is_next_in(self, heap: list[tuple[int, int]]) -> bool:
        entry = self._entries.get(heap[0][1])
        return entry is not None and self._is_next(entry.order, heap[0][1]) and heap[0][0] == self._rank(entry)

    def _follows(self, entry: Entry, last: Entry) -> bool:
        """Tell whether a publish may be in a batch behind another."""
        if last.number is None:
            return entry.number is None and entry.asked.key is not None
        numbering, seq = last.number
        if entry.number is None:
            return entry.asked.key is None and numbering is self._own and seq == numbering.last
        return entry.number == (numbering, seq + 1)

    def _new_publisher(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _too_large(self, entry: Entry) -> TooLarge | None:
        limits, size = self._portions, entry.asked.cbor_bytes
        if size > limits.value_bytes:
            return TooLarge(f"value is {size} bytes encoded as CBOR, the limit (value_bytes) is {limits.value_bytes}")
        if limits.publish_bytes is not None and entry.size > limits.publish_bytes:
            text = (
                f"the message would have up to {entry.size} bytes, the limit (message_bytes) is {limits.publish_bytes}"
            )
            return TooLarge(text)
        return None

    def _refuse_unfit(self) -> list[Settled]:
        """Settle what waits and is too large for the limits: sent, it would cost the connection, again and again."""
        self._unfit = False
        settled = []
        for entry in [entry for entry in self._entries.values() if entry.path is None]:
            if (too_large := self._too_large(entry)) is not None:
                settled += self._settle(entry, _outcome(entry, too_large))
        return settled

    def _is_next(self, order: int, ticket: int) -> bool:
        """Tell whether this is still a publish to be sent: first of its topic and not in flight."""
        entry = self._entries.get(ticket)
        if entry is None or entry.order != order or entry.path is not None:
            return False
        return self._by_topic[entry.asked.topic][0] is entry

    def _make_ready(self, entry: Entry, due: float | None = None) -> None:
        if due is None:
            heap = self._ready if entry.number is None else self._again
            heapq.heappush(heap, (self._rank(entry), entry.asked.ticket))
        else:
            heapq.heappush(self._waiting, (due, entry.order, entry.asked.ticket))

    def _rank(self, entry: Entry) -> int:
        """Return the place of a publish in its heap."""
        return entry.order if entry.number is None else entry.number[1]

    def _requeue(self, entry: Entry, due: float | None = None) -> None:
        entry.path = None
        del self._in_flight[entry.asked.ticket]
        if entry.dropped:
            self._remove(entry)
        else:
            self._make_ready(entry, due)

    def _settle(self, entry: Entry, outcome: Published | SoftstateError) -> list[Settled]:
        self._remove(entry)
        return [] if entry.dropped else [Settled(entry.asked.ticket, outcome)]

    def _remove(self, entry: Entry) -> None:
        ticket = entry.asked.ticket
        del self._entries[ticket]
        self._in_flight.pop(ticket, None)
        self._unknown_since.pop(ticket, None)
        if entry.number is not None:
            numbering, seq = entry.number
            numbering.settle(seq)
        line = self._by_topic[entry.asked.topic]
        was_head = line[0] is entry
        line.remove(entry)
        if not line:
            del self._by_topic[entry.asked.topic]
        elif was_head:
            self._make_ready(line[0])
