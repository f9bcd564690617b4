"""Long work of the hub is cut into turns: all is passed on, in order, and the hub moves once it was (S7)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from hypothesis import given, settings, strategies as st

from softstate.model import Record
from softstate.position import Position
from softstate.server.fanout.audience import TURN_US, VALUE_BYTES_MAX
from softstate.server.fanout.hub import TELL_US
from softstate.wire import CBOR, JSON, Codec, encode_value
from softstate.wire.push import PushBatch
from tests.kit.hub_rig import HubRig, Log, record

START = Position("epoch", "one", 10)


@pytest.fixture
def rig() -> HubRig:
    return HubRig(START)


def flushes(rig: HubRig, monkeypatch: pytest.MonkeyPatch, logs: Sequence[Log]) -> list[int]:
    """Note, at the end of each turn of the hub, how many changes it has offered so far."""
    turns = [0]
    flush = rig.hub.flush

    def noting() -> None:
        turns.append(sum(map(len, logs)))
        flush()

    monkeypatch.setattr(rig.hub, "flush", noting)
    return turns


NAMES = ["/", "a/", "a/b/", "a/b", "a/c", "a/b/c", "d"]
TOPICS = ["a/b", "a/c", "a/b/c", "d", "e"]


def owed(names: Sequence[str], latest: Sequence[Record]) -> list[str]:
    """Say what a lease is owed, change by change."""
    covers = [name for name in names if name.endswith("/")]
    return [
        f"{each.topic}@{each.version}"
        for each in latest
        if each.topic in names or any(f"/{each.topic}".startswith(f"/{name}".replace("//", "/")) for name in covers)
    ]


@settings(max_examples=150, deadline=None)
@given(
    held=st.lists(st.lists(st.sampled_from(NAMES), unique=True), max_size=8),
    changed=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=12),
    turn_us=st.sampled_from([0, 1, 7, 12, 30, 1_000]),
)
async def test_each_lease_gets_what_it_covers_in_order_however_the_work_is_cut(
    held: Sequence[Sequence[str]], changed: Sequence[str], turn_us: int
) -> None:
    rig = HubRig(START)
    rig.hub.turn_us = turn_us
    logs = [rig.lease(*names)[0] for names in held]
    records = [record(topic, 11 + number) for number, topic in enumerate(changed)]
    await rig.hub.apply(records, [], START.at(10 + len(records)))
    latest = {each.topic: each for each in records}.values()
    assert logs == [owed(names, list(latest)) for names in held]
    assert rig.hub.deliveries == sum(map(len, logs))
    assert rig.hub.position.revision == 10 + len(records)


async def test_many_changes_of_single_subscribers_go_on_in_further_turns(
    rig: HubRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.hub.turn_us = 50
    logs = [rig.lease(f"t{number}")[0] for number in range(100)]
    turns = flushes(rig, monkeypatch, logs)
    await rig.hub.apply([record(f"t{number}", 11 + number) for number in range(100)], [], START.at(110))
    steps = [after - before for before, after in pairwise(turns)]
    assert sum(steps) == 100
    assert max(steps) == 10, "50 us are ten writes"
    assert rig.hub.position == START.at(110)


async def test_one_change_for_many_goes_on_in_further_turns_and_skips_leases_that_end_meanwhile(
    rig: HubRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.hub.turn_us = 5
    late: list[Log] = []

    class Meddling(Log):
        def offer(self, batch: PushBatch) -> None:
            super().offer(batch)
            rig.table.release(leases[2])
            late.append(rig.lease("a")[0])

    logs, leases = zip(*[rig.lease("a", log=Meddling() if number == 0 else None) for number in range(4)], strict=True)
    turns = flushes(rig, monkeypatch, logs)
    await rig.hub.apply([record("a", 11)], [], START.at(11))
    assert logs == (["a@11"], ["a@11"], [], ["a@11"])
    assert turns == [0, 1, 2, 2, 3]
    assert late == [[]], "its subscribe reads what was committed before"


async def test_many_changes_below_one_prefix_are_one_batch(rig: HubRig) -> None:
    given: list[PushBatch] = []

    class Keeping(Log):
        def offer(self, batch: PushBatch) -> None:
            given.append(batch)

    for _ in range(3):
        rig.lease("a/", log=Keeping())
    await rig.hub.apply([record(f"a/{number}", 11 + number) for number in range(500)], [], START.at(510))
    assert len(given) == 3
    assert given[0] is given[1] is given[2]
    assert len(given[0]) == 500


@pytest.mark.parametrize(("codecs", "in_turns"), [([CBOR], False), ([CBOR, JSON], True)])
async def test_large_values_are_encoded_in_turns_for_the_codecs_that_are_there(
    rig: HubRig, monkeypatch: pytest.MonkeyPatch, codecs: Sequence[Codec], in_turns: bool
) -> None:
    encoded = 0
    notify = JSON.notify

    def counting(record: Record) -> bytes:
        nonlocal encoded
        encoded += 1
        return notify(record)

    monkeypatch.setattr(JSON, "notify", counting)

    class Speaking(Log):
        def offer(self, batch: PushBatch) -> None:
            batch.frames(self.codec)
            super().offer(batch)

    for codec in codecs:
        log = Speaking()
        log.codec = codec
        rig.lease("/", log=log)
    value = encode_value("x" * 1_000)
    turns = [0]
    flush = rig.hub.flush

    def noting() -> None:
        turns.append(encoded)
        flush()

    monkeypatch.setattr(rig.hub, "flush", noting)
    await rig.hub.apply([Record(f"t{number}", 11 + number, value) for number in range(40)], [], START.at(50))
    assert (encoded, len(turns) > 10) == (40 * in_turns, in_turns)
    if in_turns:
        assert max(after - before for before, after in pairwise(turns)) <= TURN_US // 1_000


async def test_values_beyond_what_is_joined_go_on_in_further_turns(rig: HubRig) -> None:
    log, _ = rig.lease("/")
    sizes: list[int] = []

    class Keeping(Log):
        def offer(self, batch: PushBatch) -> None:
            sizes.append(sum(len(change.record.cbor or b"") for change in batch.changes))

    rig.lease("/", log=Keeping())
    value = encode_value(b"x" * 60_000)
    await rig.hub.apply([Record(f"t{number}", 11 + number, value) for number in range(40)], [], START.at(50))
    assert len(log) == 40
    assert sum(sizes) == 40 * len(value)
    assert max(sizes) <= VALUE_BYTES_MAX + len(value)


async def test_a_call_waits_for_the_one_before_and_brings_only_the_rest(rig: HubRig) -> None:
    rig.hub.turn_us = 5
    logs = [rig.lease("/")[0] for _ in range(3)]
    both = [record("a", 11), record("b", 12)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.hub.committed, 10, both[:1], START.at(11))
        nursery.start_soon(rig.hub.apply, both, [], START.at(12))
        nursery.start_soon(rig.hub.committed, 11, both[1:], START.at(12))
    assert logs == [["a@11", "b@12"]] * 3
    assert rig.hub.position == START.at(12)


async def test_nothing_is_certified_before_all_of_a_commit_was_passed_on(rig: HubRig) -> None:
    rig.hub.turn_us = 5
    logs = [rig.lease(f"t{number}")[0] for number in range(9)]
    told: list[int] = []

    async def renew() -> None:
        await rig.hub.reached(19)
        told.append(sum(map(len, logs)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew)
        nursery.start_soon(rig.hub.apply, [record(f"t{number}", 11 + number) for number in range(9)], [], START.at(19))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            assert (rig.hub.position, told) == (START, [])
    assert told == [9]


async def test_a_lineage_row_is_told_in_turns_between_the_changes(rig: HubRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.hub.turn_us = 3 * TELL_US
    logs = [rig.lease("a")[0] for _ in range(10)]
    turns = flushes(rig, monkeypatch, logs)
    row = Position("epoch", "two", 12)
    await rig.hub.apply([record("a", 11), record("a", 13)], [row], row.at(13))
    assert logs == [["a@11", "two@12", "a@13"]] * 10
    assert [after - before for before, after in pairwise(turns)] == [10 + 3, 3, 3, 1 + 10]
    assert rig.hub.position == row.at(13)


async def test_a_connection_that_opens_while_a_row_is_told_is_not(rig: HubRig) -> None:
    """Its hello is answered by a read that begins after the hub has read the row."""
    rig.hub.turn_us = TELL_US
    late: list[Log] = []

    class Meddling(Log):
        def moved(self, position: Position) -> None:
            super().moved(position)
            late.append(rig.lease()[0])
            rig.sinks.pop(logs[1])

    logs = [rig.lease(log=Meddling() if number == 0 else None)[0] for number in range(3)]
    row = Position("epoch", "two", 11)
    await rig.hub.apply([], [row], row)
    assert logs == [["two@11"]] * 3
    assert late == [[]]


@pytest.mark.parametrize("how", ["restart", "cancel", "end"])
async def test_work_that_is_cut_short_moves_the_hub_nowhere(rig: HubRig, how: str) -> None:
    rig.hub.turn_us = 5
    logs = [rig.lease("/")[0] for _ in range(5)]
    new = Position("epoch", "new", 10)
    scope = trio.CancelScope()

    async def applying() -> None:
        with scope:
            await rig.hub.apply([record("a", 11)], [], START.at(11))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(applying)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        match how:
            case "restart":
                rig.hub.restart(new)
            case "cancel":
                scope.cancel()
            case _:
                rig.bulkhead.end_node("a test")
    assert 0 < sum(map(len, logs)) < 5
    assert rig.hub.position == (new if how == "restart" else START)
    if how != "end":
        await rig.hub.apply([record("a", 11)], [], rig.hub.position.at(11))
        assert [log[-1:] for log in logs] == [["a@11"]] * 5
