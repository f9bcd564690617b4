from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from softstate.lease import Lease
from softstate.lease.table import OVER
from softstate.model import Record
from softstate.position import Position
from softstate.server.fanout import recent_changes
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.outbox import Outbox
from softstate.server.fanout.recent_changes import RecentChanges
from softstate.store.base import Write
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.wire import CBOR, JSON
from softstate.wire.push import EncodedChange, PushBatch
from tests.kit.fake_socket import FakeSocket, outbox_on
from tests.kit.hub_rig import HubRig, Log, record
from tests.kit.silent_sink import SilentSink

settled = trio.testing.wait_all_tasks_blocked

START = Position("epoch", "one", 10)
TWO = Position("epoch", "two", 12)


@pytest.fixture
def rig() -> HubRig:
    return HubRig(START)


# Targets of a change -----------------------------------------------------------------------------------------------


async def test_a_change_goes_once_to_each_lease_that_covers_it(rig: HubRig) -> None:
    topic, _ = rig.lease("a/b")
    both, _ = rig.lease("a/", "a/b", "/")
    other, _ = rig.lease("b/")
    gone, lease = rig.lease("/")
    lease.sink = None
    await rig.hub.apply([record("a/b", 11), record("c", 12)], [], START.at(12))
    assert (topic, both, other, gone) == (["a/b@11"], ["a/b@11", "c@12"], [], [])
    assert (rig.hub.changes, rig.hub.deliveries) == (2, 3)


async def test_nothing_is_pushed_past_the_deadline_even_before_the_sweep(rig: HubRig) -> None:
    log, lease = rig.lease("a")
    lease.deadline = 0
    await rig.hub.apply([record("a", 11)], [], START.at(11))
    lease.deadline = -0.001
    await rig.hub.apply([record("a", 12)], [], START.at(12))
    assert log == ["a@11"]


async def test_within_a_turn_a_newer_change_takes_the_place_of_an_older_one_of_its_topic(rig: HubRig) -> None:
    log, _ = rig.lease("/")
    await rig.hub.apply([record("a", 11), record("b", 12), record("a", 13)], [], START.at(13))
    assert log == ["a@13", "b@12"]
    assert (rig.hub.changes, rig.hub.deliveries) == (3, 2)


async def test_leases_that_are_owed_the_same_get_the_same_batch(rig: HubRig) -> None:
    given: dict[str, PushBatch] = {}

    class Keeping(Log):
        def __init__(self, name: str) -> None:
            self.name = name

        def offer(self, batch: PushBatch) -> None:
            given[self.name] = batch

    for name, names in {"one": ["a", "b"], "two": ["/"], "three": ["b"], "four": ["b", "c"]}.items():
        rig.lease(*names)[1].sink = Keeping(name)
    await rig.hub.apply([record("a", 11), record("b", 12)], [], START.at(12))
    assert given["one"] is given["two"]
    assert given["three"] is given["four"]
    assert [len(given["one"]), len(given["three"])] == [2, 1]
    assert given["one"].frames(CBOR) == b"".join(
        EncodedChange(record(*of)).frame(CBOR) for of in (("a", 11), ("b", 12))
    )


async def test_lineage_rows_are_told_between_the_changes(rig: HubRig) -> None:
    log, _ = rig.lease("a", "b")
    three = Position("epoch", "three", 15)
    rows = [three, Position("epoch", "one", 9), TWO]
    await rig.hub.apply([record("a", 11), record("a", 13), record("b", 14)], rows, three)
    assert log == ["a@11", "two@12", "a@13", "b@14", "three@15"]
    assert rig.hub.position == three


async def test_a_listener_may_leave_while_it_is_told(rig: HubRig) -> None:
    class Leaving(Log):
        def moved(self, position: Position) -> None:
            super().moved(position)
            del rig.sinks[self]

    first, second = Leaving(), Leaving()
    rig.sinks |= {first: None, second: None}
    await rig.hub.apply([], [TWO], TWO)
    assert (first, second, rig.sinks) == (["two@12"], ["two@12"], {})


async def test_an_offer_may_end_leases_and_whole_groups(rig: HubRig) -> None:
    class Ending(Log):
        def offer(self, batch: PushBatch) -> None:
            super().offer(batch)
            rig.table.clear()

    logs = []
    for _ in range(3):
        log, lease = rig.lease("a")
        ending = Ending()
        lease.sink = ending
        logs += [log, ending]
    await rig.hub.apply([record("a", 11), record("a", 12)], [], START.at(12))
    assert sum(map(len, logs)) == 1, "a lease that is over takes nothing"
    assert not len(rig.table)


async def test_a_push_that_revokes_its_lease_disturbs_no_other(rig: HubRig) -> None:
    class Connected(SilentSink):
        """Handles a push as a connection does, on the real outbox."""

        def __init__(self, lease: Lease, free_bytes: float) -> None:
            self.sock = FakeSocket(free_bytes)
            self.box: Outbox = outbox_on(self.sock, pending_max=1, overdue=lambda: self.end(lease))
            lease.sink = self

        def offer(self, batch: PushBatch) -> None:
            for change in batch.changes:
                self.box.notify(change.record.topic, change.frame(CBOR))
            rig.hub.flush_later(self)

        def flush(self) -> None:
            self.box.flush()

        def end(self, lease: Lease) -> None:
            self.box.drop()
            rig.table.release(lease)
            lease.sink = None

    peers = [Connected(rig.lease("/")[1], free_bytes) for free_bytes in (0, float("inf"), 0, float("inf"))]
    records = [record(f"t{version}", version) for version in range(11, 20)]
    await rig.hub.apply(records, [], START.at(19))
    whole = b"".join(EncodedChange(each).frame(CBOR) for each in records)
    assert [bytes(peer.sock.taken) for peer in peers] == [b"", whole, b"", whole]
    assert [peer.box.sent for peer in peers] == [0, 9, 0, 9]
    assert [peer.sock.writes for peer in peers if peer.sock.free_bytes] == [peers[1].sock.writes] * 2
    assert len(rig.table) == 2
    await rig.hub.apply([record("t", 20)], [], START.at(20))
    assert [peer.box.sent for peer in peers] == [0, 10, 0, 10]


async def test_a_flush_that_queues_something_for_another_connection_flushes_that_too(rig: HubRig) -> None:
    flushed = []

    class Flushed(Log):
        def flush(self) -> None:
            flushed.append(self)
            if self is first:
                rig.hub.flush_later(second)

    first, second = Flushed(), Flushed()
    rig.hub.flush_later(first)
    rig.hub.flush_later(first)
    rig.hub.flush()
    rig.hub.flush()
    assert [id(each) for each in flushed] == [id(first), id(second)]


# The position ------------------------------------------------------------------------------------------------------


async def test_the_position_moves_after_the_last_offer(rig: HubRig) -> None:
    seen = []

    class Looking(Log):
        def offer(self, _batch: PushBatch) -> None:
            seen.append(rig.hub.position)

    _, lease = rig.lease("a")
    lease.sink = Looking()
    await rig.hub.apply([record("a", 11)], [TWO], TWO)
    assert (seen, rig.hub.position) == ([START], TWO)


async def test_a_page_at_or_below_the_position_changes_nothing(rig: HubRig) -> None:
    log, _ = rig.lease("a")
    await rig.hub.apply([record("a", 10)], [START], START)
    await rig.hub.apply([record("a", 9)], [START], START.at(9))
    assert (log, rig.hub.position) == ([], START)


async def test_a_short_cut_is_taken_only_at_the_next_revision_of_the_same_lineage(rig: HubRig) -> None:
    log, _ = rig.lease("a")
    await rig.hub.committed(11, [record("a", 12)], START.at(12))
    await rig.hub.committed(9, [record("a", 10)], START.at(10))
    await rig.hub.committed(10, [record("a", 11)], Position("epoch", "two", 11))
    await rig.hub.committed(10, [record("a", 11)], Position("other", "one", 11))
    assert (log, rig.hub.position) == ([], START)
    await rig.hub.committed(10, [record("a", 11), record("b", 12)], START.at(12))
    assert (log, rig.hub.position) == (["a@11"], START.at(12))


async def test_a_page_that_overlaps_a_short_cut_brings_only_the_rest(rig: HubRig) -> None:
    log, _ = rig.lease("/")
    await rig.hub.committed(10, [record("a", 11), record("b", 12)], START.at(12))
    await rig.hub.apply([record("a", 11), record("b", 12)], [], START.at(12))
    row = Position("epoch", "two", 13)
    await rig.hub.apply([record("b", 12), record("a", 14)], [row], row.at(14))
    assert log == ["a@11", "b@12", "two@13", "a@14"]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(["own", "own2", "foreign", "row", "read", "apply"]), max_size=30))
async def test_short_cuts_and_pages_in_any_order_leave_no_gap_and_bring_nothing_twice(steps: Sequence[str]) -> None:
    store, rig = MemoryStore(MemoryDisk()), HubRig(START)
    other = MemoryStore(store.disk)
    rig.hub = Hub(rig.table, store.disk.image.position, rig.bulkhead, rig._revoke, rig.sinks.keys(), lambda: 0)
    log, _ = rig.lease("/")
    pages = []
    topics: Iterator[str] = (f"t{number % 3}" for number in range(1_000))
    for step in steps:
        match step:
            case "own" | "own2":
                group = [Write(next(topics), b"\x01") for _ in range(1 + (step == "own2"))]
                committed = await store.publish(group)
                await rig.hub.committed(committed.before, committed.records, committed.position)
            case "foreign":
                await other.publish([Write(next(topics), b"\x02")])
            case "row":
                await other.reopen()
            case "read":
                pages.append(await store.feed(rig.hub.position, 2))
            case "apply":
                if pages:
                    page = pages.pop(0)
                    await rig.hub.apply(page.records, page.lineages, page.upto)
    while rig.hub.position != store.disk.image.position:
        page = await store.feed(rig.hub.position, 2)
        await rig.hub.apply(page.records, page.lineages, page.upto)
    revisions = [int(line.partition("@")[2]) for line in log]
    assert revisions == sorted(set(revisions))
    image = store.disk.image
    expected = {f"{row.lineage}@{row.revision}" for row in image.rows[2:]}
    expected |= {f"{each.topic}@{each.version}" for each in image.records.values()}
    assert expected <= set(log)


# Waiting -----------------------------------------------------------------------------------------------------------


async def test_reached_returns_once_everything_was_offered(rig: HubRig) -> None:
    log, _ = rig.lease("a")
    told: list[int] = []

    async def wait(revision: int) -> None:
        await rig.hub.reached(revision)
        told.append(len(log))

    await wait(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 11)
        nursery.start_soon(wait, 12)
        await settled()
        await rig.hub.apply([record("a", 11)], [], START.at(11))
        await settled()
        assert told == [0, 1]
        rig.hub.restart(Position("new", "x", 5))
        await settled()
        assert told == [0, 1]
        await rig.hub.apply([], [], Position("new", "x", 12))
    assert told == [0, 1, 1]


async def test_changed_waits_for_its_topic(rig: HubRig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.hub.recent.changed, "a", 10)
        nursery.start_soon(rig.hub.recent.changed, "a", 10)
        await settled()
        await rig.hub.apply([record("b", 11)], [], START.at(11))
        await settled()
        assert len(nursery.child_tasks) == 2
        await rig.hub.apply([record("a", 12)], [], START.at(12))
    assert not rig.hub.recent._watched


async def test_changed_notices_a_change_that_passed_just_before(rig: HubRig) -> None:
    await rig.hub.apply([record("a", 11), record("b", 12)], [], START.at(12))
    await rig.hub.recent.changed("a", 10)
    await rig.hub.recent.changed("other", 9)
    with trio.move_on_after(0) as scope:
        await rig.hub.recent.changed("a", 11)
    assert scope.cancelled_caught
    assert not rig.hub.recent._watched


async def test_changed_returns_at_a_new_history(rig: HubRig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.hub.recent.changed, "a", 10)
        await settled()
        rig.hub.restart(Position("new", "x", 5))
    with trio.move_on_after(0) as scope:
        await rig.hub.recent.changed("a", 5)
    assert scope.cancelled_caught
    await rig.hub.recent.changed("a", 4)
    assert not rig.hub.recent._watched


async def test_recent_changes_are_bounded_and_a_forgotten_one_is_taken_for_changed(
    rig: HubRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_changes, "RECENT_MAX", 2)
    await rig.hub.apply([record("a", 11), record("b", 12), record("a", 13), record("c", 14)], [], START.at(14))
    assert rig.hub.recent._versions == {"a": 13, "c": 14}
    await rig.hub.recent.changed("b", 11)
    await rig.hub.recent.changed("a", 12)
    for topic, after in (("b", 12), ("a", 13), ("c", 14)):
        with trio.move_on_after(0) as scope:
            await rig.hub.recent.changed(topic, after)
        assert scope.cancelled_caught, topic


async def test_waiting_for_changes_leaves_nothing_behind_however_it_ends(rig: HubRig) -> None:
    """A waiter that comes between the wake-up of an earlier one and its end shares its lot; the lot must stay."""
    ended: list[str] = []

    async def wait(name: str, after: int) -> None:
        await rig.hub.recent.changed("a", after)
        ended.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "first", 10)
        nursery.start_soon(wait, "second", 10)
        await settled()
        await rig.hub.apply([record("a", 11)], [], START.at(11))
        nursery.start_soon(wait, "third", 11)
        await settled()
        assert sorted(ended) == ["first", "second"]
        await rig.hub.apply([record("a", 12)], [], START.at(12))
        await settled()
        assert ended[2:] == ["third"]
        assert not rig.hub.recent._watched
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(wait, "cancelled", 12)
                nursery.start_soon(wait, "fourth", 12)
                await settled()
                scope.cancel()
        assert list(rig.hub.recent._watched) == ["a"]
        await rig.hub.apply([record("a", 13)], [], START.at(13))
    assert ended[3:] == ["fourth"]
    assert not rig.hub.recent._watched


# Bugs ----------------------------------------------------------------------------------------------------------------


class Broken(Log):
    """A connection that cannot take pushes, or cannot be told of a row."""

    def offer(self, batch: PushBatch) -> None:
        raise ZeroDivisionError

    def moved(self, position: Position) -> None:
        raise ZeroDivisionError


class Encoding(Log):
    """A connection that encodes what it is given."""

    def offer(self, batch: PushBatch) -> None:
        batch.frames(JSON)
        super().offer(batch)


UNENCODABLE = record("bad", 11)


@pytest.fixture
def broken_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the codec of JSON meet a bug at one record."""
    notify = JSON.notify

    def broken(record: Record) -> bytes:
        return notify(record) if record is not UNENCODABLE else b"" * (1 // 0)

    monkeypatch.setattr(JSON, "notify", broken)


def soft_rig() -> HubRig:
    return HubRig(START, strict=False)


@pytest.mark.parametrize("topics", [["a"], ["a", "b"]])
async def test_a_connection_that_cannot_take_a_push_ends_alone(topics: list[str]) -> None:
    rig = soft_rig()
    before, _ = rig.lease("/")
    broken, _ = rig.lease("/", log=Broken())
    after, _ = rig.lease("/")
    pushed = [record(topic, 11 + number) for number, topic in enumerate(topics)]
    await rig.hub.apply(pushed, [], START.at(12))
    assert before == after == [f"{each.topic}@{each.version}" for each in pushed]
    assert (broken, rig.bulkhead.bugs, rig.hub.position.revision) == (["failed"], 1, 12)


async def test_a_connection_that_cannot_be_told_of_a_row_ends_alone() -> None:
    rig = soft_rig()
    broken, _ = rig.lease(log=Broken())
    other, _ = rig.lease()
    await rig.hub.apply([], [START.at(11)], START.at(11))
    assert (broken, len(other), rig.bulkhead.bugs) == (["failed"], 1, 1)


@pytest.mark.parametrize("neighbour", [[], [record("good", 12)]])
async def test_a_record_that_cannot_be_pushed_revokes_the_leases_that_cover_the_turn(
    neighbour: list[Record], broken_codec: None
) -> None:
    """It is nobody's fault who subscribed to it: no connection ends, and the hub goes on."""
    rig = soft_rig()
    covering, lease = rig.lease("bad", "good", log=Encoding())
    detached = rig.lease("/")[1]
    detached.sink = None
    other, other_lease = rig.lease("other", log=Encoding())
    waited: list[int] = []

    async def wait() -> None:
        await rig.hub.recent.changed("bad", 10)
        waited.append(rig.hub.position.revision)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await settled()
        await rig.hub.apply([UNENCODABLE, *neighbour], [], START.at(12))
    assert (covering, other) == (["revoked"], [])
    assert (lease.deadline, detached.deadline, other_lease.deadline == OVER) == (OVER, OVER, False)
    assert (rig.hub.position.revision, waited, rig.bulkhead.bugs) == (12, [12], 1)
    await rig.hub.apply([record("other", 13)], [], START.at(13))
    assert other == ["other@13"]
    assert not rig.bulkhead.ending


async def test_a_turn_that_fails_twice_ends_the_node_and_certifies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = soft_rig()
    rig.lease("/")

    def broken(_self: RecentChanges, _topic: str, _version: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RecentChanges, "note", broken)
    await rig.hub.apply([record("a", 11)], [], START.at(11))
    assert rig.hub.position == START
    assert (rig.bulkhead.ending, rig.bulkhead.bugs) == (True, 2)
    assert "revision 11" in str(rig.bulkhead.fatal)
    monkeypatch.undo()
    await rig.hub.apply([record("a", 11)], [], START.at(11))
    assert rig.hub.position == START, "a node that ends does not go on"


async def test_all_leases_are_revoked_if_those_that_are_covered_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = soft_rig()
    log, _ = rig.lease("other")

    def broken(_topic: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rig.table, "reached", broken)
    await rig.hub.apply([record("a", 11)], [], START.at(11))
    assert (log, rig.hub.position.revision, rig.bulkhead.ending) == (["revoked"], 11, False)


async def test_an_outbox_that_cannot_be_flushed_ends_its_connection_alone() -> None:
    class Stuck(Log):
        def flush(self) -> None:
            raise ZeroDivisionError

    rig = soft_rig()
    one, _ = rig.lease(log=Stuck())
    other, _ = rig.lease()
    rig.hub.flush_later(one)
    rig.hub.flush()
    assert (one, other) == (["failed"], [])
