"""Backups put in place of a real etcd's data, as an operator does it, and what is noticed of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from softstate.errors import Rewound, StoreRewound, Unavailable
from softstate.model import Query
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import KEYS_MAX, Store, Write
from softstate.testing import REWIND_CHECKS, StoreCheck, run_check
from softstate.testing.conformance.stage import put, state
from tests.store.engines.etcd_rig import EtcdRig
from tests.store.engines.rig import WAIT_S


class SnapshotBackend:
    """Backups by `etcdctl snapshot`: the copy has the same cluster id, member id and term as the original."""

    def __init__(self, rig: EtcdRig) -> None:
        self.rig = rig

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        return await self.rig.open(keys_max=keys_max)

    async def snapshot(self) -> Any:
        return await self.rig.backup()

    async def restore(self, snapshot: Any) -> None:
        await self.rig.restore(snapshot)


class FilesBackend(SnapshotBackend):
    """Backups by copying the files."""

    async def snapshot(self) -> Any:
        return await self.rig.copy_files()

    async def restore(self, snapshot: Any) -> None:
        await self.rig.put_files_back(snapshot)


@pytest.mark.parametrize("backend", [SnapshotBackend, FilesBackend])
@pytest.mark.parametrize("check", REWIND_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: StoreCheck, backend: type[SnapshotBackend], rig: EtcdRig) -> None:
    await run_check(check, backend(rig))


async def until_above(store: Store, after: int) -> None:
    """Follow `wait` until the head is above `after`, as a node's follower does."""
    with trio.fail_after(WAIT_S):
        while (await store.head()).revision <= after:
            await store.wait(after)


async def rewound(store: Store, witness: Position) -> bool:
    """Tell whether a client that has seen `witness` is told that it is not on the history."""
    (answer,) = await store.read([Query(witness=witness)])
    return isinstance(answer, Rewound)


async def test_restored_copy_that_a_direct_publish_advances(rig: EtcdRig) -> None:
    """A node that has seen less than the backup holds moves on: its lineage must not go on with it."""
    behind, ahead = await rig.open(), await rig.open()
    await put(ahead, "a")
    kept = await behind.head()
    backup = await rig.backup()
    lost = [(await ahead.publish([Write("a", bytes([number]))])).position for number in range(3)]
    await ahead.aclose()
    await rig.restore(backup)
    for number in range(8):
        await rig.publish_directly(f"direct/{number}", str(number))
        await until_above(behind, (await behind.head()).revision)
    head = await behind.head()
    assert head.revision > lost[-1].revision
    for witness in lost:
        assert await rewound(behind, witness), f"{witness} is no part of {head}"
    assert not await rewound(behind, kept)
    await behind.aclose()


@pytest.mark.parametrize("kind", [SnapshotBackend, FilesBackend])
async def test_restored_copy_that_a_node_which_was_behind_advances(kind: type[SnapshotBackend], rig: EtcdRig) -> None:
    """Like the above, but the node publishes, in the belief that nothing happened: what it has seen is all there."""
    backend = kind(rig)
    behind, ahead = await rig.open(), await rig.open()
    await put(behind, "b")
    kept = await behind.head()
    backup = await backend.snapshot()
    assert await ahead.head() == kept
    lost = [(await ahead.publish([Write("a", bytes([number]))])).position for number in range(3)]
    await backend.restore(backup)
    while (await behind.head()).revision <= lost[-1].revision:
        await put(behind, "b")
    for witness in lost:
        assert await rewound(behind, witness)
    assert not await rewound(behind, kept)
    with pytest.raises(StoreRewound):
        await ahead.publish([Write("a", b"\x09")])
    await behind.aclose()
    await ahead.aclose()


async def test_restart_is_no_rewind(rig: EtcdRig) -> None:
    store = await rig.open()
    version = await put(store, "a")
    before = await store.head()
    await rig.kill()
    with pytest.raises(Unavailable):
        await store.publish([Write("a", b"\x02")])
    await rig.start()
    assert await store.head() == before
    committed = await store.publish([Write("a", b"\x03", expect=version)])
    assert (committed.before, committed.position.revision) == (before.revision + 1, before.revision + 2)
    assert committed.position.lineage != before.lineage, "a new connection begins a lineage before its first change"
    feed = await store.feed(before)
    assert [row.revision for row in feed.lineages] == [before.revision + 1]
    assert not await rewound(store, before)
    again = await store.publish([Write("a", b"\x04")])
    assert again.position.lineage == committed.position.lineage, "and no other after that"
    await store.aclose()


async def test_wiped_server(rig: EtcdRig) -> None:
    store = await rig.open()
    await put(store, "a")
    before = await store.head()
    await rig.wipe()
    for call in (store.head, lambda: store.publish([Write("b", b"\x01")])):
        with pytest.raises(StoreRewound, match="wiped"):
            await call()
    await store.wait(before.revision)
    position = await store.reopen()
    assert (position.epoch != before.epoch, position.revision) == (True, 1)
    assert await state(store) == {}
    await store.aclose()


async def test_namespace_deleted_by_hand(rig: EtcdRig) -> None:
    store = await rig.open()
    head = await store.head()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.wait, head.revision)
        with trio.fail_after(WAIT_S):
            await trio.to_thread.run_sync(rig.ctl, "del", "--prefix", "softstate/")
    with pytest.raises(StoreRewound):
        await store.read([Query(prefixes={ALL: 0})])
    await store.aclose()
