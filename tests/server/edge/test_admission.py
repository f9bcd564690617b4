"""Admission: in order of arrival while all are predicted to be in time, else newest first; too late is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.admission import CAPACITIES, SERVE_S_MAX, Admission, Kind
from softstate.session import ServiceRate
from softstate.session.load_advice import SERVED_WITHIN

TIMEOUT_S = 5.0
WITHIN_S = SERVED_WITHIN * TIMEOUT_S


class Client:
    def __init__(self, rig: Rig, name: object) -> None:
        self.rig = rig
        self.name = name

    def admitted(self) -> None:
        self.rig.time_s += self.rig.each_s
        self.rig.told.append(self.name)
        if self.name == "broken":
            raise ZeroDivisionError

    def shed(self) -> None:
        self.rig.told.append(f"shed {self.name}")

    def fail(self) -> None:
        self.rig.told.append(f"failed {self.name}")


class Rig:
    """Queues of a node that serves 100 a second; a turn has time for `per_turn`."""

    def __init__(self, per_turn: int = 1, *, strict: bool = True) -> None:
        self.time_s = 0.0
        self.each_s = SERVE_S_MAX / per_turn
        self.told: list[object] = []
        self.rates = {kind: ServiceRate(prior_per_s=100.0) for kind in Kind}
        self.bulkhead = Bulkhead(strict=strict, now=lambda: 0.0)
        self.admission = Admission(self.bulkhead, self.rates, TIMEOUT_S, lambda: 7.0, lambda: self.time_s)

    def ask(self, name: object, since: float = 0.0, kind: Kind = Kind.UPGRADE) -> Client:
        client = Client(self, name)
        self.admission.begin_turn()
        self.admission.ask(kind, client, since, since)
        return client

    def turn(self, now: float = 0.0) -> list[object]:
        """Have one turn; return what was told in it."""
        before = len(self.told)
        self.admission.begin_turn()
        self.admission.serve(now)
        return self.told[before:]


def test_without_a_pump_one_is_served_at_once() -> None:
    rig = Rig()
    client = Client(rig, "a")
    rig.admission.ask(Kind.UPGRADE, client, 0.0, 0.0)
    rig.admission.ask(Kind.POLL, Client(rig, "b"), 0.0, 0.0)
    assert rig.told == ["a", "b"]


def test_a_turn_serves_for_two_milliseconds_in_order_of_arrival() -> None:
    rig = Rig(per_turn=4)
    for number in range(10):
        rig.ask(number)
    assert [rig.turn(), rig.turn(), rig.turn(), rig.turn()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]
    assert rig.admission.waiting == 0


def test_one_of_each_kind_is_served_however_long_it_takes() -> None:
    rig = Rig()
    rig.each_s = 1.0
    for number in range(2):
        rig.ask(f"upgrade {number}")
        rig.ask(f"poll {number}", kind=Kind.POLL)
    assert rig.turn() == ["upgrade 0", "poll 0"]
    assert rig.turn() == ["upgrade 1", "poll 1"]


def test_many_of_one_kind_leave_the_other_its_turns() -> None:
    rig = Rig(per_turn=2)
    for number in range(100):
        rig.ask(number)
    rig.ask("poll", kind=Kind.POLL)
    assert rig.turn() == [0, "poll"]


def test_all_that_can_be_served_in_time_are_served_in_order() -> None:
    rig = Rig()
    for number in range(int(WITHIN_S * 100)):
        rig.ask(number)
    assert [rig.turn(number / 100) for number in range(int(WITHIN_S * 100))] == [
        [number] for number in range(int(WITHIN_S * 100))
    ]


def test_one_more_is_served_first_and_the_others_behind_it() -> None:
    rig = Rig()
    for number in range(int(WITHIN_S * 100) + 1):
        rig.ask(number)
    assert rig.turn() == [int(WITHIN_S * 100)]
    assert rig.turn() == [0], "the rest will be in time"
    assert rig.turn() == [1]


def test_old_ones_are_served_after_new_ones_that_would_be_late() -> None:
    rig = Rig()
    for number in range(500):
        rig.ask(number, since=0.0)
    assert rig.turn(1.0) == [499]
    rig.ask("new", since=1.0)
    assert rig.turn(1.0) == ["new"]


def test_none_is_shed_for_a_rate_that_is_not_known_yet() -> None:
    """Trap: 15,000 at once at a node that has just started, and could serve them all."""
    rig = Rig(per_turn=10)
    for number in range(15_000):
        rig.ask(number)
    for turn in range(1_500):
        rig.turn(turn * 0.002)
    assert len(rig.told) == 15_000
    assert set(rig.told) == set(range(15_000))


def test_one_that_is_too_late_is_refused_and_at_the_limit_it_is_served() -> None:
    rig = Rig()
    rig.ask("in time")
    assert rig.turn(WITHIN_S) == ["in time"]
    rig.ask("too late")
    assert rig.turn(WITHIN_S + 0.01) == ["shed too late"]
    assert rig.admission.statistics() == {
        "handshakes_waiting": 0, "handshakes_shed": 1, "polls_waiting": 0, "polls_shed": 0,
    }  # fmt: skip


def test_what_is_in_progress_counts_and_each_kind_has_its_own_rate() -> None:
    rig = Rig()
    for _ in range(int(WITHIN_S * 100) + 1):
        rig.rates[Kind.POLL].began(0.0)
    rig.ask("upgrade")
    rig.ask("poll", kind=Kind.POLL)
    assert rig.turn() == ["upgrade", "shed poll"]


def test_one_that_has_gone_is_not_served() -> None:
    rig = Rig(per_turn=3)
    gone, _ = rig.ask("gone"), rig.ask("here")
    rig.admission.leave(Kind.UPGRADE, gone)
    rig.admission.leave(Kind.UPGRADE, gone)
    assert rig.turn() == ["here"]


def test_a_bug_with_one_leaves_the_others_alone() -> None:
    rig = Rig(per_turn=3, strict=False)
    rig.ask("broken")
    rig.ask("other")
    assert rig.turn() == ["broken", "failed broken", "other"]
    assert rig.bulkhead.bugs == 1


def test_one_that_is_refused_comes_back_after_all_that_waits_and_a_spread() -> None:
    rig = Rig()
    for number in range(200):
        rig.ask(number)
    for _ in range(100):
        rig.rates[Kind.UPGRADE].began(0.0)
    assert rig.admission.retry_s(Kind.UPGRADE) == pytest.approx(2.0 + 1.0 + 7.0)
    assert rig.admission.retry_s(Kind.POLL) == 7.0


def test_a_node_is_full_when_four_times_as_many_wait_as_it_can_serve_in_time() -> None:
    rig = Rig()
    for number in range(int(CAPACITIES * 100 * TIMEOUT_S) - 1):
        rig.ask(number)
    told = [rig.admission.full]
    client = rig.ask("last")
    told.append(rig.admission.full)
    rig.admission.leave(Kind.UPGRADE, client)
    assert [*told, rig.admission.full] == [False, True, False]


@given(
    arrivals=st.lists(st.tuples(st.floats(0, 20), st.sampled_from(Kind)), max_size=60),
    rate=st.floats(1, 40),
    gone=st.sets(st.integers(0, 60)),
)
@settings(max_examples=200, deadline=None)
def test_each_is_told_once_and_none_is_served_that_is_too_late(
    arrivals: list[tuple[float, Kind]], rate: float, gone: set[int]
) -> None:
    rig = Rig()
    since = sorted(at for at, _ in arrivals)
    waiting: dict[int, Client] = {}
    now, told = 0.0, 0
    left: set[int] = set()
    while len(rig.told) + len(left) < len(arrivals):
        while len(waiting) < len(arrivals) and since[len(waiting)] <= now:
            number = len(waiting)
            kind = arrivals[number][1]
            waiting[number] = rig.ask(number, since[number], kind)
            if number in gone:
                rig.admission.leave(kind, waiting[number])
                left.add(number)
        for one in rig.turn(now):
            if isinstance(one, int):
                assert now - since[one] <= WITHIN_S
            else:
                assert now - since[int(str(one).removeprefix("shed "))] > WITHIN_S
        now += 1 / rate
        told += 1
        assert told < 10_000
    assert len({str(one).removeprefix("shed ") for one in rig.told}) == len(rig.told)
