"""The trial ``simulate``: its counts, and its report of a failure."""

import json

import pytest

from bench.trials import simulate as trial
from bench.trials.simulate import simulate
from softstate.testing.simulation.schedule import Outcome, draw_schedule


def test_worlds_are_run_and_counted() -> None:
    report = simulate(2, first=5, processes=1)
    assert report.ok, str(report)
    figures = json.loads(report.json())
    assert figures["worlds"] == 2
    assert figures["steps"] > 2_000
    assert figures["faults"]["heal"] == 2
    assert figures["margin_s"] >= 0
    assert "seeds 5 to 6" in str(report)


def test_a_failure_is_reported_with_its_seed_and_the_faults_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = tuple(draw_schedule(1))
    monkeypatch.setattr(trial, "run_seed", lambda seed, *, permissions: Outcome(seed, schedule, error="S1 broken"))
    monkeypatch.setattr(trial, "minimise", lambda outcome, *, permissions: [outcome.schedule[2]])
    report = simulate(5, processes=1)
    assert not report.ok
    assert "seed 0: S1 broken" in str(report)
    assert f"faults that it needs:\n    {schedule[2]}" in str(report)
    assert sum(failure.needed is not None for failure in report.failures) == trial.FAILURES_MINIMISED_MAX
