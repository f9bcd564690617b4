from __future__ import annotations

from random import Random

import pytest
import structlog.testing
import trio
import trio.testing

from softstate.errors import StoreFault, StoreRefused, StoreReplaced, StoreRewound, Unavailable
from softstate.model import PAGE_RECORDS_MAX
from softstate.server.storage.follower import OPEN_TRIES, REASONS_MAX, RETRY_S_MAX, RETRY_S_MIN, first_position
from softstate.server.storage.guard import CHECKED
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.follower_rig import FaultyStore, Rig, following, settled
from tests.kit.hub_rig import at_once


async def test_commits_of_other_nodes_reach_the_hub_in_order_page_by_page() -> None:
    async with following() as rig:
        await rig.publish("a", "b", "a")
        await rig.other.reopen()
        await rig.publish("c")
        assert rig.log == ["b@4", "a@5", "row@6", "c@7"]
        await rig.publish(*(f"t{number}" for number in range(2 * PAGE_RECORDS_MAX + 1)))
        assert len(rig.log) == 4 + 2 * PAGE_RECORDS_MAX + 1
        assert rig.current


async def test_it_does_not_wait_for_what_is_beyond_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(_after: int) -> None:
        await trio.sleep_forever()

    rig = Rig()
    monkeypatch.setattr(rig.store, "wait", wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.follower.follow)
        await rig.publish("a")
        assert rig.log == []
        rig.follower.catch_up()
        await settled()
        assert rig.log == ["a@3"]
        nursery.cancel_scope.cancel()


async def test_a_short_cut_taken_while_the_feed_is_read_is_not_brought_again() -> None:
    async with following() as rig:

        def cut_short() -> None:
            rig.store.before_feed = lambda: None
            image = rig.disk.image
            at_once(rig.hub.committed(2, list(image.records.values()), image.position))

        rig.store.before_feed = cut_short
        await rig.publish("a", "b")
        assert rig.log == ["a@3", "b@4"]
        assert rig.current


async def test_an_outage_is_noticed_and_so_is_its_end_without_any_commit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with following() as rig:
        rig.store.outage = True
        await settled()
        assert rig.follower.down
        began, calls = trio.current_time(), len(rig.store.calls)
        await trio.sleep(60)
        assert rig.follower.down
        assert 60 <= len(rig.store.calls) - calls <= 70
        rig.store.outage = False
        await trio.sleep(RETRY_S_MAX)
        assert rig.current
        assert rig.log == []
        waits = rig.store.waits
        await trio.sleep(60)
        assert rig.store.waits == waits
        await rig.publish("a")
        assert rig.log == ["a@3"]
        assert trio.current_time() > began


async def test_every_new_reason_for_a_store_that_is_down_is_logged_once_and_told_to_clients(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A file is gone; an empty one comes into its place, then another program's, then a directory; then it is back."""
    async with following() as rig:
        replaced, told = StoreReplaced("another file"), list[str]()
        reasons = ["an empty file", "an empty file", "no database", "no database", "a directory", "an empty file"]
        rig.store.faults["feed"] = [Unavailable("gone"), Unavailable("gone"), replaced]
        rig.store.faults["reopen"] = [StoreRefused(reason) for reason in reasons]
        rig.store.faults["head"] = [replaced] * 20

        async def ask() -> None:
            with pytest.raises(Unavailable) as caught:
                await rig.follower.guard.call(rig.store.head)
            told.append(caught.value.message)

        with structlog.testing.capture_logs() as logs:
            await rig.publish("a")
            await ask()
            while rig.store.faults["reopen"]:
                before = len(rig.store.faults["reopen"])
                while len(rig.store.faults["reopen"]) == before:
                    await trio.sleep(RETRY_S_MIN / 2)
                await ask()
            await trio.sleep(RETRY_S_MAX)
            assert rig.current
            await ask()
        downs = [(line["event"], line["detail"]) for line in logs if "down" in line["event"]]
        another = "store is still down, for another reason"
        assert downs == [
            ("store is down", "gone"), (another, "an empty file"), (another, "no database"), (another, "a directory"),
        ]  # fmt: skip
        assert told == [CHECKED, *reasons, CHECKED]
        assert len([line for line in logs if line["event"] == "store fault"]) == 2, "those while it was opened are not"


async def test_reasons_that_differ_at_every_attempt_are_a_bounded_number_of_lines(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with following() as rig:
        with structlog.testing.capture_logs() as logs:
            rig.store.faults["feed"] = [Unavailable(f"attempt {number}") for number in range(3 * REASONS_MAX)]
            await rig.publish("a")
            await trio.sleep(3 * REASONS_MAX * RETRY_S_MAX)
        assert rig.current
        assert len([line for line in logs if "down" in line["event"]]) == REASONS_MAX


async def test_retries_start_over_after_every_success(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as rig:
        for _ in range(2):
            rig.store.faults["feed"] = [Unavailable("down")] * 3
            rig.store.calls.clear()
            began = trio.current_time()
            await rig.publish("a")
            await trio.sleep(RETRY_S_MIN * (1 + 2 + 4) - 0.001)
            assert (rig.store.calls, rig.follower.down) == (["feed"] * 3, True)
            await trio.sleep(0.002)
            assert rig.current
            assert trio.current_time() - began < 1


async def test_a_replaced_store_with_the_same_history_goes_on_where_it_was() -> None:
    async with following() as rig:
        rig.store.faults["feed"] = [StoreReplaced("swapped")]
        await rig.publish("a")
        assert rig.log == ["a@3", "row@4"]
        assert (rig.follower.reopened, rig.follower.rewinds, rig.current) == (1, 0, True)


async def test_no_generation_is_current_while_a_store_is_reopened(autojump_clock: trio.testing.MockClock) -> None:
    """Not until it was compared with the hub: answers may be of another history than that of the sessions."""
    async with following() as rig:
        generations = [rig.follower.guard.generation]
        rig.store.faults["feed"] = [StoreReplaced("swapped")]
        rig.store.faults["lineage_at"] = [Unavailable("absent")] * 3
        await rig.publish("a")
        generations.append(rig.follower.guard.generation)
        await trio.sleep(10)
        assert [*generations, rig.follower.guard.generation] == [0, None, 1]
        assert rig.current


@pytest.mark.parametrize("commits", [0, 1, 5])
async def test_a_rewound_store_begins_a_new_history(commits: int) -> None:
    """Also when the other history has grown beyond this node's position meanwhile."""
    async with following() as rig:
        await rig.publish("a")
        backup = rig.disk.snapshot()
        await rig.publish("b", "c")
        rig.log.clear()
        rig.store.asleep = True
        rig.follower.check_now(StoreFault("to bed"))
        await settled()
        rig.disk.restore(backup)
        newer = MemoryStore(rig.disk)
        for _ in range(commits):
            await newer.publish([Write("d", b"\x02")])
        await settled()
        rig.store.asleep = False
        rig.follower.check_now(StoreRewound("met by a read"))
        await settled()
        assert rig.log == [f"rewound to {3 + 1 + commits + 1}"]
        assert (rig.follower.reopened, rig.follower.rewinds, rig.current) == (1, 1, True)
        assert ("lineage_at" in rig.store.calls) == (commits > 0)
        await newer.publish([Write("e", b"\x01")])
        await settled()
        assert rig.log[1:] == [f"e@{3 + 1 + commits + 2}"]


@pytest.mark.parametrize("lost", [True, False])
async def test_a_position_told_ahead_of_the_hub_is_compared_too(*, lost: bool) -> None:
    """A subscribe is answered from the store, which the hub may lag: that may be lost though the hub is not behind."""
    async with following() as rig:
        await rig.publish("a")
        rig.store.asleep = True
        rig.follower.check_now(StoreFault("to bed"))
        await settled()
        backups = [rig.disk.snapshot()]
        await rig.publish("b")
        backups.append(rig.disk.snapshot())
        rig.follower.note_told_position(await rig.store.head())
        rig.follower.note_told_position(rig.hub.position)
        await rig.publish("c")
        await rig.store.head()
        rig.log.clear()
        rig.disk.restore(backups[0 if lost else 1])
        newer = MemoryStore(rig.disk)
        await newer.publish([Write("d", b"\x01"), Write("e", b"\x01")])
        rig.store.asleep = False
        rig.follower.check_now(StoreRewound("met by a read"))
        await settled()
        assert rig.log == (["rewound to 7"] if lost else ["b@4", "row@5", "d@6", "e@7", "row@8"])
        assert (rig.follower.reopened, rig.follower.rewinds, rig.current) == (1, lost, True)
        await newer.publish([Write("f", b"\x01")])
        await settled()
        rig.store.faults["feed"] = [StoreReplaced("by the same")]
        rig.follower.check_now(StoreReplaced("by the same"))
        await settled()
        assert (rig.follower.reopened, rig.follower.rewinds, rig.current) == (2, lost, True), (
            "forgotten with its history"
        )


async def test_a_hub_whose_lineage_was_compacted_away_is_compared_although_more_was_told() -> None:
    """Seed 150161: the position that was told was on the history, so the store was opened again each second."""
    async with following() as rig:
        await rig.publish("a")
        rig.store.asleep = True
        rig.follower.check_now(StoreFault("to bed"))
        await settled()
        await rig.other.reopen()
        await rig.other.publish([Write("b", b"\x01"), Write("b", None), Write("c", b"\x01")])
        rig.follower.note_told_position(await rig.store.head())
        await rig.other.compact(tombstones=100, keys=0)
        assert rig.disk.image.lineage_at(rig.hub.position.revision) is None
        rig.log.clear()
        rig.store.asleep = False
        rig.follower.check_now(StoreRewound("met by a read"))
        await settled()
        assert rig.log == [f"rewound to {rig.hub.position.revision}"]
        assert (rig.follower.reopened, rig.follower.rewinds, rig.current) == (1, 1, True)


async def test_a_rewind_that_shows_at_once_is_told_before_another_task_runs() -> None:
    """A renewal must not take the new history's head for a revision that the hub has reached already."""
    async with following() as rig:
        await rig.publish("a", "b", "c")
        rig.log.clear()
        rig.disk.restore(MemoryStore(MemoryDisk()).disk.image)
        await settled()
        assert rig.log == ["rewound to 2"]
        assert "lineage_at" not in rig.store.calls
        assert rig.current


async def test_every_fault_while_reopening_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as rig:
        rig.store.faults["feed"] = [StoreReplaced("swapped")]
        rig.store.faults["reopen"] = [Unavailable("absent"), StoreReplaced("swapped again"), Unavailable("absent")]
        rig.store.faults["lineage_at"] = [StoreRewound("rewound"), Unavailable("absent")]
        await rig.publish("a")
        await trio.sleep(10)
        assert (rig.follower.reopened, rig.follower.rewinds, rig.current) == (1, 0, True)
        assert rig.store.calls.count("reopen") == 6
        assert rig.log == ["a@3", "row@4", "row@5", "row@6"]


async def test_a_store_that_fails_after_every_reopen_is_not_reopened_without_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with following() as rig:
        rig.store.faults["feed"] = [StoreReplaced("swapped")] * 1_000
        await rig.publish("a")
        await trio.sleep(60)
        assert 50 <= rig.follower.reopened <= 70
        rig.store.faults["feed"].clear()
        await trio.sleep(RETRY_S_MAX)
        assert rig.current
        rig.store.faults["feed"] = [StoreReplaced("swapped")]
        rig.follower.check_now(StoreReplaced("swapped"))
        await settled()
        assert rig.current


async def test_a_store_that_is_not_ours_is_down_until_ours_is_back(autojump_clock: trio.testing.MockClock) -> None:
    async with following() as rig:
        rig.store.faults["feed"] = [StoreReplaced("swapped")]
        rig.store.faults["reopen"] = [StoreRefused("not ours")] * 5
        await rig.publish("a")
        assert rig.follower.down
        await trio.sleep(10)
        assert rig.current
        assert rig.log[0] == "a@3"


async def test_a_node_that_slept_through_a_compaction_skips_and_says_so() -> None:
    async with following() as rig:
        rig.store.asleep = True
        await rig.publish("a")
        rig.log.clear()
        await rig.other.publish([Write("b", b"\x01"), Write("b", None), Write("c", b"\x01")])
        await rig.other.compact(tombstones=100, keys=0)
        rig.store.faults["head"] = [Unavailable("down")]
        rig.follower.check_now(StoreFault("wake up"))
        with trio.fail_after(5):
            while not rig.current:
                await trio.lowlevel.checkpoint()
        assert rig.log == ["skipped"]
        rig.store.asleep = False
        rig.follower.check_now(StoreFault("wake up"))
        await rig.publish("d")
        assert rig.log == ["skipped", "d@7"]


async def test_a_check_asked_for_while_the_feed_is_read_is_not_lost() -> None:
    async with following() as rig:

        def check_again() -> None:
            rig.store.before_feed = lambda: None
            rig.store.asleep = True
            rig.follower.check_now(StoreFault("met by a read just now"))

        rig.store.before_feed = check_again
        rig.store.calls.clear()
        await rig.publish("a")
        assert rig.store.calls == ["feed", "feed"]


async def test_a_store_replaced_just_after_it_was_opened_is_opened_again() -> None:
    # Found by the simulator: the node ended with a traceback.
    store = FaultyStore(MemoryDisk(Random(1)))
    store.faults["head"] = [StoreRewound("restored just now")] * (OPEN_TRIES - 1)
    assert (await first_position(store)).revision == (await store.head()).revision
    assert store.calls.count("reopen") == OPEN_TRIES - 1


async def test_a_store_that_is_replaced_again_and_again_keeps_a_node_from_starting() -> None:
    store = FaultyStore(MemoryDisk(Random(1)))
    store.faults["head"] = [StoreReplaced("swapped")] * OPEN_TRIES
    with pytest.raises(Unavailable, match="start it again"):
        await first_position(store)


async def test_a_store_that_is_not_ours_keeps_a_node_from_starting() -> None:
    store = FaultyStore(MemoryDisk(Random(1)))
    store.faults["head"] = [StoreRefused("somebody else's")]
    with pytest.raises(StoreRefused):
        await first_position(store)
    assert "reopen" not in store.calls
