"""Group commit and shared reads: many requests, one store call.

A request that arrives while a call is under way goes into the next batch. A batch is closed *before* its call begins,
so that every answer is from after its request: a read shared by several requests, one transaction for many publishes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import repeat
from typing import Generic, Protocol, TypeVar

import trio

from softstate.errors import Overloaded, RequestError, Unavailable
from softstate.server.bulkhead import RETRY_S, Bulkhead, Failed, failed
from softstate.server.measure.histogram import Histogram
from softstate.server.observe import spans
from softstate.server.storage.guard import DOWN_RETRY_MS
from softstate.wire.messages import UNTRIED

T = TypeVar("T")
R = TypeVar("R")

BATCH_MAX = 512
"""Default for the requests that one store call serves at most, so that none waits for thousands of others."""

JOIN_FRACTION = 0.5
"""Fraction of the last call's duration to wait for its callers to submit again, if other requests are queued."""

JOIN_S_MIN = 0.001
"""Below this wait, in seconds, there is none: epoll, which would end it, counts whole milliseconds."""

JOIN_S_MAX = 0.02
"""The longest such wait, in seconds, however slow the store is."""

SKIP_CALLS_MAX = 64
"""After a wait that fewer than half of the callers joined, the next 2 calls go without one, then 4, up to this many."""

STUCK_CHECKS = 4
"""Checks for a stuck call within the time that a call may take."""

OVERLOADED_RETRY_MS = 1_000
"""Delay after which a client is told to try again if too many requests are queued."""

DEFERRED = Unavailable("this call did not come to the request")
"""The answer to a request that a call did not come to; no client is told it."""

FAILED_CALLS_MAX = 64
"""Calls that may fail in the search for the requests of one batch that meet a bug; then all that are left get it."""


def _nothing() -> None:
    pass


class Ticket(Generic[T, R]):
    """One request: `settled` is called once with it, when `answer` or `error` is there.

    `broken` is called if a bug ended that call: it ends what the request belongs to. `bulk`: it is one of many that
    came as one. `cause` is the span of the publish that it belongs to, if there is one.
    """

    __slots__ = ("_settled", "answer", "asked_at", "broken", "bulk", "cause", "error", "item")

    def __init__(
        self,
        item: T,
        settled: Callable[[Ticket[T, R]], None],
        broken: Callable[[], None] = _nothing,
        *,
        bulk: bool = False,
    ) -> None:
        self.item = item
        self.asked_at = 0.0
        self.broken = broken
        self.bulk = bulk
        self.cause: spans.Cause | None = None
        self.answer: R | None = None
        self.error: RequestError | None = None
        self._settled: Callable[[Ticket[T, R]], None] | None = settled

    @property
    def open(self) -> bool:
        """Whether the request still waits for its answer."""
        return self._settled is not None

    def then(self, settled: Callable[[Ticket[T, R]], None]) -> None:
        """Replace the callback. Allowed until the next checkpoint after `submit`."""
        self._settled = settled

    def abandon(self) -> None:
        """Wait for the answer no longer."""
        self._settled = None

    def outcome(self) -> R | RequestError:
        """Return the answer or the error of a request that is no longer open."""
        outcome = self.error if self.error is not None else self.answer
        assert outcome is not None
        return outcome

    def settle(self, answer: R | RequestError) -> None:
        """Give the answer, unless one was given."""
        settled, self._settled = self._settled, None
        if settled is None:
            return
        if isinstance(answer, RequestError):
            self.error = answer
        else:
            self.answer = answer
        settled(self)


def too_many(waiting: int, name: str) -> Overloaded:
    """Return the refusal of one more request than may wait."""
    return Overloaded(f"{waiting} {name} wait for the store already: try again later", retry_ms=OVERLOADED_RETRY_MS)


def settle_each(
    bulkhead: Bulkhead, what: str, tickets: Iterable[Ticket[T, R]], answers: Iterable[R | RequestError]
) -> None:
    """Settle tickets; a bug in what one of them calls back leaves the others alone."""
    bulkhead.each(what, Ticket.settle, tickets, answers, failed=lambda ticket: ticket.broken())


class Queue(Protocol[T, R]):
    """Requests that wait for a call, and the order in which they are served."""

    def __len__(self) -> int:
        """Return how many wait."""

    def append(self, ticket: Ticket[T, R], /) -> None:
        """Queue a request. May raise `Overloaded`."""

    def put_back(self, tickets: Sequence[Ticket[T, R]], /) -> None:
        """Queue requests again that a call did not come to."""

    def take(
        self, count_max: int, now: float, /
    ) -> tuple[list[Ticket[T, R]], Sequence[tuple[Ticket[T, R], RequestError]]]:
        """Return the requests of the next call, `count_max` at most and perhaps none, and those that are refused.

        To settle these is the caller's: what they call back may meet a bug.
        """

    def drain(self) -> list[Ticket[T, R]]:
        """Return all requests; none waits any more."""


class Fifo(deque[Ticket[T, R]]):
    """Requests in the order of their arrival. Implements `Queue`."""

    def put_back(self, tickets: Sequence[Ticket[T, R]], /) -> None:
        """See `Queue.put_back`."""
        self.extendleft(reversed(tickets))

    def take(self, count_max: int, _now: float, /) -> tuple[list[Ticket[T, R]], tuple[()]]:
        """See `Queue.take`. None is refused."""
        return [self.popleft() for _ in range(min(len(self), count_max))], ()

    def drain(self) -> list[Ticket[T, R]]:
        """See `Queue.drain`."""
        tickets = list(self)
        self.clear()
        return tickets


class Batcher(Generic[T, R]):
    """Serves requests by one kind of store call. `call` gets the items of a batch, and returns an answer or error each.

    At most `queued_max` requests wait for a call, and one call serves at most `batch_max`. `call_s_max` bounds every
    call, in seconds: a longer one is stuck, and it, all that is queued, and all that arrives until it returns, are
    answered `Unavailable` (a quarter of `call_s_max` later at most). Its outcome is then unknown; it is left to end,
    since a thread cannot be stopped. `interval_s` is the least time from the beginning of one call to that of the next,
    in which requests queue. `on_answered` is called whenever requests have been answered, `on_failed` when a call has
    failed or is stuck.

    `queue` decides on the order, and on what one call serves. `late_s_max` is how long the requests of a stuck call may
    wait: its answer is worth more than its repetition. An answer may be `DEFERRED`: the call did not come to that
    request, and a later one serves it, if there is a `queue` of its own; it must come to one at least.

    `wait_for_joiners`: when a call ends and other requests are queued, wait briefly for the callers that it has
    answered, so that their next requests join the batch. Otherwise two halves of those that submit without pause take
    turns, with half as many requests in each call: with the wait, publishes a second rise by a quarter on PostgreSQL,
    by a half on two nodes with etcd (`bench nodes`, 16 publishers). Callers that submit only now and then do not come
    back in time; the batcher notices that, and waits less often.

    A call that fails fails *everything* that is queued at that moment: requests are answered in order, so none may
    succeed after an earlier one failed.

    A call that meets a bug is `Failed` for its requests. Where calls are `repeatable`, which those that only read are,
    the batch is called again by halves, so that only the requests that meet the bug get it. Where they are not, the
    outcome of all is unknown; their clients repeat them, and as many requests as the batch held are then served one by
    one, so that the bug is met alone.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R | RequestError]]],
        bulkhead: Bulkhead,
        *,
        queued_max: int,
        call_s_max: float,
        interval_s: float = 0.0,
        batch_max: int = BATCH_MAX,
        wait_for_joiners: bool = False,
        repeatable: bool = True,
        queue: Queue[T, R] | None = None,
        late_s_max: float = 0.0,
        on_answered: Callable[[], None] = lambda: None,
        on_failed: Callable[[RequestError], None] = lambda _error: None,
    ) -> None:
        self.calls = 0
        self.served = 0
        self.durations = Histogram()
        """The time for which requests waited for their answers; those that failed are not counted."""
        self._name = name
        self._span = spans.span_name(name)
        self._call = call
        self._bulkhead = bulkhead
        self._repeatable = repeatable
        self._alone = 0
        self._failed_calls = 0
        self._queued_max = queued_max
        self._call_s_max = call_s_max
        self._interval_s = interval_s
        self._batch_max = batch_max
        self._on_answered = on_answered
        self._on_failed = on_failed
        self._queued: Queue[T, R] = Fifo() if queue is None else queue
        self._may_defer = queue is not None
        self._late_s_max = max(late_s_max, call_s_max)
        self._in_flight: Sequence[Ticket[T, R]] = ()
        self._stuck = False
        self._next_call_at = -math.inf
        self._called_at: float | None = None
        self._calling = trio.Event()
        self._wake = trio.Event()
        self._waits_for_joiners = wait_for_joiners
        self._served_last = 0
        self._expected = math.inf
        self._joined = trio.Event()
        self._poor_waits = self._skip_calls = 0

    def __len__(self) -> int:
        """Return how many requests are queued or in flight."""
        return len(self._queued) + len(self._in_flight)

    @property
    def stuck(self) -> bool:
        """Whether a call takes longer than it may, so that nothing can be submitted."""
        return self._stuck

    def submit(
        self,
        item: T,
        settled: Callable[[Ticket[T, R]], None],
        broken: Callable[[], None] = _nothing,
        *,
        bulk: bool = False,
    ) -> Ticket[T, R]:
        """Queue a request without waiting. Raises `Overloaded`; `Unavailable` while a call is stuck, or after `run`.

        `settled`, `broken` and `bulk` are as in `Ticket`.
        """
        if self._stuck:
            raise self._unavailable(UNTRIED)
        if len(self._queued) >= self._queued_max:
            raise too_many(self._queued_max, self._name)
        ticket = Ticket(item, settled, broken, bulk=bulk)
        ticket.asked_at = trio.current_time()
        if self._span is not None:
            ticket.cause = spans.cause()
        self._queued.append(ticket)
        self._wake.set()
        if len(self._queued) >= self._expected:
            self._joined.set()
        return ticket

    async def ask(self, item: T) -> R:
        """Queue a request and wait for its answer, or raise its error. If cancelled, it may be served all the same."""
        done = trio.Event()
        ticket = self.submit(item, lambda _ticket: done.set())
        try:
            await done.wait()
        finally:
            ticket.abandon()
        if ticket.error is not None:
            # One error may answer thousands: without this, each of them would add its frames to the traceback.
            raise ticket.error.with_traceback(None)
        assert ticket.answer is not None
        return ticket.answer

    async def run(self) -> None:
        """Serve until cancelled; then answer all that is queued, or comes later, `Unavailable`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._detect_stuck_calls)
                while True:
                    with self._bulkhead.contain(self._name):
                        await self._serve_batches()
                    self._settle_all(self._in_flight, failed(self._name))
                    self._end_call()
                    await trio.sleep(RETRY_S)
        finally:
            self._stuck = True
            self._fail(self._unavailable())
            self._on_answered()

    async def _serve_batches(self) -> None:
        while True:
            if not self._queued:
                self._wake = trio.Event()
                await self._wake.wait()
            began = trio.current_time()
            if self._interval_s:
                if began < self._next_call_at:
                    await trio.sleep_until(self._next_call_at)
                    began = trio.current_time()
                self._next_call_at = began + self._interval_s
            self._in_flight, refused = self._queued.take(self._size(), began)
            if refused:
                tickets, errors = zip(*refused, strict=True)
                settle_each(self._bulkhead, self._name, tickets, errors)
            if not self._in_flight:
                await trio.lowlevel.checkpoint()
                continue
            await self._serve()
            if self._waits_for_joiners and self._queued:
                await self._wait_for_joiners(trio.current_time() - began)

    def _size(self) -> int:
        """Return how many requests the next call may serve."""
        if not self._alone:
            return self._batch_max
        self._alone -= 1
        return 1

    async def _wait_for_joiners(self, took_s: float) -> None:
        """Wait for callers to submit again; back off exponentially when fewer than half do."""
        if self._skip_calls:
            self._skip_calls -= 1
            return
        wait_s = min(took_s * JOIN_FRACTION, JOIN_S_MAX)
        before = len(self._queued)
        expected = min(self._served_last + before, self._batch_max)
        if wait_s < JOIN_S_MIN or before >= expected:
            return
        self._joined = trio.Event()
        self._expected = expected
        with trio.move_on_after(wait_s):
            await self._joined.wait()
        self._expected = math.inf
        if 2 * (len(self._queued) - before) >= expected - before:
            self._poor_waits = 0
        else:
            self._poor_waits += 1
            self._skip_calls = min(2**self._poor_waits, SKIP_CALLS_MAX)

    async def _serve(self) -> None:
        self._calling.set()
        try:
            answers = await self._answers(self._in_flight)
        except Failed as error:
            self._fail_call(error)
        except Unavailable as error:
            self._fail_call(Unavailable(error.message, retry_ms=error.retry_ms or DOWN_RETRY_MS, why=error.why))
        except RequestError as error:
            self._fail_call(error)
        else:
            self._served_last = len(answers)
            self._answer(answers)
        self._end_call()

    def _end_call(self) -> None:
        self._in_flight = ()
        self._called_at = None
        self._stuck = False
        self._on_answered()

    async def _answers(self, tickets: Sequence[Ticket[T, R]]) -> Sequence[R | RequestError]:
        """Make the call for a batch. Raises what the call does, a bug excepted."""
        with self._bulkhead.contain(f"{self._name}: store call", passing=RequestError, requests=len(tickets)):
            return await self._made(tickets)
        if self._repeatable:
            self._failed_calls = 0
            return await self._halves(tickets)
        self._alone = len(tickets)
        raise failed(self._name)

    async def _halves(self, tickets: Sequence[Ticket[T, R]]) -> Sequence[R | RequestError]:
        """Answer a batch whose call met a bug: by two calls, and so on."""
        self._failed_calls += 1
        if len(tickets) == 1 or self._failed_calls > FAILED_CALLS_MAX:
            return [failed(self._name)] * len(tickets)
        middle = len(tickets) // 2
        return [*await self._half(tickets[:middle]), *await self._half(tickets[middle:])]

    async def _half(self, tickets: Sequence[Ticket[T, R]]) -> Sequence[R | RequestError]:
        with self._bulkhead.contain(self._name, passing=RequestError, counted=False):
            return await self._made(tickets)
        return await self._halves(tickets)

    async def _made(self, tickets: Sequence[Ticket[T, R]]) -> Sequence[R | RequestError]:
        self._called_at = trio.current_time()
        if self._span is None:
            return await self._called(tickets)
        with spans.StoreCall(self._span, len(tickets), (ticket.cause for ticket in tickets)):
            return await self._called(tickets)

    async def _called(self, tickets: Sequence[Ticket[T, R]]) -> Sequence[R | RequestError]:
        answers = await self._call([ticket.item for ticket in tickets])
        if len(answers) != len(tickets):
            raise AssertionError(f"{len(tickets)} {self._name} got {len(answers)} answers")
        return answers

    def _answer(self, answers: Sequence[R | RequestError]) -> None:
        self.calls += 1
        tickets = self._in_flight
        if self._may_defer and any(answer is DEFERRED for answer in answers):
            pairs = list(zip(tickets, answers, strict=True))
            self._queued.put_back([ticket for ticket, answer in pairs if answer is DEFERRED])
            tickets = [ticket for ticket, answer in pairs if answer is not DEFERRED]
            answers = [answer for _, answer in pairs if answer is not DEFERRED]
        self.served += len(answers)
        now, observe = trio.current_time(), self.durations.observe
        for ticket in tickets:
            observe(now - ticket.asked_at)
        settle_each(self._bulkhead, self._name, tickets, answers)

    async def _detect_stuck_calls(self) -> None:
        while True:
            with self._bulkhead.contain(f"{self._name}: stuck calls"):
                await self._detect_stuck_call()
                continue
            await trio.sleep(RETRY_S)

    async def _detect_stuck_call(self) -> None:
        if self._called_at is None:
            self._calling = trio.Event()
            await self._calling.wait()
        await trio.sleep(self._call_s_max / STUCK_CHECKS)
        if self._called_at is None:
            return
        called_s = trio.current_time() - self._called_at
        if called_s >= self._call_s_max:
            self._stuck = True
            error = self._unavailable()
            self._on_failed(error)
            self._fail(error, in_flight=called_s >= self._late_s_max)
            self._on_answered()

    def _fail_call(self, error: RequestError) -> None:
        self._on_failed(error)
        self._fail(error)

    def _fail(self, error: RequestError, *, in_flight: bool = True) -> None:
        queued = list(self._queued.drain())
        if in_flight:
            self._settle_all(self._in_flight, error)
        # The call knew nothing of those that are queued: they are not applied, even if it was made.
        untried = Unavailable(error.message, retry_ms=error.retry_ms, why=UNTRIED)
        self._settle_all(queued, untried if isinstance(error, Unavailable) else error)

    def _settle_all(self, tickets: Sequence[Ticket[T, R]], error: RequestError) -> None:
        settle_each(self._bulkhead, self._name, tickets, repeat(error))

    def _unavailable(self, why: str | None = None) -> Unavailable:
        message = f"the store does not answer ({self._name}): try again later"
        return Unavailable(message, retry_ms=DOWN_RETRY_MS, why=why)
