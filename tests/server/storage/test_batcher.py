from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Behind, Conflict, Overloaded, RequestError, Unavailable
from softstate.server.storage.batcher import (
    BATCH_MAX,
    JOIN_S_MAX,
    JOIN_S_MIN,
    JOIN_SHARE,
    VAIN_CALLS_MAX,
    Batcher,
    Ticket,
)

settled = trio.testing.wait_all_tasks_blocked

Numbers = Batcher[int, str]
Answers = Sequence[str | RequestError]


class Calls:
    """A store call that waits until it is told how to end: it takes one of `endings`, an error or a function."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self._send, self._receive = trio.open_memory_channel[Callable[[Sequence[int]], Answers]](100)

    async def __call__(self, group: Sequence[int]) -> Answers:
        self.groups.append(list(group))
        return (await self._receive.receive())(group)

    def end(self, ending: Exception | None = None) -> None:
        def answer(group: Sequence[int]) -> Answers:
            if ending is not None:
                raise ending
            return [str(item) for item in group]

        self._send.send_nowait(answer)

    def end_with(self, answers: Answers) -> None:
        self._send.send_nowait(lambda _group: answers)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[Numbers, Calls, trio.Nursery]]:
    calls = Calls()
    batcher: Numbers = Batcher("numbers", calls, **{"waiting_max": 10_000, "patience_s": 5.0, **options})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        await settled()
        yield batcher, calls, nursery
        nursery.cancel_scope.cancel()


class Log(list[str]):
    """What became of requests, in the order of their being told."""

    def __call__(self, ticket: Ticket[int, str]) -> None:
        assert not ticket.open
        outcome = ticket.outcome()
        self.append(outcome if isinstance(outcome, str) else f"{ticket.item}: {outcome.code}")


async def test_riders_are_closed_before_the_call_begins() -> None:
    async with running() as (batcher, calls, _):
        log = Log()
        batcher.submit(1, log)
        await settled()
        batcher.submit(2, log)
        batcher.submit(3, log)
        assert (len(batcher), calls.groups) == (3, [[1]])
        calls.end()
        await settled()
        assert (log, calls.groups) == (["1"], [[1], [2, 3]])
        calls.end()
        await settled()
        assert log == ["1", "2", "3"]
        assert (len(batcher), batcher.calls, batcher.served) == (0, 2, 3)


async def test_each_request_gets_its_own_answer_or_error() -> None:
    async with running() as (batcher, calls, nursery):
        answers: dict[int, str] = {}

        async def ask(item: int) -> None:
            try:
                answers[item] = await batcher.ask(item)
            except Conflict as error:
                answers[item] = error.message

        for item in (1, 2, 3):
            nursery.start_soon(ask, item)
        await settled()
        (group,) = calls.groups
        calls.end_with([Conflict(f"lost {item}") if item == 2 else f"won {item}" for item in group])
        await settled()
        assert answers == {1: "won 1", 2: "lost 2", 3: "won 3"}


async def test_one_call_serves_no_more_than_its_limit() -> None:
    async with running() as (batcher, calls, _):
        log = Log()
        for item in range(BATCH_MAX + 1):
            batcher.submit(item, log)
        await settled()
        calls.end()
        await settled()
        assert [len(group) for group in calls.groups] == [BATCH_MAX, 1]
        calls.end()
        await settled()
        assert log == [str(item) for item in range(BATCH_MAX + 1)]


async def test_more_than_may_wait_are_refused() -> None:
    async with running(waiting_max=2) as (batcher, calls, _):
        log = Log()
        batcher.submit(1, log)
        await settled()
        batcher.submit(2, log)
        batcher.submit(3, log)
        with pytest.raises(Overloaded, match="2 numbers wait") as caught:
            batcher.submit(4, log)
        assert caught.value.retry_ms
        calls.end()
        calls.end()
        await settled()
        assert log == ["1", "2", "3"]


@pytest.mark.parametrize("ending", [Unavailable("down"), Behind("a store may answer anything")])
async def test_a_failed_call_fails_all_that_waits_and_nothing_later(ending: RequestError) -> None:
    flushes: list[int] = []
    async with running(after=lambda: flushes.append(1)) as (batcher, calls, _):
        log = Log()
        for item in range(BATCH_MAX):
            batcher.submit(item, log)
        await settled()
        batcher.submit(-1, log)
        batcher.submit(-2, log)
        calls.end(ending)
        await settled()
        assert log == [f"{item}: {ending.code}" for item in (*range(BATCH_MAX), -1, -2)]
        assert (len(calls.groups), len(flushes), batcher.calls) == (1, 1, 0)
        batcher.submit(-3, log)
        calls.end()
        await settled()
        assert log[-1] == "-3"


async def test_the_error_of_a_call_does_not_gather_tracebacks() -> None:
    async with running() as (batcher, calls, nursery):
        depths: list[int] = []

        async def ask(item: int) -> None:
            try:
                await batcher.ask(item)
            except Unavailable as error:
                depth, trace = 0, error.__traceback__
                while trace is not None:
                    depth, trace = depth + 1, trace.tb_next
                depths.append(depth)

        for item in range(50):
            nursery.start_soon(ask, item)
        await settled()
        calls.end(Unavailable("down"))
        await settled()
        assert depths == [2] * 50


async def test_a_stuck_call_fails_everybody_until_it_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    flushes: list[float] = []
    async with running(after=lambda: flushes.append(trio.current_time())) as (batcher, calls, _):
        log = Log()
        batcher.submit(1, log)
        await trio.sleep(1)
        batcher.submit(2, log)
        await trio.sleep(3.9)
        assert log == []
        await trio.sleep(1.4)
        assert log == ["1: unavailable", "2: unavailable"]
        assert flushes
        with pytest.raises(Unavailable, match="numbers"):
            batcher.submit(3, log)
        assert batcher.stuck
        await trio.sleep(60)
        with pytest.raises(Unavailable):
            batcher.submit(4, log)
        calls.end()
        await settled()
        assert log == ["1: unavailable", "2: unavailable"]
        batcher.submit(5, log)
        calls.end()
        await settled()
        assert (log[2:], calls.groups) == (["5"], [[1], [5]])


async def test_a_call_just_within_its_patience_is_not_stuck(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (batcher, calls, _):
        log = Log()
        for item in range(5):
            batcher.submit(item, log)
            await trio.sleep(4.9)
            calls.end()
            await settled()
        await trio.sleep(100)
        assert log == ["0", "1", "2", "3", "4"]


async def test_a_stuck_call_that_fails_at_last_lets_the_next_pass(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (batcher, calls, _):
        log = Log()
        batcher.submit(1, log)
        await trio.sleep(7)
        calls.end(Unavailable("down"))
        await settled()
        batcher.submit(2, log)
        calls.end()
        await settled()
        assert log == ["1: unavailable", "2"]


async def test_riders_gather_during_a_pause(autojump_clock: trio.testing.MockClock) -> None:
    async with running(pause_s=0.04) as (batcher, calls, _):
        log = Log()
        batcher.submit(1, log)
        await trio.sleep(0.01)
        calls.end()
        batcher.submit(2, log)
        await trio.sleep(0.02)
        batcher.submit(3, log)
        assert calls.groups == [[1]]
        await trio.sleep(0.02)
        assert calls.groups == [[1], [2, 3]]
        calls.end()
        await trio.sleep(1)
        batcher.submit(4, log)
        await settled()
        assert (log, calls.groups) == (["1", "2", "3"], [[1], [2, 3], [4]])


async def test_a_cancelled_rider_disturbs_nobody() -> None:
    async with running() as (batcher, calls, nursery):
        answers: list[str] = []

        async def ask(item: int) -> None:
            answers.append(await batcher.ask(item))

        batcher.submit(0, lambda _ticket: None)
        await settled()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(batcher.ask, 1)
                await settled()
                nursery.start_soon(ask, 2)
                await settled()
                scope.cancel()
        calls.end()
        calls.end()
        await settled()
        assert (answers, calls.groups) == (["2"], [[0], [1, 2]])


@pytest.mark.parametrize("riding", [False, True])
async def test_cancelled_it_answers_everybody_and_takes_nothing_more(riding: bool) -> None:
    flushes: list[int] = []
    log, calls = Log(), Calls()
    batcher: Numbers = Batcher(
        "numbers", calls, waiting_max=9, patience_s=5, pause_s=100, after=lambda: flushes.append(1)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        if not riding:
            batcher.submit(0, lambda _ticket: None)
            await settled()
            calls.end()
            await settled()
            flushes.clear()
        batcher.submit(1, log)
        await settled()
        batcher.submit(2, log)
        nursery.cancel_scope.cancel()
    assert (log, flushes) == (["1: unavailable", "2: unavailable"], [1])
    with pytest.raises(Unavailable):
        batcher.submit(3, log)


def test_a_ticket_is_settled_once() -> None:
    log, other = Log(), Log()
    ticket: Ticket[int, str] = Ticket(1, log)
    assert ticket.open
    ticket.then(other)
    ticket.settle(Unavailable("unknown"))
    ticket.settle("late")
    assert (log, other) == ([], ["1: unavailable"])


@asynccontextmanager
async def answered_two_while_one_waits(took_s: float, **options: Any) -> AsyncIterator[tuple[Numbers, Calls, Log]]:
    """A first call took so long, has just answered 1 and 2, and 3 has come meanwhile."""
    async with running(joins=True, **options) as (batcher, calls, _):
        log = Log()
        batcher.submit(0, log)
        await settled()
        batcher.submit(1, log)
        batcher.submit(2, log)
        calls.end()
        await settled()
        batcher.submit(3, log)
        await trio.sleep(took_s)
        calls.end()
        await settled()
        assert log == ["0", "1", "2"]
        yield batcher, calls, log


async def test_who_was_just_answered_may_join_who_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with answered_two_while_one_waits(0.01) as (batcher, calls, log):
        await trio.sleep(0.001)
        batcher.submit(4, log)
        await settled()
        assert calls.groups == [[0], [1, 2]]
        batcher.submit(5, log)
        await settled()
        assert calls.groups == [[0], [1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("took_s", "waits_s"),
    [(0.01, 0.01 * JOIN_SHARE), (1.0, JOIN_S_MAX), (JOIN_S_MIN, 0), (JOIN_S_MIN / JOIN_SHARE, JOIN_S_MIN)],
)
async def test_who_does_not_come_back_is_not_waited_for_long(
    autojump_clock: trio.testing.MockClock, took_s: float, waits_s: float
) -> None:
    async with answered_two_while_one_waits(took_s) as (batcher, calls, log):
        batcher.submit(4, log)
        begun = trio.current_time()
        while len(calls.groups) == 2:
            await trio.sleep(JOIN_S_MIN / 10)
        assert calls.groups[2:] == [[3, 4] if waits_s else [3]]
        assert trio.current_time() - begun == pytest.approx(waits_s, abs=JOIN_S_MIN / 5)


async def test_who_is_waited_for_in_vain_is_waited_for_ever_less_often(autojump_clock: trio.testing.MockClock) -> None:
    """And again each time, once somebody has come."""
    took_s = 2 * JOIN_S_MIN / JOIN_SHARE

    async with running(joins=True) as (batcher, calls, _):
        log = Log()
        batcher.submit(0, log)

        async def waited(back: int = 0) -> bool:
            """End a call that took a while and answers one, while one waits; tell whether others were waited for."""
            await settled()
            batcher.submit(1, log)
            await trio.sleep(took_s)
            before = len(calls.groups)
            calls.end()
            await settled()
            pausing = len(calls.groups) == before
            for _ in range(back):
                batcher.submit(2, log)
            await trio.sleep(2 * took_s)
            assert len(calls.groups) == before + 1
            return pausing

        for vain_calls in (2, 4, 8, 16, 32, VAIN_CALLS_MAX, VAIN_CALLS_MAX):
            assert await waited()
            for _ in range(vain_calls):
                assert not await waited()
        assert await waited(back=1)
        assert await waited()


async def test_nobody_is_waited_for_where_nobody_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with running(joins=True) as (batcher, calls, _):
        log = Log()
        for item in (1, 2):
            batcher.submit(item, log)
            await settled()
            assert calls.groups[-1] == [item]
            await trio.sleep(0.01)
            calls.end()
            await settled()
        assert log == ["1", "2"]


async def test_a_full_batch_waits_for_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with answered_two_while_one_waits(0.01, batch_max=2) as (batcher, calls, log):
        batcher.submit(4, log)
        await settled()
        assert calls.groups == [[0], [1, 2], [3, 4]]
        for item in (5, 6, 7):
            batcher.submit(item, log)
        await trio.sleep(0.01)
        calls.end()
        await settled()
        assert calls.groups[3:] == [[5, 6]]
