"""The weight of a lease table, the limit of it, and which leases are ended first."""

from __future__ import annotations

import math

import pytest

from softstate.auth.identity import NOTHING, Identity
from softstate.errors import Overloaded
from softstate.lease import Lease, LeaseTable
from softstate.lease.weight import (
    GROUP_BYTES,
    LOOKED_AT_PER_TURN,
    MEMORY_RETRY_MS,
    NAME_BYTES,
    SESSION_BYTES,
    victims,
    weight_parts,
)
from tests.kit.silent_sink import SilentSink


def lease_of(table: LeaseTable, token: str, subject: str, names: int, *, attached: bool = True) -> Lease:
    lease = table.grant(token, 0.0, 20, token, Identity("i" if subject else "", subject, NOTHING))
    table.add(lease, [f"{token}/{number}" for number in range(names)])
    if attached:
        table.attach(lease, SilentSink())
    return lease


def ended(table: LeaseTable, excess: float) -> list[str]:
    return [lease.token for portion in victims(table.all(), table.statistics(), excess) for lease in portion]


def test_a_session_and_a_name_beyond_the_weight_are_refused_and_nothing_that_is_there() -> None:
    table, met = LeaseTable(0.0), list[str]()
    table.principals.limited = lambda limit, lease: met.append(f"{limit} {lease}")
    lease = lease_of(table, "a", "u", 3)
    assert sum(weight_parts(table.statistics()).values()) == SESSION_BYTES + 3 * (NAME_BYTES + GROUP_BYTES)
    table.weight_max = SESSION_BYTES + 3 * (NAME_BYTES + GROUP_BYTES) + SESSION_BYTES
    other = lease_of(table, "b", "v", 0)
    for refused in (lambda: table.check_session(""), lambda: table.grant("c", 0.0, 20)):
        with pytest.raises(Overloaded, match="memory_max") as caught:
            refused()
        assert (caught.value.why, caught.value.retry_ms) == ("memory_max", MEMORY_RETRY_MS)
    with pytest.raises(Overloaded):
        table.add(other, ["a/0"])
    with pytest.raises(Overloaded):
        table.check_room(other, ["a/0"])
    assert table.add(lease, ["a/0", "a/1"]) == []
    assert met == ["memory_max None"] * 4
    table.remove(lease, ["a/1"])
    table.add(other, ["a/0"])
    table.weight_max = math.inf
    table.grant("c", 0.0, 20)


def test_leases_without_a_connection_end_first_then_those_of_the_largest_identity() -> None:
    table = LeaseTable(0.0)
    lease_of(table, "small", "ann", 5)
    lease_of(table, "hog1", "hog", 40)
    lease_of(table, "hog2", "hog", 40)
    lease_of(table, "large", "bob", 60)
    lease_of(table, "anonymous", "", 70)
    lease_of(table, "away", "cid", 1, attached=False)
    each = NAME_BYTES + GROUP_BYTES
    assert ended(table, 1.0) == ["away"]
    assert ended(table, SESSION_BYTES + each + 1) == ["away", "hog1"]
    assert ended(table, SESSION_BYTES + each + 40 * each) == ["away", "hog1"]
    assert ended(table, 3 * SESSION_BYTES + 81 * each) == ["away", "hog1", "hog2"]
    assert ended(table, 3 * SESSION_BYTES + 81 * each + 1) == ["away", "hog1", "hog2", "anonymous"]
    assert ended(table, math.inf) == ["away", "hog1", "hog2", "anonymous", "large", "small"]
    assert ended(table, 0.0) == []


def test_a_turn_looks_at_so_many_leases_and_ends_so_many() -> None:
    table = LeaseTable(0.0)
    count = 2 * LOOKED_AT_PER_TURN + 1
    for number in range(count):
        lease_of(table, str(number), f"u{number}", 0)
    portions = list(victims(table.all(), table.statistics(), math.inf))
    assert len(portions) >= 3
    assert max(map(len, portions)) <= LOOKED_AT_PER_TURN
    assert sum(map(len, portions)) == count
