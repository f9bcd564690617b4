"""All is learnt from the store before the hub leaves changes out."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.errors import StoreFault, StoreRefused, StoreReplaced, StoreRewound, Unavailable
from softstate.store.base import Write
from tests.kit.follower_rig import Rig, following, settled


class Learner:
    """Logs each call, and raises what a test puts on its list first."""

    def __init__(self, rig: Rig, *faults: Exception) -> None:
        self.rig = rig
        self.faults = list(faults)

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.faults:
            raise self.faults.pop(0)
        self.rig.log.append(f"learnt at {self.rig.hub.position.revision}")


async def test_all_is_learnt_before_changes_are_left_out() -> None:
    async with following() as rig:
        rig.follower.learn = Learner(rig, Unavailable("down"), StoreReplaced("swapped"))
        rig.store.asleep = True
        await rig.publish("a")
        before = rig.hub.position.revision
        rig.log.clear()
        await rig.other.publish([Write("b", b"\x01"), Write("b", None), Write("c", b"\x01")])
        await rig.other.compact(tombstones=100, keys=0)
        rig.follower.check_now(StoreFault("wake up"))
        with trio.fail_after(5):
            while not rig.current:
                await trio.lowlevel.checkpoint()
        assert rig.log == [f"learnt at {before}", "skipped"]


async def test_all_is_learnt_before_a_new_history_begins() -> None:
    async with following() as rig:
        backup = rig.disk.snapshot()
        await rig.publish("a", "b")
        before = rig.hub.position.revision
        rig.follower.learn = Learner(rig, Unavailable("down"), StoreReplaced("swapped"))
        rig.log.clear()
        rig.disk.restore(backup)
        rig.follower.check_now(StoreRewound("met by a read"))
        with trio.fail_after(5):
            while not rig.current:
                await trio.lowlevel.checkpoint()
        assert rig.log[0] == f"learnt at {before}"
        assert [line.partition(" ")[0] for line in rig.log] == ["learnt", "rewound"]


async def test_a_store_that_is_opened_again_with_the_same_history_has_nothing_new_to_learn() -> None:
    async with following() as rig:
        rig.follower.learn = Learner(rig)
        rig.log.clear()
        rig.store.faults["feed"] = [StoreReplaced("swapped")]
        rig.follower.check_now(StoreFault("look"))
        await settled()
        assert rig.follower.reopened == 1
        assert not any(line.startswith("learnt") for line in rig.log)


async def test_a_node_that_starts_learns_first_whatever_its_store_does(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig()
    rig.follower.learn = Learner(rig, Unavailable("down"), StoreReplaced("swapped"), StoreReplaced("swapped again"))
    rig.store.faults["reopen"] = [Unavailable("still down")]
    await rig.follower.learn_first()
    assert rig.store.calls == ["reopen"] * 3
    assert rig.log == [f"learnt at {rig.hub.position.revision}"]
    assert autojump_clock.rate == 0


async def test_a_node_does_not_start_on_a_store_that_is_not_its_own() -> None:
    rig = Rig()
    rig.follower.learn = Learner(rig, StoreRefused("somebody else's"))
    with pytest.raises(StoreRefused):
        await rig.follower.learn_first()
