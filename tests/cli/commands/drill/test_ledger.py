"""The drill's bookkeeping and judgement: every broken promise must be noticed."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from softstate.cli.commands.drill.advised_times import AdvisedTimes
from softstate.cli.commands.drill.ledger import Fault, Ledger
from softstate.cli.commands.drill.plan import Plan
from softstate.cli.commands.drill.reports import Applied, Sample, Tick
from softstate.cli.commands.drill.verdict import HERD_PER_S_MIN, Figures, Spread, broken, judge, percentile

TERMS = AdvisedTimes(
    ttl_s=3.0, renew_s=1.0, timeout_s=1.0, poll_every_s=0.5, poll_spread_s=0.1, recover_spread_s=0.1,
    recover_cap_s=2.0, beat_s=0.0, durability="durable",
)  # fmt: skip
AGE_S_MAX = 1.2 * 1.0 + 1.0 + 0.1 + 1.0
CONVERGE_S_MAX = 2.0 + 3.0
PLAN = Plan(kind="server", clients=2, for_s=30.0, prefix="d/")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger([(0, 1), (1, 2)])


def sample(at_s: float, age_s: float | None, client: int = 0, mode: Any = "live", **counts: int) -> Sample:
    return Sample(client, at_s, age_s, mode, counts.get("connects", 1), counts.get("polls", 0), counts.get("resets", 0))


def applied(version: int, at_s: float, topic: int = 0, client: int = 0, sent_s: float = 0.0) -> Applied:
    return Applied(client, topic, version, sent_s, at_s)


@pytest.mark.parametrize(
    ("per_cent", "expected"), [(50, 50.0), (99, 99.0), (100, 100.0), (0.5, 1.0)]
)  # fmt: skip
def test_percentiles_are_nearest_ranks(per_cent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], per_cent) == expected


def test_percentiles_of_one_and_of_nothing() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)
    assert math.isnan(Spread.of([]).p50_s)


def test_staleness_counts_from_the_first_acknowledgement_that_is_not_applied(ledger: Ledger) -> None:
    ledger.acknowledge(0, 3, sent_s=9.9, now=10.0)
    ledger.acknowledge(0, 5, sent_s=10.9, now=11.0)
    ledger.acknowledge(2, 6, sent_s=1.0, now=1.0)
    follower = ledger.followers[0]
    assert ledger.staleness_s(follower, 12.0) == 2.0
    ledger.apply(applied(3, 12.0))
    assert ledger.staleness_s(follower, 12.0) == 1.0
    ledger.apply(applied(5, 12.0))
    assert ledger.staleness_s(follower, 12.0) == 0.0


def test_an_age_below_the_staleness_is_too_young(ledger: Ledger) -> None:
    ledger.acknowledge(0, 3, sent_s=10.0, now=10.0)
    ledger.sample(sample(12.0, None))
    ledger.sample(sample(12.0, 2.0))
    assert (ledger.samples, ledger.too_young, ledger.least_margin_s) == (1, 0, 0.0)
    ledger.sample(sample(12.0, 1.9))
    assert (ledger.samples, ledger.too_young) == (2, 1)
    assert ledger.worst_staleness_s == 2.0
    assert ledger.least_margin_s == pytest.approx(-0.1)


def test_what_was_applied_before_a_sample_counts_for_it(ledger: Ledger) -> None:
    ledger.acknowledge(0, 3, sent_s=10.0, now=10.0)
    ledger.take(Tick([applied(3, 11.9)], [sample(12.0, 0.1)]))
    assert ledger.too_young == 0


def test_going_back_is_counted_but_not_for_a_client_that_was_killed(ledger: Ledger) -> None:
    ledger.apply(applied(5, 1.0))
    ledger.apply(applied(5, 1.0))
    assert ledger.went_back == 0
    ledger.apply(applied(4, 1.0))
    assert ledger.went_back == 1
    ledger.restart([0])
    ledger.apply(applied(3, 2.0))
    assert ledger.went_back == 1


def test_going_back_is_not_counted_across_a_reset(ledger: Ledger) -> None:
    ledger.apply(applied(5, 1.0))
    ledger.apply(Applied(0, 0, 3, 0.0, 2.0, resets=1))
    assert (ledger.went_back, ledger.followers[0].versions) == (0, {0: 3})
    ledger.apply(Applied(0, 0, 2, 0.0, 2.0, resets=1))
    assert ledger.went_back == 1


def test_phantoms_are_versions_that_nobody_published(ledger: Ledger) -> None:
    ledger.acknowledge(0, 3, sent_s=1.0, now=1.0)
    ledger.apply(applied(3, 1.0))
    assert ledger.phantoms() == 0
    ledger.apply(applied(4, 1.0))
    assert ledger.phantoms() == 1


def test_a_lost_acknowledgement_is_counted(ledger: Ledger) -> None:
    ledger.acknowledge(0, 3, sent_s=1.0, now=1.0)
    ledger.acknowledge(0, 5, sent_s=2.0, now=2.0)
    ledger.acknowledge(1, 6, sent_s=3.0, now=3.0)
    assert [ledger.lost(stored) for stored in ({0: 5, 1: 6}, {0: 4, 1: 9}, {0: 5}, {})] == [0, 1, 1, 3]


def test_recovery_is_timed_by_values_and_certificates_from_after(ledger: Ledger) -> None:
    ledger.fault = Fault(began_s=10.0, touched=(0,))
    ledger.apply(applied(3, 11.0, sent_s=9.9))
    assert ledger.followers[0].fresh_s == math.inf
    ledger.apply(applied(4, 12.0, sent_s=10.1))
    ledger.apply(applied(5, 13.0, sent_s=12.1))
    assert ledger.followers[0].fresh_s == 12.0
    ledger.sample(sample(12.0, 0.1))
    ledger.fault.ended_s = 13.0
    ledger.sample(sample(13.5, 0.6))
    ledger.sample(sample(13.5, 0.1, mode="polling"))
    assert ledger.followers[0].live_s == math.inf
    ledger.sample(sample(14.0, 1.0))
    assert ledger.followers[0].live_s == 14.0


def test_a_client_has_caught_up_when_it_knows_what_was_acknowledged_before_the_end(ledger: Ledger) -> None:
    ledger.fault = Fault(began_s=10.0, ended_s=12.0)
    ledger.acknowledge(0, 3, sent_s=11.0, now=11.0)
    ledger.acknowledge(0, 4, sent_s=12.5, now=12.5)
    ledger.sample(sample(13.0, 5.0))
    assert ledger.followers[0].caught_up_s == math.inf
    ledger.apply(applied(3, 13.5))
    ledger.sample(sample(14.0, 5.0))
    assert ledger.followers[0].caught_up_s == 14.0


def test_peaks_are_counted_by_the_second_after_the_fault(ledger: Ledger) -> None:
    ledger.sample(sample(9.0, None, connects=7, polls=7))
    ledger.fault = Fault(began_s=10.0)
    ledger.sample(sample(10.5, None, connects=9, polls=8))
    ledger.sample(sample(10.9, None, client=1, connects=1, polls=0))
    ledger.sample(sample(11.1, None, connects=9, polls=13))
    assert dict(ledger.connects) == {0: 3, 1: 0}
    assert dict(ledger.polls) == {0: 1, 1: 5}


def test_latency_is_counted_in_health_only(ledger: Ledger) -> None:
    ledger.apply(applied(3, 1.0))
    ledger.times = TERMS
    ledger.sample(sample(2.0, 0.0))
    ledger.apply(applied(4, 3.5, sent_s=3.0))
    ledger.fault = Fault(began_s=4.0)
    ledger.apply(applied(5, 5.0, sent_s=3.9))
    assert list(ledger.latencies_s) == [0.5]


@pytest.mark.parametrize(
    ("fault", "at_s", "allowed_s"),
    [
        (Fault(), 50.0, AGE_S_MAX),
        (Fault(10.0, 15.0, touched=(0,)), 9.0, AGE_S_MAX),
        (Fault(10.0, 15.0, touched=(1,)), 12.0, AGE_S_MAX),
        (Fault(10.0, 15.0, touched=(0,), reachable=True), 12.0, AGE_S_MAX),
        (Fault(10.0, 15.0, touched=(0,)), 12.0, AGE_S_MAX + 2.0),
        (Fault(10.0, 15.0, touched=(0,)), 15.0 + CONVERGE_S_MAX, AGE_S_MAX + 5.0 + CONVERGE_S_MAX),
        (Fault(10.0, 15.0, touched=(0,)), 15.1 + CONVERGE_S_MAX, AGE_S_MAX),
    ],
)
def test_an_age_above_what_b_and_l_allow_is_counted(
    ledger: Ledger, fault: Fault, at_s: float, allowed_s: float
) -> None:
    ledger.times, ledger.fault = TERMS, fault
    ledger.sample(sample(at_s, allowed_s - 0.01))
    assert ledger.over_bound == 0
    ledger.sample(sample(at_s, allowed_s + 0.01))
    assert ledger.over_bound == 1


def test_with_beats_the_bound_follows_from_them_and_not_from_renewals() -> None:
    patient = dataclasses.replace(TERMS, ttl_s=60.0, renew_s=20.0)
    assert patient.age_s_max == pytest.approx(1.2 * 20.0 + 1.0 + 0.1 + 1.0)
    beaten = dataclasses.replace(patient, beat_s=1.0)
    assert beaten.age_s_max == pytest.approx(1.2 * 1.0 + 0.02 * 1.2 * 20.0 + 1.0 + 0.1 + 1.0)


def healthy_drill(ledger: Ledger) -> Figures:
    """Play a drill in which everything goes well, and judge it."""
    ledger.times = TERMS
    for topic in range(3):
        ledger.acknowledge(topic, topic + 1, sent_s=1.0, now=1.0)
    for client, topics in ((0, (0, 1)), (1, (1, 2))):
        ledger.take(Tick([applied(topic + 1, 1.1, topic, client, 1.0) for topic in topics], []))
        ledger.sample(sample(2.0, 1.0, client))
    ledger.fault = Fault(began_s=10.0, ended_s=12.0, touched=(0, 1), reachable=True)
    for topic in range(3):
        ledger.acknowledge(topic, topic + 4, sent_s=11.0, now=11.0)
    for client, topics in ((0, (0, 1)), (1, (1, 2))):
        ledger.take(Tick([applied(topic + 4, 11.5, topic, client, 11.0) for topic in topics], []))
        ledger.sample(sample(13.0, 0.5, client, connects=2, polls=3))
    return judge(PLAN, ledger, TERMS, published=6, stored={0: 4, 1: 5, 2: 6})


def test_a_drill_without_a_broken_promise_is_ok(ledger: Ledger) -> None:
    figures = healthy_drill(ledger)
    assert figures.broken == ()
    assert figures.fresh == Spread(1.5, 1.5, 1.5)
    assert figures.live == Spread(3.0, 3.0, 3.0)
    assert (figures.lost, figures.connect_peak_per_s, figures.poll_peak_per_s) == (0, 2, 6)
    report = json.loads(figures.json())
    assert report["ok"] is True
    assert report["fresh"]["p99_s"] == 1.5
    assert dict(figures.rows())["RPO: acknowledged, then lost"] == "0"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"went_back": 1}, "S1"),
        ({"phantoms": 1}, "S2"),
        ({"lost": 1}, "S3"),
        ({"too_young": 1}, "S5"),
        ({"resets": 1}, "S9"),
        ({"over_bound": 1}, "B"),
        ({"caught_up": Spread(1.0, 1.0, CONVERGE_S_MAX + 0.1)}, "L"),
        ({"caught_up": Spread(1.0, 1.0, math.inf)}, "L"),
        ({"behind": 1}, "L"),
        ({"connect_per_s_max": 1.9}, "no herd"),
        ({"fresh": Spread(1.0, 1.0, math.inf)}, "some client never saw a fresh value"),
        ({"live": Spread(1.0, 1.0, math.inf)}, "some client was never live again"),
        ({"samples": 0}, "nothing was checked"),
        ({"acknowledged": 0}, "nothing was checked"),
    ],
)
def test_each_broken_promise_is_named(ledger: Ledger, wrong: dict[str, Any], named: str) -> None:
    found = broken(dataclasses.replace(healthy_drill(ledger), **wrong))
    assert [text.partition(":")[0] for text in found] == [named]


def test_a_herd_is_more_than_three_attempts_of_each_client_within_the_spread(ledger: Ledger) -> None:
    healthy_drill(ledger)
    rolling = dataclasses.replace(PLAN, kind="rolling")
    for clients, spread_s, limit in ((2, 0.1, HERD_PER_S_MIN), (100, 0.1, 300.0), (100, 4.0, 75.0)):
        ledger.fault.touched = [client % 2 for client in range(clients)]
        ledger.connects[1] = 76
        times = dataclasses.replace(TERMS, recover_spread_s=spread_s, recover_cap_s=4.0)
        figures = judge(rolling, ledger, times, published=6, stored={0: 4, 1: 5, 2: 6})
        assert figures.connect_per_s_max == limit
        assert [text[:7] for text in figures.broken] == ([] if limit > 75 else ["no herd"])


def test_what_never_happened_is_null_in_json_and_told_to_people(ledger: Ledger) -> None:
    never = dataclasses.replace(healthy_drill(ledger), live=Spread.of([1.0, math.inf]), broken=("S1: so",))
    report = json.loads(never.json())
    assert (report["live"], report["ok"]) == ({"p50_s": 1.0, "p99_s": None, "max_s": None}, False)
    assert dict(never.rows())["RTO: fault to live again"] == "p50 1.00 s, p99 never, max never"
