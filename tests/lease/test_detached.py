"""Leases whose connection is gone: how many are kept, which are given up, and how many clients are awaited."""

from dataclasses import replace

import pytest

from softstate.errors import Overloaded
from softstate.lease.table import Lease, LeaseTable
from tests.kit.leases import NOTHING, UncalledSink


def gone(table: LeaseTable, token: str, now: float) -> Lease:
    """Grant a lease whose connection ends at once."""
    lease = table.grant(token, now, 60.0)
    table.attach(lease, UncalledSink())
    table.detach(lease)
    return lease


def test_a_new_session_is_never_refused_because_of_detached_leases() -> None:
    table = LeaseTable(0.0, sessions_max=50)
    for number in range(1000):
        gone(table, f"gone{number}", 0.0)
    for number in range(50):
        table.attach(table.grant(f"t{number}", 0.0, 60.0), UncalledSink())
    assert table.statistics() == replace(NOTHING, sessions=50, attached=50, given_up=1000)
    with pytest.raises(Overloaded):
        table.grant("one too many", 0.0, 60.0)


def test_a_tenth_of_the_table_may_be_detached_and_the_first_detached_is_given_up() -> None:
    table = LeaseTable(0.0, sessions_max=50)
    leases = [gone(table, f"t{number}", number / 16) for number in range(5)]
    table.add(leases[0], ["a"])
    assert table.statistics() == replace(NOTHING, sessions=5, detached=5, subscriptions=1, groups=1)
    gone(table, "t5", 1.0)
    assert table.get("t0") is None
    assert list(table.members("a")) == []
    assert [table.get(lease.token) for lease in leases[1:]] == leases[1:]
    assert table.statistics() == replace(NOTHING, sessions=5, detached=5, given_up=1)
    assert table.expire(1000.0)[:4] == leases[1:]


def test_the_smallest_table_keeps_one_detached_lease() -> None:
    table = LeaseTable(0.0, sessions_max=1)
    first = gone(table, "t", 0.0)
    assert table.get("t") is first
    table.attach(table.grant("u", 0.0, 60.0), UncalledSink())
    assert (table.get("t"), len(table)) == (None, 1)


def test_a_lease_that_is_attached_again_is_not_given_up() -> None:
    table = LeaseTable(0.0, sessions_max=20)
    back, other = gone(table, "back", 0.0), gone(table, "other", 0.0)
    table.attach(back, UncalledSink())
    gone(table, "t", 0.0)
    gone(table, "u", 0.0)
    assert (table.get("back"), table.get("other")) == (back, None)
    assert other.names == {}


def test_detaching_a_lease_that_is_over_counts_for_nothing() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", 0.0, 60.0)
    table.attach(lease, UncalledSink())
    table.release(lease)
    table.detach(lease)
    assert lease.sink is None
    assert table.statistics() == NOTHING


def test_detached_leases_that_expire_are_counted_no_longer() -> None:
    table = LeaseTable(0.0)
    old, young = gone(table, "old", 0.0), gone(table, "young", 30.0)
    assert table.awaited(30.0, within_s=30.0) == 1
    assert table.expire(66.0) == [old]
    assert table.expire(96.0) == [young]
    assert table.statistics() == NOTHING
    assert table.awaited(96.0, within_s=30.0) == 0


def test_clients_are_awaited_for_as_long_as_they_may_take_to_come_back() -> None:
    table = LeaseTable(0.0)
    table.attach(table.grant("here", 0.0, 600.0), UncalledSink())
    back = gone(table, "t", 0.0)
    for number in range(940):
        gone(table, f"u{number}", 10.0)
    assert table.awaited(29.9, within_s=30.0) == 942
    assert table.awaited(30.0, within_s=30.0) == 941
    table.attach(back, UncalledSink())
    assert table.awaited(39.9, within_s=30.0) == 942
    assert table.awaited(40.0, within_s=30.0) == 2
    assert table.statistics() == replace(NOTHING, sessions=942, attached=2, detached=940)
