"""Requests that a failed store call knew nothing of: they are told that they were not begun (P-PUB-5)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.server.storage.batcher import Ticket
from tests.kit.batcher_rig import running, settled


async def test_requests_that_the_failed_call_knew_nothing_of_are_told_as_untried() -> None:
    async with running(batch_max=1) as (batcher, calls, _):
        ends: list[Ticket[int, str]] = []
        for number in range(3):
            batcher.submit(number, ends.append)
        await settled()
        calls.end(Unavailable("lost on the way"))
        await settled()
    whys = [ticket.error.why for ticket in ends if ticket.error is not None]
    assert whys == [None, "untried", "untried"]


async def test_a_request_while_a_call_is_stuck_is_untried(autojump_clock: trio.testing.MockClock) -> None:
    async with running(batch_max=1, call_s_max=1.0) as (batcher, _, _):
        ends: list[Ticket[int, str]] = []
        for number in range(2):
            batcher.submit(number, ends.append)
        await trio.sleep(2)
        with pytest.raises(Unavailable) as refused:
            batcher.submit(9, ends.append)
        assert refused.value.why == "untried"
    assert [ticket.error.why for ticket in ends if ticket.error is not None] == [None, "untried"]
