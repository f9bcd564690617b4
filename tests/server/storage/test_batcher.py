"""The batcher: which requests share a call, and what each is told when the call fails, hangs or is cancelled."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.errors import Behind, Conflict, Overloaded, RequestError, Unavailable
from softstate.server.bulkhead import Bulkhead
from softstate.server.storage.batcher import BATCH_MAX, Batcher, Ticket
from tests.kit.batcher_rig import Calls, Log, Numbers, running, settled


async def test_a_batch_is_closed_before_its_call_begins() -> None:
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
    async with running(queued_max=2) as (batcher, calls, _):
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
    async with running(on_answered=lambda: flushes.append(1)) as (batcher, calls, _):
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


async def test_the_error_of_a_call_does_not_accumulate_tracebacks() -> None:
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


async def test_a_stuck_call_fails_all_requests_until_it_returns(autojump_clock: trio.testing.MockClock) -> None:
    flushes: list[float] = []
    async with running(on_answered=lambda: flushes.append(trio.current_time())) as (batcher, calls, _):
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


async def test_a_call_just_within_its_limit_is_not_stuck(autojump_clock: trio.testing.MockClock) -> None:
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


async def test_a_bug_behind_a_call_that_was_stuck_answers_it_and_lets_the_next_pass(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = Log()
    flushed: list[int] = []

    def failing(error: RequestError) -> None:
        if "does not answer" not in error.message:
            raise OSError("the log cannot be written")

    options = {"on_failed": failing, "on_answered": lambda: flushed.append(len(log))}
    async with running(strict=False, late_s_max=60.0, **options) as (batcher, calls, _):
        batcher.submit(1, log)
        await trio.sleep(7)
        assert (batcher.stuck, log) == (True, [])
        calls.end(Unavailable("down"))
        await settled()
        assert log == ["1: unavailable"]
        assert flushed[-1] == 1, "what it was told is written"
        await trio.sleep(2)
        batcher.submit(2, log)
        calls.end()
        await settled()
        assert log == ["1: unavailable", "2"]


async def test_requests_queue_during_the_interval(autojump_clock: trio.testing.MockClock) -> None:
    async with running(interval_s=0.04) as (batcher, calls, _):
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


async def test_a_cancelled_caller_disturbs_no_other() -> None:
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


@pytest.mark.parametrize("in_flight", [False, True])
async def test_when_cancelled_it_answers_all_requests_and_takes_no_more(in_flight: bool) -> None:
    flushes: list[int] = []
    log, calls = Log(), Calls()
    batcher: Numbers = Batcher(
        "numbers",
        calls,
        Bulkhead(strict=True),
        queued_max=9,
        call_s_max=5,
        interval_s=100,
        on_answered=lambda: flushes.append(1),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        if not in_flight:
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
