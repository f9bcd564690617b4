"""Gathering: many requests, one store call.

Whoever asks while a call is under way rides with the next one. The riders are closed *before* the call begins, so
that every answer is from after its request: a read shared by several requests, one transaction for many publishes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from softstate.errors import Overloaded, RequestError, Unavailable
from softstate.server.storage.guard import DOWN_RETRY_MS

T = TypeVar("T")
R = TypeVar("R")

BATCH_MAX = 512
"""Default for how many requests one store call serves at most, so that no rider waits for thousands of others."""

JOIN_SHARE = 0.5
"""For what share of the time that a call took those whom it answered are waited for, if others wait already."""

JOIN_S_MIN = 0.001
"""Where that is less, in seconds, nobody is waited for: epoll, which would end the wait, counts whole milliseconds."""

JOIN_S_MAX = 0.02
"""The longest that they are waited for, in seconds, however slow the store."""

VAIN_CALLS_MAX = 64
"""Where less than half of them came back, nobody is waited for during the next 2 calls, then 4, up to so many."""

WATCHES = 4
"""How often within its patience a gathering looks whether the call is stuck."""

OVERLOADED_RETRY_MS = 1_000


class Ticket(Generic[T, R]):
    """One request on its way: `settled` is called once with itself, when `answer` or `error` is there."""

    __slots__ = ("_settled", "answer", "error", "item")

    def __init__(self, item: T, settled: Callable[[Ticket[T, R]], None]) -> None:
        self.item = item
        self.answer: R | None = None
        self.error: RequestError | None = None
        self._settled: Callable[[Ticket[T, R]], None] | None = settled

    @property
    def open(self) -> bool:
        """Whether the request is still waiting."""
        return self._settled is not None

    def then(self, settled: Callable[[Ticket[T, R]], None]) -> None:
        """Call `settled` instead of what was asked for first. To be used before anything has waited."""
        self._settled = settled

    def outcome(self) -> R | RequestError:
        """Return what became of a request that is no longer open."""
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


class Batcher(Generic[T, R]):
    """One kind of store call. `call` gets the items of one batch and returns as many answers or errors.

    At most `waiting_max` requests wait, and `batch_max` ride with one call. `patience_s` bounds every call: once one
    takes longer, it, whatever waits, and whatever arrives until it comes back, is answered `Unavailable` (a quarter of
    `patience_s` later at most). Its outcome is then unknown; the call is left to end, since a thread cannot be stopped.
    `pause_s` is the least time from the beginning of one call to that of the next, in which riders gather. `after` is
    called whenever requests have been answered.

    `joins`: when a call ends and others wait, those whom it has answered may ask again and join them, as long as they
    are quick. Else two halves of those who ask without pause take turns, with half as many requests in each call:
    publishes a second rise by a quarter on PostgreSQL, a half on two nodes with etcd (`bench nodes`, 16 publishers).
    Others, who ask when they have something to ask, would be waited for in vain; that is noticed, and not repeated.

    A call that fails fails *everything* that waits at that moment: requests are answered in order, so none may
    succeed after an earlier one failed.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R | RequestError]]],
        *,
        waiting_max: int,
        patience_s: float,
        pause_s: float = 0.0,
        batch_max: int = BATCH_MAX,
        joins: bool = False,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self.calls = 0
        self.served = 0
        self._name = name
        self._call = call
        self._waiting_max = waiting_max
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._batch_max = batch_max
        self._joins = joins
        self._answered = 0
        self._in_vain = self._vain_calls = 0
        self._expected = math.inf
        self._joined = trio.Event()
        self._after = after
        self._waiting: deque[Ticket[T, R]] = deque()
        self._riding: Sequence[Ticket[T, R]] = ()
        self._stuck = False
        self._next_at = -math.inf
        self._began: float | None = None
        self._busy = trio.Event()
        self._wake = trio.Event()

    def __len__(self) -> int:
        """Return how many requests wait or ride."""
        return len(self._waiting) + len(self._riding)

    @property
    def stuck(self) -> bool:
        """Whether a call has outlived its patience, so that nothing can be submitted."""
        return self._stuck

    def submit(self, item: T, settled: Callable[[Ticket[T, R]], None]) -> Ticket[T, R]:
        """Queue a request without waiting. Raises `Overloaded`, or `Unavailable` while a call is stuck, or for good."""
        if self._stuck:
            raise self._unavailable()
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded(
                f"{self._waiting_max} {self._name} wait for the store already: come back later",
                retry_ms=OVERLOADED_RETRY_MS,
            )
        ticket = Ticket(item, settled)
        self._waiting.append(ticket)
        self._wake.set()
        if len(self._waiting) >= self._expected:
            self._joined.set()
        return ticket

    async def ask(self, item: T) -> R:
        """Queue a request and wait for its answer, or raise its error. If cancelled, it may be served all the same."""
        done = trio.Event()
        ticket = self.submit(item, lambda _ticket: done.set())
        await done.wait()
        if ticket.error is not None:
            # One error may answer thousands: without this, each of them would add its frames to the traceback.
            raise ticket.error.with_traceback(None)
        assert ticket.answer is not None
        return ticket.answer

    async def run(self) -> None:
        """Serve for ever. If cancelled, whoever waits, or comes later, is answered `Unavailable`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                while True:
                    if not self._waiting:
                        self._wake = trio.Event()
                        await self._wake.wait()
                    if self._pause_s:
                        await trio.sleep_until(self._next_at)
                        self._next_at = trio.current_time() + self._pause_s
                    self._riding = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_max))]
                    began = trio.current_time()
                    await self._serve()
                    if self._joins and self._waiting:
                        await self._let_join(trio.current_time() - began)
        finally:
            self._stuck = True
            self._fail(self._unavailable())
            self._after()

    async def _let_join(self, took_s: float) -> None:
        """Wait for those who were just answered to ask again, and to ride with those who wait; seldom if in vain."""
        if self._vain_calls:
            self._vain_calls -= 1
            return
        wait_s = min(took_s * JOIN_SHARE, JOIN_S_MAX)
        before = len(self._waiting)
        expected = min(self._answered + before, self._batch_max)
        if wait_s < JOIN_S_MIN or before >= expected:
            return
        self._joined = trio.Event()
        self._expected = expected
        with trio.move_on_after(wait_s):
            await self._joined.wait()
        self._expected = math.inf
        if 2 * (len(self._waiting) - before) >= expected - before:
            self._in_vain = 0
        else:
            self._in_vain += 1
            self._vain_calls = min(2**self._in_vain, VAIN_CALLS_MAX)

    async def _serve(self) -> None:
        self._began = trio.current_time()
        self._busy.set()
        try:
            answers = await self._call([ticket.item for ticket in self._riding])
        except Unavailable as error:
            self._fail(Unavailable(error.message, retry_ms=error.retry_ms or DOWN_RETRY_MS))
        except RequestError as error:
            self._fail(error)
        else:
            self._answered = len(answers)
            self._answer(answers)
        self._riding = ()
        self._began = None
        self._stuck = False
        self._after()

    def _answer(self, answers: Sequence[R | RequestError]) -> None:
        self.calls += 1
        self.served += len(answers)
        for ticket, answer in zip(self._riding, answers, strict=True):
            ticket.settle(answer)

    async def _watch(self) -> None:
        while True:
            if self._began is None:
                self._busy = trio.Event()
                await self._busy.wait()
            await trio.sleep(self._patience_s / WATCHES)
            if self._began is not None and trio.current_time() - self._began >= self._patience_s:
                self._stuck = True
                self._fail(self._unavailable())
                self._after()

    def _fail(self, error: RequestError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for ticket in (*self._riding, *waiting):
            ticket.settle(error)

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"the store does not answer ({self._name}): try again later", retry_ms=DOWN_RETRY_MS)
