"""The lease table: one lease and its names, and whom a topic reaches."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import softstate
from softstate.errors import NoLease, TooLarge
from softstate.lease.table import LeaseCounts, LeaseTable
from softstate.wire.subscription_digest import digest_of
from tests.kit.leases import NOTHING, UncalledSink, equal_copy

# One lease -----------------------------------------------------------------------------------------------------------


def test_a_lease_is_granted_with_grace_and_found_by_its_token() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", now=100.0, ttl_s=60.0, name="kiosk 7")
    assert lease.deadline == pytest.approx(166.0)
    assert lease.token == "t"
    assert lease.name == "kiosk 7"
    assert lease.ttl_s == 60.0
    assert lease.count == 0
    assert lease.digest == 0
    assert lease.sink is None
    assert table.get("t") is lease
    assert table.get("u") is None
    assert len(table) == 1


def test_a_lease_does_not_show_its_token() -> None:
    assert "secret" not in repr(LeaseTable(0.0).grant("secret", 0.0, 60.0))


def test_leases_are_never_equal() -> None:
    first, second = (LeaseTable(0.0).grant("t", 0.0, 60.0) for _ in range(2))
    assert first != second
    assert len({first: None, second: None}) == 2


def test_extending_moves_the_deadline_forward_only() -> None:
    table = LeaseTable(0.0, grace=0.5)
    lease = table.grant("t", 0.0, ttl_s=10.0)
    table.extend(lease, now=2.0)
    assert lease.ttl_s == 10.0
    assert lease.deadline == 17.0
    table.extend(lease, now=3.0, ttl_s=4.0)
    assert lease.ttl_s == 4.0
    assert lease.deadline == 17.0
    table.extend(lease, now=12.0)
    assert lease.ttl_s == 4.0
    assert lease.deadline == 18.0


def test_a_lease_expires_at_its_deadline_whatever_it_was_when_granted() -> None:
    table = LeaseTable(0.0, grace=0.0)
    lease = table.grant("t", 0.0, ttl_s=10.0)
    table.add(lease, ["a"])
    table.extend(lease, now=5.0)
    assert table.expire(14.75) == []
    assert table.get("t") is lease
    assert table.expire(15.0) == [lease]
    assert table.get("t") is None
    assert table.next_expire_s(15.0) == 0.0
    assert table.reap(1) == 1
    assert table.statistics() == NOTHING
    assert table.next_expire_s(15.0) > 0
    assert table.expire(1000.0) == []


def test_a_lease_that_is_over_but_not_yet_found_may_still_be_extended() -> None:
    table = LeaseTable(0.0, grace=0.0)
    lease = table.grant("t", 0.0, ttl_s=10.0)
    table.extend(lease, now=11.0)
    assert table.expire(11.0) == []
    assert table.get("t") is lease


def test_a_released_lease_is_gone_but_keeps_its_sink() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", 0.0, 60.0)
    table.add(lease, ["a", "b/"])
    sink = UncalledSink()
    table.attach(lease, sink)
    table.release(lease)
    assert table.get("t") is None
    assert list(table.members("a")) == []
    assert lease.names == {}
    assert lease.digest == 0
    assert lease.sink is sink
    assert table.statistics() == NOTHING


def test_all_leases_end_at_once_or_some_and_those_that_had_not_ended_are_returned() -> None:
    table = LeaseTable(0.0)
    first, second, third, fourth = (table.grant(token, 0.0, 60.0) for token in "tuvw")
    for lease in (first, second, third, fourth):
        table.add(lease, ["a"])
    table.release(first)
    assert table.clear([first, third]) == [third]
    assert list(table._leases.values()) == [second, fourth]
    assert table.clear() == [second, fourth]
    assert table.clear() == []
    table.reap(4)
    assert table.statistics() == NOTHING


def test_releasing_again_does_not_touch_a_new_lease_of_the_same_token() -> None:
    table = LeaseTable(0.0, grace=0.0)
    old = table.grant("t", 0.0, 10.0)
    table.release(old)
    new = table.grant("t", 0.0, 20.0)
    table.release(old)
    assert table.expire(10.0) == []
    assert table.get("t") is new
    assert table.expire(20.0) == [new]


def test_a_lease_that_is_over_takes_no_more() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", 0.0, 60.0)
    table.release(lease)
    with pytest.raises(NoLease):
        table.extend(lease, 1.0)
    with pytest.raises(NoLease):
        table.add(lease, ["a"])
    with pytest.raises(NoLease):
        table.check_room(lease, ["a"])
    table.remove(lease, ["a"])
    assert table.statistics() == NOTHING
    assert table.expire(1000.0) == []


# Its names -----------------------------------------------------------------------------------------------------------


class Unwalked(dict[str, None]):
    """Names that may be looked up one by one, and not walked."""

    def _refuse(self) -> Any:
        raise AssertionError("all names of the lease are looked at")

    __iter__ = keys = items = values = copy = _refuse


def test_no_call_looks_at_names_that_it_was_not_given() -> None:
    table = LeaseTable(0.0, subscriptions_max=4)
    lease = table.grant("t", 0.0, 60.0)
    lease.names = Unwalked()
    table.add(lease, ["a", "b/"])
    table.check_room(lease, ["b/", "c"])
    with pytest.raises(TooLarge):
        table.check_room(lease, ["c", "d", "e"])
    table.add(lease, ["a", "c"])
    table.remove(lease, ["a", "d"])
    table.extend(lease, 1.0)
    assert lease.count == 2
    assert list(table.members("b/x")) == [lease]
    table.detach(lease)
    table.release(lease)
    assert table.statistics() == NOTHING


def test_adding_returns_what_was_not_held_before() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", 0.0, 60.0)
    assert table.add(lease, ["a", "b/", "a"]) == ["a", "b/"]
    assert table.add(lease, iter(["c", "a"])) == ["c"]
    assert list(lease.names) == ["a", "b/", "c"]
    assert lease.count == 3
    assert lease.digest == digest_of(["a", "b/", "c"])


def test_removing_passes_over_what_is_not_held() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", 0.0, 60.0)
    table.add(lease, ["a", "b"])
    table.remove(lease, ["b", "b", "c"])
    assert list(lease.names) == ["a"]
    assert lease.digest == digest_of(["a"])
    assert list(table.members("b")) == []


def test_removing_all_names_leaves_a_lease_without_any() -> None:
    table = LeaseTable(0.0)
    lease = table.grant("t", 0.0, 60.0)
    table.add(lease, ["a", "b", "c"])
    table.remove(lease, ["b"])
    assert table.add(lease, ["d", "c", "d", "a"]) == ["d"]
    assert list(lease.names) == ["a", "c", "d"]
    assert lease.digest == digest_of(["a", "c", "d"])
    table.remove(lease, list(lease.names))
    assert lease.digest == 0
    assert table.statistics() == replace(NOTHING, sessions=1, attached=1)


def test_names_shared_by_sessions_are_one_string() -> None:
    table = LeaseTable(0.0)
    leases = [table.grant(token, 0.0, 60.0) for token in "tuv"]
    for lease in leases:
        table.add(lease, [equal_copy("orders/42")])
    table.release(leases[0])
    table.add(table.grant("w", 0.0, 60.0), [equal_copy("orders/42")])
    (group,) = table.reached("orders/42")
    assert len(group) == 3
    assert all(name is group.name for lease in group for name in lease.names)


# Fan-out -------------------------------------------------------------------------------------------------------------


def test_a_topic_reaches_its_group_and_those_of_its_prefixes() -> None:
    table = LeaseTable(0.0)
    first, second = table.grant("t", 0.0, 60.0), table.grant("u", 0.0, 60.0)
    table.add(first, ["a/b/c", "/", "a/", "a/b"])
    table.add(second, ["a/b/", "a/", "a/b/c/", "a/b/cd"])
    assert [(group.name, list(group)) for group in table.reached("a/b/c")] == [
        ("a/b/c", [first]),
        ("/", [first]),
        ("a/", [first, second]),
        ("a/b/", [second]),
    ]
    assert list(table.members("a/b/c")) == [first, second]
    assert [group.name for group in table.reached("x")] == ["/"]
    table.remove(first, ["/"])
    assert table.reached("x") == []
    assert list(table.members("x")) == []


def test_the_members_of_a_single_group_are_not_copied() -> None:
    table = LeaseTable(0.0)
    table.add(table.grant("t", 0.0, 60.0), ["a"])
    (group,) = table.reached("a")
    assert table.members("a") is group


def test_statistics_count_what_is_held() -> None:
    table = LeaseTable(0.0)
    first, second = table.grant("t", 0.0, 60.0), table.grant("u", 0.0, 60.0)
    table.add(first, ["a", "b/"])
    table.add(second, ["a"])
    table.attach(second, UncalledSink())
    table.detach(second)
    assert table.statistics() == LeaseCounts(sessions=2, attached=1, detached=1, given_up=0, subscriptions=3, groups=2)


ORDERED = """
from softstate.lease.table import LeaseTable
table = LeaseTable(0.0)
for n in range(40):
    table.add(table.grant(f"t{n * 7 % 40}", 0.0, 1.0 + n % 3), ["a", "a/"] if n % 2 else ["a", "/"])
    waste = [object() for _ in range(n)]
print([lease.token for lease in table.members("a")])
print([lease.token for group in table.reached("a/b") for lease in group])
print([lease.token for lease in table.expire(60.0)])
"""


def test_the_order_depends_on_the_history_alone() -> None:
    root = Path(softstate.__path__[0]).parent
    outputs = [
        subprocess.run(
            [sys.executable, "-c", ORDERED],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 3
