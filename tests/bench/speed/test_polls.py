"""Polls, very few, with real servers: the bench runs and counts right, at any speed."""

from __future__ import annotations

import pytest

from bench.measure.options import Measuring
from bench.speed import polls


@pytest.mark.timeout(60)
def test_polls_of_every_kind_are_answered_as_expected() -> None:
    report = polls.polls(Measuring(quick=True), connections=2, run_s=0.03)
    assert (len(report.tables), len(report.targets)) == (6, 8)
    for table in report.tables:
        assert all(row.medians["per_s"] > 0 < row.medians["server_cpu_s"] for row in table.rows)
    answered = [int(table.title.rpartition(" answered")[0].rpartition(" ")[2]) for table in report.tables]
    assert answered[0] == answered[2] < answered[1] < answered[3], "unchanged polls bring nothing, changed ones values"
