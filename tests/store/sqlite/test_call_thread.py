"""Calls in a thread: one at a time, in order, and each is either not begun or finished."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from softstate.store.sqlite.call_thread import CallThread


class Gate:
    """A call that ends when the test says so."""

    def __init__(self, log: list[str], name: str) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self._log, self._name = log, name

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(10)
        self._log.append(self._name)
        return self._name


async def begun(gate: Gate) -> None:
    assert await trio.to_thread.run_sync(gate.began.wait, 10)


async def test_what_the_call_returns_or_raises_is_its_answer() -> None:
    thread = CallThread()
    assert await thread.call(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 // 0)
    assert not thread.busy
    assert await thread.call(lambda: 1) == 1


async def test_calls_are_made_one_at_a_time_and_in_order() -> None:
    thread, log = CallThread(), list[str]()
    gates = [Gate(log, str(number)) for number in range(4)]
    async with trio.open_nursery() as nursery:
        for gate in gates:
            nursery.start_soon(thread.call, gate)
            await wait_all_tasks_blocked()
        for number, gate in enumerate(gates):
            await begun(gate)
            assert thread.busy
            assert not any(later.began.is_set() for later in gates[number + 1 :])
            gate.may_end.set()
    assert log == ["0", "1", "2", "3"]
    assert not thread.busy


async def test_one_that_is_cancelled_before_its_turn_is_not_called() -> None:
    thread, log = CallThread(), list[str]()
    first, second, third = (Gate(log, name) for name in ("first", "second", "third"))
    for gate in (second, third):
        gate.may_end.set()
    scope = trio.CancelScope()

    async def call_second() -> None:
        with scope:
            await thread.call(second)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.call, first)
        await begun(first)
        nursery.start_soon(call_second)
        await wait_all_tasks_blocked()
        nursery.start_soon(thread.call, third)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught
        first.may_end.set()
    assert log == ["first", "third"]


async def test_one_that_has_begun_is_finished_first() -> None:
    thread, log = CallThread(), list[str]()
    gate = Gate(log, "done")

    async def call(scope: trio.CancelScope) -> None:
        with scope:
            assert await thread.call(gate) == "done"
            log.append("answered")

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, scope)
        await begun(gate)
        scope.cancel()
        await wait_all_tasks_blocked()
        assert thread.busy
        gate.may_end.set()
    assert (log, thread.busy) == (["done", "answered"], False)


async def test_the_turn_can_be_taken_without_a_call() -> None:
    thread = CallThread()
    async with thread:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.call, lambda: None)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert thread.busy
    assert not thread.busy
