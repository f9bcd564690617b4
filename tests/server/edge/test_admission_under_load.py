"""Admission against more clients than a node can serve, who give up: how many are served, and that each rule counts.

A model of one node: to serve one takes a hundredth of a second, to refuse one a fifth of that (`CAPACITIES`), and the
rate is the one that it measures. Served means answered before its client has given up. The shares are those that a node
is to keep at twice and at four times what it can serve.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.admission import CAPACITIES, Admission, Kind, Queue
from softstate.session import ServiceRate

TIMEOUT_S = 5.0
SERVE_S = 0.01
REFUSE_S = SERVE_S / 5
CAPACITY_PER_S = 1 / SERVE_S
LASTS_S = 30.0
QUEUE_MAX = CAPACITIES * TIMEOUT_S * CAPACITY_PER_S


class Node:
    """Serves clients who knock at given times; `served` has the times of answers in time, `late` counts the others."""

    def __init__(self, prior_per_s: float = CAPACITY_PER_S) -> None:
        self.now = 0.0
        self.served: list[float] = []
        self.late = self.refused = self.most_waiting = 0
        self.rate = ServiceRate(prior_per_s=prior_per_s)
        self.admission = Admission(
            Bulkhead(), dict.fromkeys(Kind, self.rate), TIMEOUT_S, lambda: 1.0, lambda: self.now
        )  # fmt: skip

    def run(self, arrivals: list[float]) -> None:
        """Let clients knock, in order of time, and serve until none waits; while it is full the system refuses."""
        coming = iter(arrivals)
        due = next(coming, None)
        while due is not None or self.admission.waiting:
            if due is not None and not self.admission.waiting:
                self.now = max(self.now, due)
            self.admission.begin_turn()
            while due is not None and due <= self.now:
                if self.admission.full:
                    self.refused += 1
                else:
                    self.admission.ask(Kind.UPGRADE, Client(self, due), due, self.now)
                due = next(coming, None)
            self.most_waiting = max(self.most_waiting, self.admission.waiting)
            self.admission.serve(self.now)


class Client:
    """Gives up `TIMEOUT_S` after it knocked."""

    def __init__(self, node: Node, since: float) -> None:
        self.node = node
        self.since = since

    def admitted(self) -> None:
        node = self.node
        node.rate.began(node.now)
        node.now += SERVE_S
        node.rate.ended(node.now)
        if node.now - self.since <= TIMEOUT_S:
            node.served.append(node.now)
        else:
            node.late += 1

    def shed(self) -> None:
        self.node.refused += 1
        self.node.now += REFUSE_S

    def fail(self) -> None:
        raise AssertionError("no bug is met here")


def lasting(times: float) -> list[float]:
    """Return arrivals, evenly, at so many times the capacity."""
    each_s = SERVE_S / times
    return [number * each_s for number in range(round(LASTS_S / each_s))]


def shares(node: Node) -> list[float]:
    """Return what was served in each second of the load, as a part of the capacity."""
    return [sum(second <= at < second + 1 for at in node.served) / CAPACITY_PER_S for second in range(int(LASTS_S))]


@pytest.mark.parametrize(("times", "least"), [(1.0, 0.99), (2.0, 0.7), (4.0, 0.5), (16.0, 0.5)])
def test_goodput_does_not_fall_while_the_load_lasts(times: float, least: float) -> None:
    node = Node()
    node.run(lasting(times))
    each = shares(node)
    assert min(each) >= least, each
    assert min(each[15:]) >= 0.9 * min(each[:15]), each
    assert node.late == 0
    assert node.most_waiting <= 1.1 * QUEUE_MAX


@pytest.mark.parametrize("prior_per_s", [20.0, 100.0, 500.0, 5_000.0])
def test_a_herd_that_can_be_served_in_time_is_served_whole(prior_per_s: float) -> None:
    """Of all who come at once none is refused, fast or slow as the node takes itself to be when it starts."""
    node = Node(prior_per_s)
    node.run([0.0] * round(0.75 * TIMEOUT_S * CAPACITY_PER_S))
    assert node.refused == node.late == 0


@pytest.mark.parametrize("prior_per_s", [100.0, 500.0, 5_000.0])
def test_of_a_herd_that_is_too_large_as_many_are_served_as_can_be(prior_per_s: float) -> None:
    node = Node(prior_per_s)
    node.run([0.0] * round(3 * TIMEOUT_S * CAPACITY_PER_S))
    assert len(node.served) >= 0.75 * TIMEOUT_S * CAPACITY_PER_S
    assert node.late <= 0.02 * TIMEOUT_S * CAPACITY_PER_S


# Mutants: each takes one rule away ------------------------------------------------------------------------------------


def none_is_refused(patch: pytest.MonkeyPatch) -> None:
    """All are served, in order of arrival, however old they are; and the system refuses none."""
    patch.setattr(ServiceRate, "in_time", lambda *_: True)
    patch.setattr(Admission, "full", False)


def refused_at_half_of_the_time(patch: pytest.MonkeyPatch) -> None:
    """One that has waited for half of the time that clients wait is refused, however many can still be served."""
    serve_one = Admission._serve_one

    def by_age(self: Admission, queue: Queue, now: float) -> None:
        applicant, since = next(iter(queue.waiting.items()))
        if now - since > TIMEOUT_S / 2:
            del queue.waiting[applicant]
            applicant.shed()
        else:
            serve_one(self, queue, now)

    patch.setattr(Admission, "_serve_one", by_age)


def all_that_are_late_are_refused_first(patch: pytest.MonkeyPatch) -> None:
    """None is served while one waits that is too late."""
    patch.setattr(Queue, "has_shed", property(lambda _: False, lambda *_: None))


def always_accepts(patch: pytest.MonkeyPatch) -> None:
    """The node is never full: it refuses by itself whom the system could."""
    patch.setattr(Admission, "full", False)


def goodput_at_twice() -> bool:
    node = Node()
    node.run(lasting(2.0))
    return min(shares(node)) >= 0.7


def goodput_at_sixteen_times() -> bool:
    node = Node()
    node.run(lasting(16.0))
    return min(shares(node)) >= 0.5


def queue_is_bounded() -> bool:
    node = Node()
    node.run(lasting(4.0))
    return node.most_waiting <= 1.1 * QUEUE_MAX


def herd_is_served() -> bool:
    node = Node()
    node.run([0.0] * round(0.75 * TIMEOUT_S * CAPACITY_PER_S))
    return node.refused == 0


@pytest.mark.parametrize(
    ("mutate", "holds"),
    [
        (none_is_refused, goodput_at_twice),
        (refused_at_half_of_the_time, herd_is_served),
        (all_that_are_late_are_refused_first, goodput_at_sixteen_times),
        (always_accepts, queue_is_bounded),
    ],
)
def test_a_mutant_is_caught(
    mutate: Callable[[pytest.MonkeyPatch], None], holds: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert holds()
    mutate(monkeypatch)
    assert not holds()
