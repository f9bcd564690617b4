from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Behind, Conflict, Overloaded, RequestError, Unavailable
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.storage.batcher import (
    BATCH_MAX,
    FAILED_CALLS_MAX,
    JOIN_FRACTION,
    JOIN_S_MAX,
    JOIN_S_MIN,
    SKIP_CALLS_MAX,
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
async def running(*, strict: bool = True, **options: Any) -> AsyncIterator[tuple[Numbers, Calls, trio.Nursery]]:
    calls = Calls()
    batcher: Numbers = Batcher(
        "numbers", calls, Bulkhead(strict=strict), **{"queued_max": 10_000, "call_s_max": 5.0, **options}
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        await settled()
        yield batcher, calls, nursery
        nursery.cancel_scope.cancel()


class Log(list[str]):
    """Outcomes of requests, in the order in which they were settled."""

    def __call__(self, ticket: Ticket[int, str]) -> None:
        assert not ticket.open
        outcome = ticket.outcome()
        self.append(outcome if isinstance(outcome, str) else f"{ticket.item}: {outcome.code}")


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


@asynccontextmanager
async def answered_two_while_one_waits(took_s: float, **options: Any) -> AsyncIterator[tuple[Numbers, Calls, Log]]:
    """Run a batcher whose call took so long and has just answered 1 and 2, while 3 is queued."""
    async with running(wait_for_joiners=True, **options) as (batcher, calls, _):
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


async def test_callers_just_answered_may_join_the_next_batch(autojump_clock: trio.testing.MockClock) -> None:
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
    [(0.01, 0.01 * JOIN_FRACTION), (1.0, JOIN_S_MAX), (JOIN_S_MIN, 0), (JOIN_S_MIN / JOIN_FRACTION, JOIN_S_MIN)],
)
async def test_callers_that_do_not_submit_again_are_not_waited_for_long(
    autojump_clock: trio.testing.MockClock, took_s: float, waits_s: float
) -> None:
    async with answered_two_while_one_waits(took_s) as (batcher, calls, log):
        batcher.submit(4, log)
        begun = trio.current_time()
        while len(calls.groups) == 2:
            await trio.sleep(JOIN_S_MIN / 10)
        assert calls.groups[2:] == [[3, 4] if waits_s else [3]]
        assert trio.current_time() - begun == pytest.approx(waits_s, abs=JOIN_S_MIN / 5)


async def test_waits_that_few_join_become_exponentially_rarer(autojump_clock: trio.testing.MockClock) -> None:
    """Once a caller has joined, the next call is waited for again."""
    took_s = 2 * JOIN_S_MIN / JOIN_FRACTION

    async with running(wait_for_joiners=True) as (batcher, calls, _):
        log = Log()
        batcher.submit(0, log)

        async def waited(back: int = 0) -> bool:
            """End a call that answers one request while another is queued; tell whether the batcher then waited."""
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

        for calls_without in (2, 4, 8, 16, 32, SKIP_CALLS_MAX, SKIP_CALLS_MAX):
            assert await waited()
            for _ in range(calls_without):
                assert not await waited()
        assert await waited(back=1)
        assert await waited()


async def test_joiners_are_not_waited_for_when_nothing_is_queued(autojump_clock: trio.testing.MockClock) -> None:
    async with running(wait_for_joiners=True) as (batcher, calls, _):
        log = Log()
        for item in (1, 2):
            batcher.submit(item, log)
            await settled()
            assert calls.groups[-1] == [item]
            await trio.sleep(0.01)
            calls.end()
            await settled()
        assert log == ["1", "2"]


async def test_a_full_batch_waits_for_no_joiners(autojump_clock: trio.testing.MockClock) -> None:
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


# Bugs ----------------------------------------------------------------------------------------------------------------


async def ask_all(batcher: Numbers, items: Sequence[int]) -> dict[int, str]:
    """Submit all at once; return the outcomes."""
    outcomes: dict[int, str] = {}

    def note(ticket: Ticket[int, str]) -> None:
        outcome = ticket.outcome()
        outcomes[ticket.item] = outcome if isinstance(outcome, str) else f"{type(outcome).__name__}"

    for item in items:
        batcher.submit(item, note)
    await settled()
    return outcomes


def failing_for(*bad: int) -> tuple[list[list[int]], Callable[[Sequence[int]], Any]]:
    """Return a call that meets a bug if any of the bad items is in its group, and the list of its groups."""
    groups: list[list[int]] = []

    async def call(group: Sequence[int]) -> Answers:
        groups.append(list(group))
        await trio.lowlevel.checkpoint()
        if set(bad) & set(group):
            raise ZeroDivisionError
        return [str(item) for item in group]

    return groups, call


@asynccontextmanager
async def failing(*bad: int, **options: Any) -> AsyncIterator[tuple[Numbers, list[list[int]], Bulkhead]]:
    groups, call = failing_for(*bad)
    bulkhead = Bulkhead(strict=False)
    batcher: Numbers = Batcher("numbers", call, bulkhead, queued_max=10_000, call_s_max=5.0, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        await settled()
        yield batcher, groups, bulkhead
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("bad", [[3], [0], [511], [3, 4], [0, 255, 256, 511]])
async def test_only_the_requests_that_meet_a_bug_get_it_and_it_counts_once(bad: list[int]) -> None:
    async with failing(*bad) as (batcher, groups, bulkhead):
        outcomes = await ask_all(batcher, range(BATCH_MAX))
        assert outcomes == {item: "Failed" if item in bad else str(item) for item in range(BATCH_MAX)}
        assert bulkhead.bugs == 1
        assert len(groups) <= 1 + 2 * len(bad) * 9
        assert await batcher.ask(7) == "7"


async def test_a_store_that_meets_a_bug_at_every_call_is_not_called_for_each_request() -> None:
    async with failing(*range(BATCH_MAX)) as (batcher, groups, _):
        assert set((await ask_all(batcher, range(BATCH_MAX))).values()) == {"Failed"}
        assert len(groups) <= 2 * FAILED_CALLS_MAX


async def test_after_a_bug_that_may_have_had_an_effect_requests_are_served_alone() -> None:
    async with failing(2, repeatable=False) as (batcher, groups, bulkhead):
        assert set((await ask_all(batcher, range(4))).values()) == {"Failed"}
        assert groups == [[0, 1, 2, 3]]
        first = await ask_all(batcher, [0, 1])
        again = await ask_all(batcher, [2])
        last = await ask_all(batcher, [3, 4])
        assert (first, again, last) == ({0: "0", 1: "1"}, {2: "Failed"}, {3: "3", 4: "4"})
        assert groups[1:] == [[0], [1], [2], [3], [4]]
        assert bulkhead.bugs == 2


async def test_a_bug_in_what_a_request_calls_back_leaves_its_group_alone() -> None:
    async with failing() as (batcher, _, bulkhead):
        log, broken = Log(), []

        def bug(_ticket: Ticket[int, str]) -> None:
            raise ZeroDivisionError

        batcher.submit(1, log)
        batcher.submit(2, bug, lambda: broken.append(2))
        batcher.submit(3, log)
        await settled()
        assert (log, broken, bulkhead.bugs) == (["1", "3"], [2], 1)
        assert await batcher.ask(4) == "4"


async def test_a_wrong_number_of_answers_is_a_bug_and_leaves_no_request_without_one() -> None:
    async with running(strict=False, repeatable=False) as (batcher, calls, _):
        log = Log()
        batcher.submit(1, log)
        batcher.submit(2, log)
        calls.end_with(["1"])
        await settled()
        assert log == ["1: unavailable", "2: unavailable"]


async def test_a_bug_of_the_batcher_itself_fails_what_is_under_way_and_it_goes_on(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(strict=False) as (batcher, calls, _):
        with monkeypatch.context() as patch:
            patch.setattr(batcher, "_serve", None)
            with pytest.raises(Unavailable) as caught:
                await batcher.ask(1)
        assert caught.value.http_status == 500
        calls.end()
        assert await batcher.ask(2) == "2"
        await trio.sleep(RETRY_S)
