"""The hub and revocations: they are heeded before anything that comes with them is offered (S12)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest

from softstate.auth.revocations import REVOKED
from softstate.model import Record
from softstate.position import Position
from softstate.server.fanout.hub import Hub
from tests.kit.hub_rig import HubRig, at_once, record

START = Position("e", "l", 10)
TOPIC = REVOKED + "sub/" + "a" * 22


@pytest.mark.parametrize("order", list(permutations(["a/1", "a/2", TOPIC])))
def test_a_lease_that_is_revoked_gets_nothing_of_the_batch(order: Sequence[str]) -> None:
    rig: HubRig

    def heed(records: Sequence[Record]) -> Iterator[None]:
        heeded.extend(each.topic for each in records)
        if records:
            rig.table.clear([revoked])
        yield from ()

    heeded: list[str] = []
    rig = HubRig(START, heed=heed)
    log, revoked = rig.lease("a/")
    other, _ = rig.lease("a/", "$softstate/")
    at_once(rig.hub.apply([record(topic, 11 + at) for at, topic in enumerate(order)], [], START.at(13)))
    assert log == []
    assert other == [f"{topic}@{11 + at}" for at, topic in enumerate(order)]
    assert heeded == [TOPIC]


async def test_the_hub_stays_where_it_is_until_all_leases_have_ended() -> None:
    positions: list[int] = []

    def heed(records: Sequence[Record]) -> Iterator[None]:
        for _ in [*records, *records, *records]:
            positions.append(hub.position.revision)
            yield

    rig = HubRig(START, heed=heed)
    hub: Hub = rig.hub
    log, _ = rig.lease("a")
    await hub.apply([record("a", 11), record(TOPIC, 12)], [], START.at(12))
    assert positions == [10, 10, 10]
    assert (log, hub.position.revision) == (["a@11"], 12)


def test_one_that_was_passed_is_not_heeded_again() -> None:
    heeded: list[int] = []

    def heed(records: Sequence[Record]) -> Iterator[None]:
        heeded.extend(each.version for each in records)
        yield from ()

    rig = HubRig(START, heed=heed)
    at_once(rig.hub.apply([record(TOPIC, 11)], [], START.at(11)))
    at_once(rig.hub.apply([record(TOPIC, 11), record(TOPIC, 12)], [], START.at(12)))
    assert heeded == [11, 12]


def test_every_lease_ends_if_a_bug_keeps_the_hub_from_heeding() -> None:
    calls: list[int] = []

    def heed(records: Sequence[Record]) -> Iterator[None]:
        calls.append(len(records))
        if len(calls) == 1:
            raise ZeroDivisionError
        yield from ()

    rig = HubRig(START, strict=False, heed=heed)
    log, _ = rig.lease("b")
    at_once(rig.hub.apply([record(TOPIC, 11), record("a", 12)], [], START.at(12)))
    assert log == ["revoked"]
    assert rig.hub.position.revision == 12
    assert len(rig.table) == 0
    assert calls == [1, 1]


def test_a_node_that_looks_at_no_credentials_offers_them_as_any_topic() -> None:
    rig = HubRig(START)
    log, _ = rig.lease("$softstate/")
    at_once(rig.hub.apply([record(TOPIC, 11)], [], START.at(11)))
    assert log == [f"{TOPIC}@11"]
