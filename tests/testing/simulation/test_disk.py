"""The simulated disk, and one node's store on it: as the engines are when another history is put under them."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from softstate.errors import StoreRewound
from softstate.model import Durability
from softstate.store.base import Write
from softstate.testing.simulation.disk import SimDisk, SimStore


def store_on(disk: SimDisk) -> SimStore:
    async def passed(_point: str) -> None:
        return

    return SimStore(disk, Random(1), passed)


async def test_the_first_change_to_a_restored_history_begins_a_lineage() -> None:
    disk = SimDisk(Random(1), lambda _event: None, Durability.DURABLE)
    ahead, behind = store_on(disk), store_on(disk)
    await ahead.head()
    before = await behind.head()
    backup = disk.image.copy()
    lost = (await ahead.publish([Write("a", b"\x01")])).position
    disk.restore(backup)
    committed = await behind.publish([Write("b", b"\x02")])
    assert committed.position.lineage != lost.lineage, "`behind` has not seen what was lost"
    assert committed.position.revision > lost.revision
    assert (committed.before, committed.records[0].version) == (before.revision + 1, before.revision + 2)
    with pytest.raises(StoreRewound):
        await ahead.head()
    again = await behind.publish([Write("b", b"\x03")])
    assert again.position.lineage == committed.position.lineage


async def test_one_that_has_seen_what_was_lost_changes_nothing() -> None:
    disk = SimDisk(Random(1), lambda _event: None, Durability.DURABLE)
    store = store_on(disk)
    backup = disk.image.copy()
    await store.publish([Write("a", b"\x01")])
    disk.restore(backup)
    with pytest.raises(StoreRewound):
        await store.publish([Write("b", b"\x02")])
    assert disk.image.head == backup.head
    await store.reopen()
    rows = len(disk.image.rows)
    await store.publish([Write("b", b"\x02")])
    assert len(disk.image.rows) == rows, "the opening has begun one"


async def test_a_row_without_a_change_wakes_who_waits(nursery: trio.Nursery) -> None:
    """A node that was not woken took its feed for late, and vouched for nothing until the next commit."""
    disk = SimDisk(Random(1), lambda _event: None, Durability.DURABLE)
    store = store_on(disk)
    await store.publish([Write("a", b"\x01")])
    disk.restore(disk.image.copy())
    woken = trio.Event()

    async def wait(after: int) -> None:
        await store.wait(after)
        woken.set()

    head = (await store.head()).revision
    nursery.start_soon(wait, head)
    await wait_all_tasks_blocked()
    refused = await store.publish([Write("a", b"\x02", expect=head + 1)])
    assert (refused.records, refused.position.revision) == ([], head + 1)
    await wait_all_tasks_blocked()
    assert woken.is_set()
