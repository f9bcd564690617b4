"""The lease table against a model of it: random steps, and after each all that can be asked agrees."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from softstate.errors import Overloaded, TooLarge
from softstate.lease.table import OVER, Lease, LeaseCounts, LeaseTable
from softstate.lease.timer_wheel import LOOK_AHEAD_TICKS, TICK_S
from softstate.names import covers
from softstate.wire.subscription_digest import digest_of
from tests.kit.leases import NOTHING, UncalledSink, equal_copy

TOPICS = ["a", "a/b", "a/b/c", "a/bc", "b", "b/a", "ab/c"]
NAMES = [*TOPICS, "/", "a/", "a/b/", "b/", "ab/"]
SUBSCRIPTIONS_MAX = 5
SESSIONS_MAX = 20
DETACHED_MAX = 2


def tokens(leases: Iterable[Lease]) -> list[str]:
    return [lease.token for lease in leases]


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
