"""The rig of the batcher: one whose store call waits until the test ends it, and a log of what requests are told.

::

    async with running() as (batcher, calls, nursery):            # options are those of `Batcher`
        log = Log()
        batcher.submit(1, log)
        await settled()
        calls.end()                                               # or with an error, which the call raises
        await settled()
        assert (log, calls.groups) == (["1"], [[1]])
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from softstate.errors import RequestError
from softstate.server.bulkhead import Bulkhead
from softstate.server.storage.batcher import Batcher, Ticket

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
