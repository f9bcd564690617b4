"""Turns: what all connections do in one turn of the loop has a limit, and what costs little overtakes."""

from collections.abc import Callable
from functools import partial

import trio
from trio.testing import wait_all_tasks_blocked

from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.turns import BYTES_PER_NAME, REST_S, Turns
from tests.kit.node_rig import until

BUDGET = 100


class Passes:
    """Counts passes of the loop, and the names that were spent in each."""

    def __init__(self) -> None:
        self.turns = Turns(BUDGET, Bulkhead(strict=True))
        self.number = 0
        self.spent: list[tuple[int, int, str]] = []

    async def count(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.number += 1

    async def work(self, name: str, *portions: int) -> None:
        for names in portions:
            await self.turns.spend(names)
            self.spent.append((self.number, names, name))

    def by_pass(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for number, names, _ in self.spent:
            found[number] = found.get(number, 0) + names
        return found


async def run(passes: Passes, work: Callable[[trio.Nursery], None]) -> None:
    async with trio.open_nursery() as outer:
        outer.start_soon(passes.count)
        async with trio.open_nursery() as inner:
            work(inner)
        outer.cancel_scope.cancel()


async def test_all_tasks_share_the_budget_of_a_turn() -> None:
    passes = Passes()

    def work(nursery: trio.Nursery) -> None:
        for number in range(10):
            nursery.start_soon(passes.work, f"w{number}", 40, 40, 20)

    began = trio.current_time()
    await run(passes, work)
    assert len(passes.spent) == 30
    turns = passes.by_pass()
    assert max(turns.values()) <= BUDGET
    assert sum(turns.values()) == 10 * BUDGET
    assert trio.current_time() - began >= 9 * REST_S, "nine budgets were waited for"


async def test_the_last_name_that_fits_does_not_wait_and_the_next_does() -> None:
    turns = Turns(BUDGET, Bulkhead(strict=True))
    async with trio.open_nursery() as nursery:
        await turns.spend(BUDGET - 1)
        await turns.spend(1)
        waiting = trio.Event()

        async def spend() -> None:
            await turns.spend(1)
            waiting.set()

        nursery.start_soon(spend)
        await trio.lowlevel.checkpoint()
        assert not waiting.is_set()
        await waiting.wait()


async def test_work_larger_than_a_turn_has_one_for_itself() -> None:
    passes = Passes()

    def work(nursery: trio.Nursery) -> None:
        nursery.start_soon(passes.work, "large", 10 * BUDGET)
        nursery.start_soon(passes.work, "small", 1)
        nursery.start_soon(passes.work, "larger", 20 * BUDGET)

    await run(passes, work)
    assert sorted(passes.by_pass().values()) == [1, 10 * BUDGET, 20 * BUDGET]


async def test_tasks_get_budget_in_the_order_in_which_they_asked() -> None:
    turns = Turns(BUDGET, Bulkhead(strict=True))
    order: list[int] = []

    async def ask(number: int, names: int) -> None:
        await turns.spend(names)
        order.append(number)

    await turns.spend(BUDGET)
    async with trio.open_nursery() as nursery:
        for number, names in enumerate([60, 60, 1, BUDGET, 1, 1]):
            nursery.start_soon(ask, number, names)
            await wait_all_tasks_blocked() if number == 0 else await trio.lowlevel.checkpoint()
    assert sorted(order) == list(range(6))
    assert order.index(0) < order.index(1) < order.index(3) < order.index(4)


async def test_a_task_that_is_cancelled_spends_nothing() -> None:
    turns = Turns(BUDGET, Bulkhead(strict=True))
    await turns.spend(BUDGET)
    with trio.CancelScope() as scope:
        scope.cancel()
        await turns.spend(BUDGET)
        raise AssertionError
    assert scope.cancelled_caught
    await turns.spend(BUDGET)
    await wait_all_tasks_blocked()
    assert not turns._waiting


async def test_bytes_count_as_names() -> None:
    passes = Passes()
    await passes.turns.spend_bytes(BUDGET * BYTES_PER_NAME)
    assert passes.turns._left == 0
    await until(lambda: passes.turns._left == BUDGET)


async def test_calls_have_their_turn_as_tasks_do_and_are_not_made_once_abandoned() -> None:
    turns = Turns(BUDGET, Bulkhead(strict=True))
    order: list[int] = []

    def fail() -> None:
        raise AssertionError

    async def ask(number: int, names: int) -> None:
        await turns.spend(names)
        order.append(number)

    assert turns.take(BUDGET)
    assert not turns.take(1)
    turns.wait(60, lambda: order.append(0), fail)
    abandoned = turns.wait(10 * BUDGET, fail, fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1, 30)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()  # by now it waits
        turns.wait(BUDGET, lambda: order.append(2), fail)
        abandoned.abandon()
        assert not turns.take(1), "those that wait come first"
    await until(lambda: len(order) == 3)
    assert order == [0, 1, 2]
    await until(partial(turns.take, BUDGET))


async def test_a_call_that_meets_a_bug_ends_only_what_it_is_of() -> None:
    turns = Turns(BUDGET, Bulkhead(strict=False))
    done: list[str] = []
    assert turns.take(BUDGET)
    turns.wait(1, lambda: 1 / 0, lambda: done.append("failed"))
    turns.wait(1, lambda: done.append("other"), lambda: done.append("wrong"))
    await until(lambda: len(done) == 2)
    assert done == ["failed", "other"]


async def test_abandoned_work_does_not_end_a_turn_for_those_behind_it() -> None:
    turns, left = Turns(BUDGET, Bulkhead(strict=True)), list[int]()

    def fail() -> None:
        raise AssertionError

    assert turns.take(BUDGET)
    turns.wait(60, lambda: left.append(turns._left), fail)
    abandoned = turns.wait(BUDGET, fail, fail)
    turns.wait(30, lambda: left.append(turns._left), fail)
    abandoned.abandon()
    await until(lambda: len(left) == 2)
    assert left == [40, 10], "both are charged to one turn"
