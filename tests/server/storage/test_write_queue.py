"""The queue of publishes: single ones and those of batches take turns, each in the order of arrival."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.errors import Overloaded
from softstate.server.storage.batcher import BATCH_MAX, Ticket
from softstate.server.storage.write_queue import BESIDE_S, BULK_BESIDE, WriteQueue
from tests.server.storage.test_writes import codes, publishing, put


def queue_of(single: int, bulk: int) -> WriteQueue[str, None]:
    queue: WriteQueue[str, None] = WriteQueue(bulk_max=10_000)
    for number in range(bulk):
        queue.append(Ticket(f"bulk {number}", lambda _: None, bulk=True))
    for number in range(single):
        queue.append(Ticket(f"single {number}", lambda _: None))
    return queue


def taken(queue: WriteQueue[str, None], count_max: int, now: float = 0.0) -> list[str]:
    found, refused = queue.take(count_max, now)
    assert refused == ()
    return [ticket.item for ticket in found]


@pytest.mark.parametrize(
    ("single", "bulk", "from_single", "from_bulk"),
    [(0, 0, 0, 0), (3, 0, 3, 0), (0, 20, 0, 10), (20, 20, 5, 5), (2, 20, 2, 5), (20, 2, 8, 2), (4, 4, 4, 4)],
)
def test_batches_get_half_of_a_call_at_most(single: int, bulk: int, from_single: int, from_bulk: int) -> None:
    queue = queue_of(single, bulk)
    expected = [f"single {number}" for number in range(from_single)] + [f"bulk {number}" for number in range(from_bulk)]
    assert taken(queue, 10) == expected
    assert len(queue) == single + bulk - len(expected)


def test_calls_for_one_take_batches_last() -> None:
    queue = queue_of(2, 2)
    assert [taken(queue, 1) for _ in range(4)] == [["single 0"], ["single 1"], ["bulk 0"], ["bulk 1"]]


def test_batches_get_few_places_while_others_come() -> None:
    queue = queue_of(1, 10 * BULK_BESIDE)
    assert len(taken(queue, 5 * BULK_BESIDE)) == 1 + BULK_BESIDE
    assert len(taken(queue, 5 * BULK_BESIDE, BESIDE_S - 0.1)) == BULK_BESIDE, "another may come while this call lasts"
    assert len(taken(queue, 5 * BULK_BESIDE, BESIDE_S)) == 5 * BULK_BESIDE


def test_what_is_put_back_comes_first_and_draining_leaves_nothing() -> None:
    queue = queue_of(3, 3)
    found, _ = queue.take(4, 0.0)
    queue.put_back(found)
    assert taken(queue, 4) == [ticket.item for ticket in found]
    assert [ticket.item for ticket in queue.drain()] == ["single 2", "bulk 2"]
    assert len(queue) == 0


async def test_batches_leave_room_for_others_and_are_not_served_ahead_of_them() -> None:
    async with publishing(publishes_waiting_max=4 * BATCH_MAX) as rig:
        rig.held = trio.Event()
        rig.writes.submit(put("first"), lambda _ticket: None)
        await trio.testing.wait_all_tasks_blocked()
        results: list[list[int | str]] = []

        async def publish_many(name: str) -> None:
            results.append(codes(await rig.writes.publish_all([put(f"{name}/{at}") for at in range(2 * BATCH_MAX)])))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_many, "a")
            nursery.start_soon(publish_many, "b")
            await trio.testing.wait_all_tasks_blocked()
            alone: list[int] = []
            rig.writes.submit(put("alone"), lambda ticket: alone.append(rig.writes.batcher.calls))
            with pytest.raises(Overloaded, match=f"^{3 * BATCH_MAX} publishes wait"):
                rig.writes.batcher.submit(put("more"), lambda _ticket: None, bulk=True)
            rig.held.set()
        assert sorted(codes.count("overloaded") for codes in results) == [0, BATCH_MAX]
        assert alone == [2], "the second commit, of four, has it"
        assert rig.writes.batcher.calls >= 4
