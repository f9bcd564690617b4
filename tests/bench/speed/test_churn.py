"""Churn on real sockets: the needs and the costs exactly, and each scenario very small with a real server."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from bench.load.durations import Durations
from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.measure.servers import ServerFailed
from bench.speed.churn import place as places
from bench.speed.churn.churn import SCENARIOS, churn, fitting_sizes, run
from bench.speed.churn.place import Needs, Phase, Sample, needs_of, summed
from bench.speed.churn.scenarios import TERMS, Costs, Terms, growth, mobile
from softstate.errors import ConfigError

SMALL = Terms(
    ttl_s=1.0, mean_s=3.0, hold_s=0.8, fill_per_s=200.0, publishes_per_s=20.0, cost_sessions=10, cost_s=0.3,
    cost_publishes_per_s=20.0, calm_s=0.4, crowded=5, crowd=20, crowd_s=1.2, departing=20, departure_s=1.2, mobile=20,
    mobile_s=2.0, away_s=(0.05, 0.4), rest_s=0.3, brief_s=0.1,
)  # fmt: skip


def test_processes_are_as_many_as_their_files_allow() -> None:
    assert needs_of(1_000, 20_000) == Needs(1_000, workers=1, parts=1)
    assert needs_of(5_000, 20_000) == Needs(5_000, workers=1, parts=2)
    assert needs_of(57_000, 20_000) == Needs(57_000, workers=4, parts=3)
    assert needs_of(57_000, 1_000_000).workers == 4  # connections_max of a node
    assert needs_of(1_000, 1_024).workers == 2
    with pytest.raises(ConfigError, match=r"this process may open 100 files: raise the limit"):
        needs_of(1, 100)


def test_what_the_machine_cannot_hold_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "available_bytes", lambda: 300 * 1024**2)
    with pytest.raises(ConfigError, match=r"connections need 1\.\d GiB, of which .* 0\.3: give a smaller number"):
        churn(Measuring(), sizes=(500, 50_000))
    report = Report("churn", "small")
    assert fitting_sizes(report, TERMS[False], (), (500, 5_000, 50_000)) == [500, 5_000]
    assert [note.partition(":")[0] for note in report.notes] == ["left out"]
    with pytest.raises(ConfigError, match="there is no scenario calm: --only takes steady, crowd, departure, mobile"):
        churn(Measuring(), only=("calm",))


def test_gauges_of_all_workers_add_up() -> None:
    metrics = '# HELP\nsoftstate_sessions{worker="1"} 2.0\nsoftstate_sessions{worker="2"} 5\nsoftstate_sessions_max 9\n'
    assert summed(metrics, "sessions") == (2, 7.0)
    assert summed("softstate_sessions 3.0\n", "sessions") == (1, 3.0)
    assert summed(metrics, "leases") is None


def test_costs_add_up() -> None:
    stale = Durations()
    stale.add(0.001)
    counts = Counter({"arrivals": 2, "renewals": 3, "publishes": 4})
    phase = Phase(10.0, counts, 0, stale, Durations(), 0.0, 0.0, [])
    assert Costs(1.0, 10.0, 100.0, 1_000.0, 10_000.0).of(phase, workers=2) == 2 + 30 + 400 + 1_000 + 200_000
    with pytest.raises(ServerFailed, match="too busy to measure on"):
        phase.mean("sessions")


def test_growth_compares_thirds() -> None:
    sample = Sample(0.0, 1, 1, 100)
    assert growth([sample]) == 1.0
    assert growth([replace(sample, resident=value) for value in (1, 2, 100, 100, 130, 130)]) == pytest.approx(1.3)


def test_the_rate_keeps_as_many_present_as_are_wanted() -> None:
    assert TERMS[False].arrivals_per_s(50_000) == pytest.approx(50_000 / (240.0 * 0.878), rel=0.01)
    assert TERMS[False].needs(1_000).connections == pytest.approx(1_000 * (1 + 0.25 * 132 / (240 * 0.878)), rel=0.01)


@pytest.mark.timeout(60)
def test_those_that_vanish_return_to_their_session() -> None:
    figures = mobile(SMALL)
    assert 0 < figures["resumed"] == figures["returned"]
    assert figures["leases"] > 0 < figures["connections"]
    assert figures["behind"] == figures["lost"] == figures["mismatches"] == 0


@pytest.mark.timeout(120)
def test_every_scenario_runs() -> None:
    report = Report("churn", "small")
    run(report, SMALL, [20], SCENARIOS)
    titles = [table.title.partition(":")[0] for table in report.tables]
    assert titles == ["costs, one activity at a time", "steady", "steady", "flash crowd", "mass departure", "mobile"]
    leases, costs, crowd, departure = (table.rows[0].medians for table in report.tables[1:5])
    assert leases["leases"] > 0 < leases["stale_p50_s"]
    assert costs["cores_off"] > 0
    assert crowd["leases"] > crowd["leases_before"] + 10
    assert departure["left"] >= 10
    assert departure["leases"] < departure["leases_before"]
