"""The inbox of a handle, told by hand: what takes the place of what, and what an application is given of it."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from softstate.client.api.inbox import Inbox, Inboxes
from softstate.client.api.updates import BUSY_S_MAX, TAKEN_MAX, Updates
from softstate.client.machine.events import ModeChanged, Reset
from softstate.client.shell.bell import Bell
from softstate.errors import ClientClosed, Denied, Unauthenticated
from softstate.model import Change
from softstate.position import Position
from tests.kit.push_node import drain
from tests.kit.scripted_node import HERE


def handle(*names: str, age_s: float = 0.0) -> tuple[Inbox, Updates]:
    bell = Bell()
    inbox = Inbox(names, bell.ring)
    return inbox, Updates(inbox, bell, bell, lambda _: age_s)


def silent() -> None:
    """Wake nobody."""


async def test_a_newer_change_takes_the_place_of_the_older(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/")
    for version, topic in enumerate("abca", start=1):
        inbox.push(Change(topic, version))
    assert [change.version for change in await drain(updates) if isinstance(change, Change)] == [4, 2, 3]


async def test_nothing_jumps_over_a_reset(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/")
    reset = Reset(HERE)
    gone = Change("b", 8, deleted=True)
    inbox.push(Change("a", 7, "old"))
    inbox.push(gone)
    inbox.reset(reset)
    new = Change("a", 2, "new")
    inbox.push(new)
    assert await drain(updates) == [gone, reset, new]
    assert updates.reset_count == 1


async def test_a_change_that_overtakes_a_deletion_comes_after_the_reset(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/")
    reset = Reset(HERE)
    inbox.push(Change("b", 8, deleted=True))
    inbox.reset(reset)
    new = Change("b", 3, "new")
    inbox.push(Change("b", 2, "newish"))
    inbox.push(new)
    assert await drain(updates) == [reset, new]
    inbox.push(Change("c", 4))
    inbox.push(Change("d", 5))
    inbox.push(Change("c", 6))
    assert [change.version for change in await drain(updates) if isinstance(change, Change)] == [6, 5]


async def test_resets_become_one_only_if_nothing_is_between(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/")
    first, second, third = (Reset(Position("e", lineage, 1)) for lineage in "xyz")
    gone = Change("a", 2, deleted=True)
    inbox.reset(first)
    inbox.push(gone)
    inbox.reset(second)
    inbox.push(Change("b", 3))
    inbox.reset(third)
    assert await drain(updates) == [first, gone, third]
    assert updates.reset_count == 3


async def test_pending_memory_is_bounded_by_topics(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/")
    for round_ in range(1000):
        inbox.push(Change("a", round_ + 1))
        inbox.push(Change("b", round_ + 1, deleted=True))
        inbox.reset(Reset(HERE))
        inbox.mode_changed(ModeChanged("live"))
    assert len(await drain(updates)) <= 2 + 3


async def test_only_the_newest_mode_is_kept_behind_all_else(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/")
    inbox.mode_changed(ModeChanged("polling"))
    inbox.push(Change("a", 1))
    inbox.mode_changed(ModeChanged("live"))
    assert await drain(updates) == [Change("a", 1), ModeChanged("live")]
    inbox.mode_changed(ModeChanged("live"))
    inbox.push(Change("a", 2))
    assert (await anext(updates)).version == 2


async def test_an_end_is_raised_after_what_is_pending() -> None:
    inbox, updates = handle("/")
    inbox.push(Change("a", 1))
    inbox.end(Unauthenticated("expired"))
    inbox.end(ClientClosed("closed"))
    assert (await anext(updates)).version == 1
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await anext(updates)


async def test_synced_raises_when_it_can_no_longer_be(autojump_clock: MockClock) -> None:
    inbox, updates = handle("/", age_s=math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closing, inbox)
        with pytest.raises(ClientClosed):
            await updates.synced()
    inbox, updates = handle("/", age_s=math.inf)
    inbox.end(Unauthenticated("expired"))
    with pytest.raises(Unauthenticated):
        await updates.synced()


async def closing(inbox: Inbox) -> None:
    await trio.sleep(1)
    inbox.close()


def test_each_inbox_gets_a_change_once() -> None:
    inboxes = Inboxes()
    inbox, other = (Inbox(names, silent) for names in (("/", "a/", "a/b"), ("a/", "c")))
    assert inboxes.add(inbox) == ["/", "a/", "a/b"]
    assert inboxes.add(other) == ["c"]
    inboxes.deliver([Change("a/b", 1)])
    inboxes.deny(["a/", "unheard/of"])
    assert tuple(inbox.names) == ("/", "a/b")
    assert inboxes.remove(inbox) == ["/", "a/b"]
    inboxes.deliver([Change("z", 1)])


def test_a_denied_prefix_says_what_may_be_read_below_it() -> None:
    inboxes = Inboxes()
    inbox = Inbox(("a/", "b"), silent)
    inboxes.add(inbox)
    inboxes.deny(["a/", "b"], {"a/": ["a/x/", "a/y"]})
    with pytest.raises(Denied, match=r"limits: 'a/', 'b'; you may read 'a/x/', 'a/y': subscribe to that"):
        inbox.take()


def test_an_inbox_that_narrows_is_on_what_may_be_read_below_a_denied_prefix() -> None:
    inboxes = Inboxes()
    inbox, other = Inbox(("a/", "b/"), silent, narrow=True), Inbox(("a/", "a/y"), silent)
    inboxes.add(inbox)
    inboxes.add(other)
    assert inboxes.narrowing() == {"a/", "b/"}
    inboxes.deliver([Change("a/x/1", 1), Change("a/z", 2)])
    inboxes.deny(["a/"], {"a/": ["a/x/", "a/y"]})
    assert (tuple(inbox.names), inbox.denied) == (("b/", "a/x/", "a/y"), ["a/"])
    assert inboxes.narrowing() == {"a/x/", "b/"}
    inboxes.deliver([Change("a/x/2", 3), Change("a/y", 4), Change("a/z", 5)])
    assert [inbox.take().topic for _ in range(3)] == ["a/x/1", "a/x/2", "a/y"]  # type: ignore[union-attr]
    with pytest.raises(Denied, match="'a/'"):
        other.take()
    # A prefix below which there is nothing to read is denied as ever.
    inboxes.deny(["b/", "a/x/"], {"a/x/": ["a/x/2"]})
    with pytest.raises(Denied, match=r"limits: 'a/', 'b/', 'a/x/'; you may read 'a/x/2'"):
        inbox.take()
    assert inboxes.remove(other) == []
    assert inboxes.remove(inbox) == ["a/y", "a/x/2"]


async def test_pending_changes_are_taken_in_linear_time() -> None:
    # With a look at all that is taken already for each, this would take minutes, and end in pytest's timeout.
    inbox, updates = handle("/")
    for version in range(1, 400_001):
        inbox.push(Change(str(version), version))
    seen = 0
    async for change in updates:
        seen += 1
        assert change.version == seen
        if seen == 400_000:
            break


async def test_other_tasks_run_and_a_cancellation_is_noticed_while_changes_are_pending(
    autojump_clock: MockClock,
) -> None:
    inbox, updates = handle("/")
    for version in range(1, 10_001):
        inbox.push(Change(str(version), version))
    turns, seen = 0, 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async for _ in updates:
            seen += 1
            if seen == 5_000:
                break
        assert 5_000 / TAKEN_MAX - 1 <= turns <= 5_000 / 10
        with trio.CancelScope() as scope:
            async for _ in updates:
                seen += 1
                scope.cancel()
        assert 5_000 < seen <= 5_000 + TAKEN_MAX
        nursery.cancel_scope.cancel()
    rest = await drain(updates)
    assert len(rest) == 10_000 - seen, "nothing is lost by the cancellation"


async def test_slow_work_on_each_change_lets_other_tasks_run_after_each() -> None:
    inbox, updates = handle("/")
    for version in range(1, 11):
        inbox.push(Change(str(version), version))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10):
            updates._rested_s -= BUSY_S_MAX  # as if that had passed since other tasks ran
            await anext(updates)
        assert turns >= 9
        nursery.cancel_scope.cancel()


def test_what_is_pending_of_a_denied_name_alone_is_dropped() -> None:
    """Nothing would tell of a later change: found by a random world with permissions, seed 1107."""
    inboxes, inbox = Inboxes(), Inbox(("/", "a"), silent)
    inboxes.add(inbox)
    inboxes.deliver([Change("a", 1), Change("b", 2)])
    inboxes.deny(["/"])
    with pytest.raises(Denied):
        inbox.take()
    assert inbox.take() == Change("a", 1)
    assert not inbox.pending
