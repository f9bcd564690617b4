"""Leases that are over: their names go in portions, and what is held stays bounded all the same."""

from dataclasses import replace

import pytest

from softstate.errors import NoLease
from softstate.lease.table import OVER, REAPED_MAX, LeaseTable
from softstate.wire.subscription_digest import digest_of
from tests.kit.leases import NOTHING


def held_names(table: LeaseTable) -> int:
    """Count the names in the table's groups, one for each lease that holds it."""
    return sum(map(len, table._groups.values()))


def test_a_lease_with_many_names_is_over_at_once_and_reaped_in_portions() -> None:
    table = LeaseTable(0.0, grace=0.0)
    names = [f"t{n}" for n in range(2 * REAPED_MAX + 1)]
    lease, other = table.grant("t", 0.0, 10.0), table.grant("u", 0.0, 60.0)
    table.add(lease, names)
    table.add(other, names[:1])
    table.release(lease)
    assert table.get("t") is None
    assert lease.deadline == OVER
    assert held_names(table) == table.statistics().subscriptions == len(names) + 1 - REAPED_MAX
    assert table.next_expire_s(0.0) == 0.0
    assert [table.reapable, table.reap(REAPED_MAX)] == [True, REAPED_MAX]
    assert [table.reapable, table.reap(REAPED_MAX)] == [True, 1]
    assert [table.reapable, table.reap(REAPED_MAX)] == [False, 0]
    assert lease.names == {}
    assert lease.digest == 0
    assert list(table.members(names[0])) == [other]
    assert table.statistics() == replace(NOTHING, sessions=1, attached=1, subscriptions=1, groups=1)


def test_a_lease_half_reaped_takes_nothing_and_is_no_other_of_its_token() -> None:
    table = LeaseTable(0.0, reaped_max=1)
    old = table.grant("t", 0.0, 10.0)
    table.add(old, ["a", "b", "c"])
    table.release(old)
    assert old.count == 2
    with pytest.raises(NoLease):
        table.extend(old, 1.0)
    with pytest.raises(NoLease):
        table.add(old, ["d"])
    table.remove(old, ["a"])
    assert old.count == 2
    new = table.grant("t", 1.0, 10.0)
    table.add(new, ["a"])
    assert table.get("t") is new
    table.release(old)
    table.reap(10)
    assert old.count == 0
    assert list(table.members("a")) == [new]
    assert new.digest == digest_of(["a"])
    assert list(new.names) == ["a"]


def test_what_is_held_never_exceeds_what_living_leases_have_held() -> None:
    """Else a peer that subscribes and leaves again and again would grow the node faster than the sweeper reaps."""
    table = LeaseTable(0.0, subscriptions_max=1_000)
    for round_number in range(20):
        lease = table.grant(f"t{round_number}", 0.0, 60.0)
        table.add(lease, [f"{round_number}/{n}" for n in range(1_000)])
        assert held_names(table) == table.statistics().subscriptions <= 1_000
        table.release(lease)


def test_leaving_hashes_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(name: str) -> int:
        hashed.append(name)
        return digest_of([name])

    monkeypatch.setattr("softstate.lease.table.name_hash", counted)
    table = LeaseTable(0.0, grace=0.0)
    leases = [table.grant(token, 0.0, 10.0) for token in "tuv"]
    names = [f"t{n}" for n in range(10)]
    for lease in leases:
        table.add(lease, names)
    assert hashed == names
    table.remove(leases[0], names)
    table.release(leases[1])
    table.expire(20.0)
    table.reap(100)
    assert table.statistics() == NOTHING
    assert hashed == names
