"""The store in etcd, against a real one: the contract, and what etcd is told and refuses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from softstate.errors import Unavailable
from softstate.store.base import Applied, Committed, Write
from softstate.testing import STORE_CHECKS, StoreCheck, run_check
from softstate.testing.conformance.stage import put, state
from tests.store.engines.etcd_rig import EtcdBackend


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: StoreCheck, backend: EtcdBackend) -> None:
    await run_check(check, backend)


VALUE = bytes([0x59, 0xFF, 0xF0]) + bytes(0xFFF0)
"""As large as a value may be."""


async def test_group_above_the_size_of_a_request(backend: EtcdBackend) -> None:
    """It takes several transactions, and looks like one when no other commits come between them."""
    store = await backend.open()
    before = await store.head()
    committed = await store.publish([Write(f"t/{number}", VALUE, expect=0, key="k") for number in range(50)])
    versions = [before.revision + 1 + number for number in range(50)]
    assert committed.verdicts == [Applied(version) for version in versions]
    assert [record.version for record in committed.records] == versions
    assert (committed.before, committed.position) == (before.revision, before.at(versions[-1]))
    assert len(await state(store)) == 50
    await store.aclose()


@pytest.mark.parametrize("other", ["publishes", "opens"])
async def test_group_above_the_size_of_a_request_that_others_commit_into(
    backend: EtcdBackend, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The last contiguous run is reported; with another lineage in between nothing can be."""
    store, rival = await backend.open(), await backend.open()
    start = await store.head()
    commit = store._publish

    async def interrupted(chunk: Sequence[Write]) -> Committed:
        committed = await commit(chunk)
        if chunk[0].topic == "t/0":
            await (put(rival, "rival") if other == "publishes" else rival.reopen())
        return committed

    monkeypatch.setattr(store, "_publish", interrupted)
    group = [Write(f"t/{number}", VALUE) for number in range(30)]
    if other == "opens":
        with pytest.raises(Unavailable, match="lineage"):
            await store.publish(group)
    else:
        committed = await store.publish(group)
        last = [verdict.version for verdict in committed.verdicts if isinstance(verdict, Applied)]
        assert committed.position.revision == last[-1]
        assert [record.version for record in committed.records] == list(range(committed.before + 1, last[-1] + 1))
        assert committed.records[-1].topic == "t/29"
        assert len(last) == 30 > len(committed.records)
    feed = await rival.feed(start)
    assert {record.topic for record in feed.records} >= {"t/0"}
    await store.aclose()
    await rival.aclose()


async def test_a_notification_of_a_lost_history_ends_one_wait_only(backend: EtcdBackend) -> None:
    """A store was notified of commits, but has not read them, when keys are put back under it."""
    store, other = await backend.open(), await backend.open()
    head = await other.head()
    assert await store.head() == head
    backup = await backend.snapshot()
    await put(other, "lost")
    store._notified = head.revision + 1
    store._waiter.notify(store._notified)
    await backend.restore(backup)
    await store.wait(head.revision)
    assert await store.head() == head
    assert store._notified == 0
    with trio.move_on_after(0.3) as scope:
        await store.wait(head.revision)
    assert scope.cancelled_caught
    await store.aclose()
    await other.aclose()
