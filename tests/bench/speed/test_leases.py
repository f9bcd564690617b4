"""The lease table, few leases: the bench runs and judges, at any speed."""

from __future__ import annotations

import pytest

from bench.measure.options import Measuring
from bench.speed import leases


def test_leases_run_and_judge_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STEPS_MIN", 200)
    report = leases.leases(Measuring(quick=True), (100,))
    assert [table.title for table in report.tables] == ["100 leases"]
    for table in report.tables:
        assert {row.name for row in table.rows} == {leases.TABLE, leases.DICT}
        assert all(row.medians["bytes"] > 0 < row.medians["renew_s"] for row in table.rows)
    assert sum("x bare dict" in target.wanted for target in report.targets) == 2
