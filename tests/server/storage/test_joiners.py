"""Callers that were just answered are waited for, a little, so that they join the next batch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from softstate.server.storage.batcher import JOIN_FRACTION, JOIN_S_MAX, JOIN_S_MIN, SKIP_CALLS_MAX
from tests.kit.batcher_rig import Calls, Log, Numbers, running, settled


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
