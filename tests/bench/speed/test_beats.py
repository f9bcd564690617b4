"""Ages and silence, very short, with a real server: the bench runs and measures what it says, at any speed."""

from __future__ import annotations

import math

import pytest

from bench.measure.report import Report
from bench.measure.rounds import Rounds
from bench.speed import beats


@pytest.mark.timeout(120)
def test_ages_are_sampled_and_the_silence_is_noticed() -> None:
    figures = beats._measure(3, 1.0, 1_000)
    assert 0 < figures["age_p50_s"] <= figures["age_p99_s"]
    assert 0 < figures["silent_p50_s"] <= figures["silent_max_s"] < math.inf


def test_each_figure_is_judged() -> None:
    report = Report("beats", "small")
    run = {"age_p50_s": 0.5, "age_p99_s": 1.7, "silent_p50_s": 2.0, "silent_max_s": 3.0}
    beats._judge(report, Rounds({beats.BEATS: [run]}))
    assert [target.ok for target in report.targets] == [True, False, True]
