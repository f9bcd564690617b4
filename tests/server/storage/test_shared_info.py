"""Counts of a store: one call for all that ask together, kept for a moment."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.server import Node, ServerConfig
from softstate.server.storage.shared_info import KEPT_S, SharedInfo
from softstate.store.base import StoreInfo
from softstate.store.memory.store import MemoryStore
from softstate.testing.conformance.stage import put

settled = trio.testing.wait_all_tasks_blocked


class CountedStore(MemoryStore):
    """A store whose counts are counted, and wait until they are let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.held = trio.Event()

    async def info(self) -> StoreInfo:
        self.calls += 1
        await self.held.wait()
        return await super().info()


async def test_all_that_ask_together_share_one_count(nursery: trio.Nursery) -> None:
    store = CountedStore()
    await put(store, "a")
    node = Node(ServerConfig(), store, await store.head())
    found: list[int] = []

    async def ask() -> None:
        found.append((await node.status())["topics"])

    for _ in range(60):
        nursery.start_soon(ask)
    await settled()
    assert (store.calls, found) == (1, [])
    store.held.set()
    await settled()
    assert (store.calls, found) == (1, [1] * 60)


async def test_a_count_is_kept_for_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    store = CountedStore()
    store.held.set()
    shared = SharedInfo(store)
    assert (await shared.info()).topics == 0
    await put(store, "a")
    await trio.sleep(KEPT_S * 0.99)
    assert (await shared.info()).topics == 0
    await trio.sleep(KEPT_S * 0.02)
    assert (await shared.info()).topics == 1
    assert store.calls == 2


async def test_a_failure_is_not_kept(nursery: trio.Nursery) -> None:
    """All that waited for it are told: if each tried again, the last would wait for all of them."""
    store = CountedStore()
    shared = SharedInfo(store)
    failed: list[int] = []

    async def ask(number: int) -> None:
        with pytest.raises(Unavailable):
            await shared.info()
        failed.append(number)

    store.outage = True
    for number in range(3):
        nursery.start_soon(ask, number)
    await settled()
    store.held.set()
    await settled()
    assert (sorted(failed), store.calls) == ([0, 1, 2], 1)
    store.outage = False
    assert (await shared.info()).topics == 0
    assert store.calls == 2


async def test_a_client_that_leaves_takes_no_other_with_it(nursery: trio.Nursery) -> None:
    """The task that counts is that of a request, which ends with its connection."""
    store = CountedStore()
    shared = SharedInfo(store)
    found: list[int] = []

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            found.append((await shared.info()).topics)

    scopes = [trio.CancelScope() for _ in range(3)]
    for scope in scopes:
        nursery.start_soon(ask, scope)
        await settled()
    scopes[0].cancel()
    await settled()
    assert store.calls == 2
    store.held.set()
    await settled()
    assert (found, store.calls) == ([0, 0], 2)
