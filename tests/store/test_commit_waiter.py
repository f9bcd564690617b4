"""A wait ends by a commit of this process, by a notification, or by a check that finds trouble or a commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from softstate.store.commit_waiter import CommitWaiter
from softstate.store.limits import CHECK_EVERY_S


class FakeStore:
    """A store whose check finds `head`, or trouble."""

    def __init__(self, listen: Callable[[], Awaitable[None]] = trio.sleep_forever) -> None:
        self.seen = self.head = 5
        self.trouble = False
        self.checks: list[float] = []
        self.waiter = CommitWaiter(lambda: self.seen, self.check, listen=listen)

    async def check(self) -> bool:
        self.checks.append(trio.current_time())
        self.seen = self.head
        return self.trouble


async def waited(store: FakeStore, meanwhile: Callable[[], None], after: int = 5) -> float:
    """Do something while a task waits; return how long it has waited for."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.waiter.wait, after)
        await trio.sleep(CHECK_EVERY_S / 4)
        meanwhile()
    return trio.current_time() - began


def commit(store: FakeStore, revision: int) -> None:
    store.seen = store.head = revision
    store.waiter.wake(revision)


async def test_a_commit_seen_already_ends_a_wait_at_once(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    began = trio.current_time()
    await store.waiter.wait(4)
    assert (trio.current_time(), store.checks) == (began, [])


async def test_a_commit_of_this_process_ends_it_without_a_check(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    assert await waited(store, lambda: commit(store, 6)) == pytest.approx(CHECK_EVERY_S / 4)
    assert store.checks == []


async def test_a_commit_that_is_not_waited_for_wakes_no_task(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    store.head = 9
    assert await waited(store, lambda: store.waiter.wake(7), after=7) == pytest.approx(CHECK_EVERY_S)


async def test_a_check_finds_a_commit_without_notification(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    began = trio.current_time()

    def committed_elsewhere() -> None:
        store.head = 6

    assert await waited(store, committed_elsewhere) == pytest.approx(CHECK_EVERY_S)
    assert store.checks == [pytest.approx(began + CHECK_EVERY_S)]


async def test_trouble_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    store.trouble = True
    assert await waited(store, store.waiter.wake) == pytest.approx(CHECK_EVERY_S / 4), "woken to check the store"


async def test_a_notification_ends_one_wait_only(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    assert await waited(store, lambda: store.waiter.notify(6)) == pytest.approx(CHECK_EVERY_S / 4)
    assert store.checks == []
    with trio.move_on_after(3 * CHECK_EVERY_S) as scope:
        await store.waiter.wait(5)
    assert scope.cancelled_caught, "it was not there, or was lost since"


async def test_a_notification_from_before_is_forgotten_with_the_history(autojump_clock: trio.testing.MockClock) -> None:
    store = FakeStore()
    store.waiter.notify(6)
    store.waiter.forget()
    with trio.move_on_after(CHECK_EVERY_S / 2) as scope:
        await store.waiter.wait(5)
    assert scope.cancelled_caught


async def test_the_end_of_listening_is_a_reason_to_check(autojump_clock: trio.testing.MockClock) -> None:
    async def listen() -> None:
        await trio.sleep(CHECK_EVERY_S / 2)
        store.head = 6

    store = FakeStore(listen)
    assert await waited(store, lambda: None) == pytest.approx(CHECK_EVERY_S / 2)
    assert len(store.checks) == 1
