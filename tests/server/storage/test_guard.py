from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.errors import Conflict, StoreFault, StoreRewound, Unavailable
from softstate.server.storage.guard import DOWN_RETRY_MS, StoreGuard

settled = trio.testing.wait_all_tasks_blocked


@pytest.mark.parametrize(
    ("began", "ended", "served"), [(1, 1, True), (1, 2, False), (1, None, False), (None, 1, False), (None, None, False)]
)
async def test_answers_of_another_generation_are_withheld(
    began: int | None, ended: int | None, *, served: bool
) -> None:
    guard, answered, answers = StoreGuard(lambda _fault: None), trio.Event(), list[str]()

    async def read(text: str) -> str:
        await answered.wait()
        return text

    async def ask() -> None:
        try:
            answers.append(await guard.call(read, "answer"))
        except Unavailable as error:
            answers.append(f"{error.code}, retry in {error.retry_ms} ms")

    async with trio.open_nursery() as nursery:
        guard.generation = began
        nursery.start_soon(ask)
        await settled()
        guard.generation = ended
        answered.set()
    assert answers == ["answer" if served else f"unavailable, retry in {DOWN_RETRY_MS} ms"]


@pytest.mark.parametrize("way", ["call", "report"])
async def test_a_fault_of_the_store_is_reported_and_answered_unavailable(way: str) -> None:
    faults: list[StoreFault] = []
    guard, fault = StoreGuard(faults.append), StoreRewound("restored")

    async def read(error: Exception) -> None:
        raise error

    with pytest.raises(Unavailable):
        await getattr(guard, way)(read, fault)
    assert faults == [fault]
    with pytest.raises(Conflict):
        await getattr(guard, way)(read, Conflict("an answer"))
    assert faults == [fault]


async def test_a_caller_may_compare_histories_itself() -> None:
    guard = StoreGuard(lambda _fault: None)
    guard.generation = None

    async def head() -> int:
        return 7

    assert await guard.report(head) == 7
