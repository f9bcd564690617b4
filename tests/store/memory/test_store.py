"""The memory store: crash points, outages, backups, and doing the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest
import trio

from softstate.errors import StoreRewound, Unavailable
from softstate.model import Durability, Query
from softstate.names import ALL
from softstate.store.base import Applied, Store, Write
from softstate.store.memory.store import MemoryDisk, MemoryStore

SEED = 7


async def topics(store: Store) -> list[str]:
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    return [record.topic for record in page.records]  # type: ignore[union-attr]


async def test_same_seed_same_history() -> None:
    heads = []
    for seed in (SEED, SEED, SEED + 1):
        store = MemoryStore(MemoryDisk(Random(seed)))
        await store.publish([Write("a", b"\x01")])
        heads.append(await store.reopen())
    assert heads[0] == heads[1] != heads[2]


async def test_claims_the_durability_it_is_given() -> None:
    assert MemoryStore().durability is Durability.NONE
    assert MemoryStore(durability=Durability.WEAK).durability is Durability.WEAK


@pytest.mark.parametrize(("point", "applied"), [("publish.before_commit", False), ("publish.after_commit", True)])
async def test_crash_points(point: str, applied: bool) -> None:
    """A node that dies at a checkpoint has acknowledged nothing; after the commit it is applied all the same."""
    disk = MemoryDisk(Random(SEED))
    acknowledged: list[str] = []

    async with trio.open_nursery() as nursery:

        async def crash(name: str) -> None:
            if name == point:
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()

        async def publish() -> None:
            await MemoryStore(disk, checkpoint=crash).publish([Write("a", b"\x01", key="k")])
            acknowledged.append("a")

        nursery.start_soon(publish)
    assert acknowledged == []
    after = MemoryStore(disk)
    assert await topics(after) == (["a"] if applied else [])
    (verdict,) = (await after.publish([Write("a", b"\x01", key="k")])).verdicts
    assert isinstance(verdict, Applied)
    assert verdict.repeated == applied


async def test_outage_after_the_commit_leaves_the_outcome_unknown() -> None:
    disk = MemoryDisk(Random(SEED))

    async def cut(name: str) -> None:
        disk.outage = name == "publish.after_commit"

    store = MemoryStore(disk, checkpoint=cut)
    with pytest.raises(Unavailable):
        await store.publish([Write("a", b"\x01")])
    disk.outage = False
    assert await topics(store) == ["a"]


async def test_a_restore_before_the_commit_applies_nothing() -> None:
    disk = MemoryDisk(Random(SEED))
    backup = disk.snapshot()

    async def restore(name: str) -> None:
        if name == "publish.before_commit":
            disk.restore(backup)

    store = MemoryStore(disk, checkpoint=restore)
    with pytest.raises(StoreRewound):
        await store.publish([Write("a", b"\x01")])
    await store.reopen()
    assert await topics(store) == []


async def test_outage_of_the_disk_and_of_one_node() -> None:
    disk = MemoryDisk(Random(SEED))
    here, there = MemoryStore(disk), MemoryStore(disk)
    here.outage = True
    assert here.outage
    with pytest.raises(Unavailable):
        await here.head()
    await there.publish([Write("a", b"\x01")])
    here.outage = False
    disk.outage = True
    for store in (here, there):
        with pytest.raises(Unavailable):
            await store.publish([Write("b", b"\x01")])
        with pytest.raises(Unavailable):
            await store.reopen()
    with pytest.raises(Unavailable):
        MemoryStore(disk)
    disk.outage = False
    assert await topics(here) == ["a"]


async def test_wait_ends_with_an_outage_or_a_restore(autojump_clock: trio.testing.MockClock) -> None:
    disk = MemoryDisk(Random(SEED))
    store = MemoryStore(disk)
    head = await store.head()

    async def woken_by(cause: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.wait, head.revision)
            await trio.testing.wait_all_tasks_blocked()
            match cause:
                case "begin":
                    disk.outage = True
                case "end":
                    disk.outage = False
                case "restore":
                    disk.restore(disk.snapshot())

    with trio.fail_after(60):
        for cause in ("begin", "end", "restore"):
            await woken_by(cause)
    with trio.move_on_after(60) as scope:
        await store.wait(head.revision)
    assert scope.cancelled_caught, "nothing happened, so nothing ended the wait"
    assert trio.current_time() >= 60


async def test_wait_returns_at_once_when_rewound() -> None:
    disk = MemoryDisk(Random(SEED))
    store = MemoryStore(disk)
    backup = disk.snapshot()
    await store.publish([Write("a", b"\x01")])
    seen = (await store.head()).revision
    disk.restore(backup)
    await store.wait(seen)


async def test_a_backup_is_not_touched_by_later_changes() -> None:
    disk = MemoryDisk(Random(SEED))
    store = MemoryStore(disk)
    await store.publish([Write("a", b"\x01", key="k")])
    backup = disk.snapshot()
    for _ in range(2):
        await store.publish([Write("a", b"\x02"), Write("b", None)])
        await store.compact(tombstones=99, keys=99)
        disk.restore(backup)
        await store.reopen()
        assert await topics(store) == ["a"]
        info = await store.info()
        assert (info.topics, info.tombstones, info.keys, info.size_bytes) == (1, 0, 1, 0)


async def test_closed() -> None:
    store = MemoryStore()
    await store.aclose()
    await store.aclose()
    for call in (store.head, store.reopen, lambda: store.wait(0)):
        with pytest.raises(trio.ClosedResourceError):
            await call()
