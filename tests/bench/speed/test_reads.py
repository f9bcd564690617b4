"""Few askers of small prefixes, with a real server: the bench runs and counts right, at any speed."""

from __future__ import annotations

import pytest

from bench.load.insistent import quantile
from bench.measure.options import Measuring
from bench.speed import reads


@pytest.mark.timeout(60)
def test_askers_and_innocents_are_served_and_counted() -> None:
    report = reads.reads(Measuring(quick=True, rounds_wanted=1), topics=1, run_s=2.0)
    (table,) = report.tables
    assert [row.name for row in table.rows] == ["4 askers", "4 x: 16 askers", "16 x: 64 askers"]
    assert len(report.targets) == 2
    for row in table.rows:
        figures = row.medians
        assert figures["per_s"] > 0
        assert 0 < figures["innocents_p50_s"] <= figures["innocents_p99_s"]
        assert (figures["innocents_failed"], figures["not_ready"]) == (0, 0)


def test_quantiles_of_few_values() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 2.0], 0.99) == 2.0
