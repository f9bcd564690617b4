"""Bugs that a batch meets: only the requests that meet one get it, and the batcher goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import RequestError, Unavailable
from softstate.model import READ_COST_MAX, Page, Query
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.storage.asker import PATIENT
from softstate.server.storage.batcher import BATCH_MAX, FAILED_CALLS_MAX, Batcher, Ticket
from softstate.server.storage.read_queue import ReadQueue, ReadRequest
from tests.kit.batcher_rig import Answers, Log, Numbers, running, settled


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


async def test_a_bug_in_what_a_refused_request_calls_back_leaves_those_of_the_next_call_alone() -> None:
    async def call(group: Sequence[ReadRequest]) -> Sequence[Page | RequestError]:
        return [Unavailable(f"asked for {list(request.query.topics)}") for request in group]

    def bug(_ticket: Ticket[ReadRequest, Page]) -> None:
        raise ZeroDivisionError

    told: list[str] = []

    def note(ticket: Ticket[ReadRequest, Page]) -> None:
        told.append(str(ticket.error))

    bulkhead, patience_s, now = Bulkhead(strict=False), 1.0, trio.current_time()
    batcher = Batcher("reads", call, bulkhead, queued_max=9, call_s_max=5.0, queue=ReadQueue(READ_COST_MAX, patience_s))
    batcher.submit(ReadRequest(Query({"a": 0}), PATIENT, now), note)
    batcher.submit(ReadRequest(Query({"late": 0}), PATIENT, now - patience_s), bug, lambda: told.append("broken"))
    batcher.submit(ReadRequest(Query({"b": 0}), PATIENT, now), note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batcher.run)
        await settled()
        assert told == ["broken", "asked for ['a']", "asked for ['b']"]
        assert (bulkhead.bugs, len(batcher)) == (1, 0)
        nursery.cancel_scope.cancel()


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
