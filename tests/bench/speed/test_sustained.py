"""Sustained publishes for a moment, with a real server: what is counted is what was done."""

from __future__ import annotations

import pytest

from bench.load.steady_publishers import TOPICS_EACH
from bench.measure.options import Measuring
from bench.speed import sustained


@pytest.mark.timeout(60)
def test_nothing_is_refused_and_little_is_held() -> None:
    report = sustained.sustained(Measuring(quick=True), engines=("sqlite",), clients=2, run_s=0.4, spans=2)
    [table] = report.tables
    assert [row.name for row in table.rows] == ["span 1", "span 2"]
    for row in table.rows:
        assert row.medians["per_s"] > 0
        assert row.medians["refused"] == 0
        assert row.medians["held"] <= 2 * TOPICS_EACH
        assert row.medians["store_bytes"] > 0
    assert [target.ok for target in report.targets[:2]] == [True, True]
