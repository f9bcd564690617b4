"""The start of commands, measured once with real processes: the bench runs, at any speed."""

from __future__ import annotations

import pytest

from bench.measure.options import Measuring
from bench.speed.start import COMMANDS, EMPTY, TRIO, start


@pytest.mark.timeout(60)
def test_every_command_is_measured() -> None:
    report = start(Measuring(quick=True, rounds_wanted=1))
    assert len(report.targets) == len(COMMANDS)
    assert all(target.ok is not None for target in report.targets)
    (table,) = report.tables
    assert [row.name for row in table.rows][-2:] == [EMPTY, TRIO]
