"""An idle node and lone publishes, very short, with real servers: the bench runs and charges right, at any speed."""

from __future__ import annotations

import os

import pytest

from bench.measure.report import Report
from bench.speed import lone


@pytest.mark.timeout(60)
def test_an_idle_node_is_measured_with_and_without_sessions() -> None:
    report = Report("lone", "small")
    result = lone.resting(report, 3, 0.1, 1)
    assert list(result.runs) == [
        "softstate, no clients",
        "softstate, with sessions",
        "softstate, with sessions and beats",
        "softstate memory:, no clients",
        "trio-websocket, with sessions",
    ]
    assert all(run["busy"] > 0 for runs in result.runs.values() for run in runs)
    assert [target.ok is None for target in report.targets] == [False] * 3


@pytest.mark.timeout(60)
def test_publishes_come_by_the_clock_and_one_after_the_other() -> None:
    report = Report("lone", "small")
    results = lone.publishing(report, (20,), 0.2, 0.05, 1)
    assert list(results) == ["20 publishes a second", "one publish after the other"]
    for result in results.values():
        assert list(result.runs) == [lone.OURS, lone.MEMORY, lone.ECHO, lone.RAW]
        assert all(run["p50_s"] > 0 for runs in result.runs.values() for run in runs)
    paced = results["20 publishes a second"]
    assert all(run["per_s"] <= 40 for runs in paced.runs.values() for run in runs)
    assert len(report.targets) == 2


def test_a_process_that_computes_is_busy() -> None:
    assert 0 < lone.busy(os.getpid(), 0.05) < 0.9, "asleep"
