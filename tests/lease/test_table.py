import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import softstate
from softstate.errors import NoLease, Overloaded, TooLarge
from softstate.lease.table import FULL_RETRY_MS, OVER, REAPED_MAX, Lease, LeaseCounts, LeaseTable
from softstate.lease.timer_wheel import LOOK_AHEAD_TICKS, TICK_S, VISITS_MAX
from softstate.names import covers
from softstate.wire.push import PushBatch
from softstate.wire.subscription_digest import digest_of

TOPICS = ["a", "a/b", "a/b/c", "a/bc", "b", "b/a", "ab/c"]
NAMES = [*TOPICS, "/", "a/", "a/b/", "b/", "ab/"]
NOTHING = LeaseCounts(sessions=0, attached=0, detached=0, given_up=0, subscriptions=0, groups=0)
SUBSCRIPTIONS_MAX = 5
SESSIONS_MAX = 20
DETACHED_MAX = 2


class UncalledSink:
    """A sink that is never called."""

    def offer(self, batch: PushBatch) -> None:
        raise AssertionError(batch)


def equal_copy(text: str) -> str:
    """Return an equal string that is another object, as a codec does."""
    return text.encode().decode()


def tokens(leases: Iterable[Lease]) -> list[str]:
    return [lease.token for lease in leases]


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


# Limits --------------------------------------------------------------------------------------------------------------


def test_the_last_session_fits_and_the_next_is_overloaded() -> None:
    table = LeaseTable(0.0, sessions_max=2)
    first = table.grant("t", 0.0, 60.0)
    table.grant("u", 0.0, 60.0)
    with pytest.raises(Overloaded) as caught:
        table.grant("v", 0.0, 60.0)
    assert caught.value.retry_ms == FULL_RETRY_MS
    assert table.get("v") is None
    table.release(first)
    table.grant("v", 0.0, 60.0)


def test_sessions_that_come_and_go_at_once_neither_pile_up_nor_keep_others_out() -> None:
    table = LeaseTable(0.0, grace=0.0, released_max=3)
    kept = table.grant("kept", 0.0, 5.0)
    for number in range(100):
        table.release(table.grant(f"t{number}", 0.0, 10.0))
        assert len(table._wheel) - len(table) <= 3
    assert table.expire(5.0) == [kept]
    assert table.expire(1000.0) == []
    assert len(table._wheel) == 0


# Leases without a connection -----------------------------------------------------------------------------------------


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


def test_the_last_subscription_fits_and_the_next_is_too_large() -> None:
    table = LeaseTable(0.0, subscriptions_max=3)
    lease = table.grant("t", 0.0, 60.0)
    table.add(lease, ["a", "b", "c"])
    table.add(lease, ["a", "b", "c", "c"])
    with pytest.raises(TooLarge, match="at most 3 subscriptions"):
        table.add(lease, ["a", "d"])
    table.check_room(lease, ["c", "a"])
    for names in (["d"], ["c", "d"]):
        with pytest.raises(TooLarge, match="at most 3 subscriptions, this would make it 4"):
            table.check_room(lease, names)
    assert list(lease.names) == ["a", "b", "c"]
    assert lease.digest == digest_of(["a", "b", "c"])
    assert table.statistics() == replace(NOTHING, sessions=1, attached=1, subscriptions=3, groups=3)
    table.remove(lease, ["a"])
    table.check_room(lease, ["d", "d"])
    assert table.add(lease, ["d", "d"]) == ["d"]


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


def test_expiry_looks_at_no_more_leases_than_its_limit() -> None:
    table = LeaseTable(0.0, grace=0.0)
    leases = [table.grant(f"t{n}", 0.0, 10.0) for n in range(VISITS_MAX + 1)]
    assert table.expire(10.0, limit=2) == leases[:2]
    assert table.next_expire_s(10.0) == 0.0
    assert table.expire(10.0) == leases[2 : VISITS_MAX + 2]
    assert table.next_expire_s(10.0) == LOOK_AHEAD_TICKS * TICK_S


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


# Against a model -----------------------------------------------------------------------------------------------------


class Model:
    """One lease as a naive table would keep it."""

    def __init__(self, lease: Lease, deadline: float, ttl_s: float) -> None:
        self.lease = lease
        self.deadline = deadline
        self.ttl_s = ttl_s
        self.names: set[str] = set()


class TableAgainstModel(RuleBasedStateMachine):
    """Times are multiples of 1/16 s and the grace is 1/4, so that sums are exact."""

    @initialize(begin=st.integers(0, 1000))
    def begin(self, begin: int) -> None:
        self.now = float(begin)
        self.grace = 0.25
        self.table = LeaseTable(
            self.now, grace=self.grace, sessions_max=SESSIONS_MAX, subscriptions_max=SUBSCRIPTIONS_MAX, reaped_max=1
        )
        self.held: dict[str, Model] = {}
        self.over: list[Lease] = []
        self.detached: list[str] = []
        self.given_up = 0
        self.serial = 0

    def pick(self, data: st.DataObject) -> Model:
        return self.held[data.draw(st.sampled_from(list(self.held)), label="token")]

    def forget(self, model: Model) -> None:
        del self.held[model.lease.token]
        self.over.append(model.lease)
        if model.lease.token in self.detached:
            self.detached.remove(model.lease.token)

    def give_up_first(self) -> None:
        self.forget(self.held[self.detached[0]])
        self.given_up += 1

    @rule(ttl_s=st.integers(1, 40), connected=st.booleans())
    def grant(self, ttl_s: int, connected: bool) -> None:
        self.serial += 1
        token = f"t{self.serial}"
        if len(self.held) == SESSIONS_MAX and not self.detached:
            with pytest.raises(Overloaded):
                self.table.grant(token, self.now, float(ttl_s))
            return
        if len(self.held) == SESSIONS_MAX:
            self.give_up_first()
        lease = self.table.grant(token, self.now, float(ttl_s))
        if connected:
            self.table.attach(lease, UncalledSink())
        self.held[token] = Model(lease, self.now + ttl_s * (1 + self.grace), float(ttl_s))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), within_s=st.sampled_from([None, 8.0]))
    def detach(self, data: st.DataObject, within_s: float | None) -> None:
        lease = self.pick(data).lease
        self.table.detach(lease)
        assert lease.sink is None
        if lease.token in self.detached:
            self.detached.remove(lease.token)
        self.detached.append(lease.token)
        if len(self.detached) > DETACHED_MAX:
            self.give_up_first()
        if within_s is not None:
            assert len(self.held) - len(self.detached) <= self.table.awaited(self.now, within_s) <= len(self.held)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def attach(self, data: st.DataObject) -> None:
        lease = self.pick(data).lease
        self.table.attach(lease, UncalledSink())
        if lease.token in self.detached:
            self.detached.remove(lease.token)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), ttl_s=st.none() | st.integers(1, 200))
    def extend(self, data: st.DataObject, ttl_s: int | None) -> None:
        model = self.pick(data)
        self.table.extend(model.lease, self.now, ttl_s and float(ttl_s))
        model.ttl_s = float(ttl_s or model.ttl_s)
        model.deadline = max(model.deadline, self.now + model.ttl_s * (1 + self.grace))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), names=st.lists(st.sampled_from(NAMES), max_size=8))
    def add(self, data: st.DataObject, names: list[str]) -> None:
        model = self.pick(data)
        if len(model.names | set(names)) > SUBSCRIPTIONS_MAX:
            with pytest.raises(TooLarge):
                self.table.add(model.lease, map(equal_copy, names))
            return
        fresh = self.table.add(model.lease, map(equal_copy, names))
        assert sorted(fresh) == sorted(set(names) - model.names)
        model.names |= set(names)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), names=st.lists(st.sampled_from(NAMES), max_size=8))
    def remove(self, data: st.DataObject, names: list[str]) -> None:
        model = self.pick(data)
        self.table.remove(model.lease, names)
        model.names -= set(names)

    @rule(limit=st.integers(1, 4))
    def reap(self, limit: int) -> None:
        waiting = sum(lease.count for lease in self.over)
        assert self.table.reap(limit) == min(limit, waiting)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        model = self.pick(data)
        self.table.release(model.lease)
        self.forget(model)

    @rule(sixteenths=st.one_of(st.integers(0, 40), st.integers(0, 100_000)), limit=st.sampled_from([1, 1000]))
    def time_passes(self, sixteenths: int, limit: int) -> None:
        self.now += sixteenths / 16
        for lease in self.table.expire(self.now, limit):
            assert self.held[lease.token].deadline <= self.now
            self.forget(self.held[lease.token])
        if limit == 1000:
            assert all(model.deadline > self.now - TICK_S for model in self.held.values())
            if any(lease.names for lease in self.over):
                assert self.table.next_expire_s(self.now) == 0
            else:
                assert 0 < self.table.next_expire_s(self.now) <= LOOK_AHEAD_TICKS * TICK_S

    @invariant()
    def agrees_on_every_lease(self) -> None:
        for token, model in self.held.items():
            lease = model.lease
            assert self.table.get(token) is lease
            assert lease.ttl_s == model.ttl_s
            assert lease.deadline == model.deadline
            assert set(lease.names) == model.names
            assert lease.count == len(model.names)
            assert lease.digest == digest_of(model.names)
        for lease in self.over:
            assert self.table.get(lease.token) is None
            assert lease.deadline == OVER
            assert lease.names or lease.digest == 0

    @invariant()
    def agrees_on_the_leases_that_a_topic_reaches(self) -> None:
        for topic in TOPICS:
            covering = [t for t, m in self.held.items() if any(covers(name, topic) for name in m.names)]
            members = tokens(lease for lease in self.table.members(topic) if lease.deadline != OVER)
            assert sorted(members) == sorted(covering)
            for group in self.table.reached(topic):
                assert covers(group.name, topic)
                held = [*(m.lease for m in self.held.values()), *self.over]
                assert sorted(tokens(group)) == sorted(lease.token for lease in held if group.name in lease.names)

    @invariant()
    def agrees_on_how_much_is_held(self) -> None:
        assert self.table.statistics() == LeaseCounts(
            sessions=len(self.held),
            attached=len(self.held) - len(self.detached),
            detached=len(self.detached),
            given_up=self.given_up,
            subscriptions=sum(lease.count for lease in [*(m.lease for m in self.held.values()), *self.over]),
            groups=len(
                {name for lease in [*(m.lease for m in self.held.values()), *self.over] for name in lease.names}
            ),
        )

    def teardown(self) -> None:
        if not hasattr(self, "table"):
            return
        self.now += 1_000_000
        assert sorted(tokens(self.table.expire(self.now))) == sorted(self.held)
        while self.table.reapable:
            self.table.reap(3)
        assert self.table.statistics() == replace(NOTHING, given_up=self.given_up)
        assert len(self.table._wheel) == 0


TestTableAgainstModel = TableAgainstModel.TestCase
TestTableAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
