"""One worker and two, very small, with real servers: the bench counts all processes, at any speed."""

from __future__ import annotations

import pytest

from bench.measure.options import Measuring
from bench.speed import workers


@pytest.mark.timeout(120)
def test_one_worker_and_two_do_the_same_load() -> None:
    report = workers.workers(Measuring(quick=True), sessions=8, ask_s=0.03)
    assert [table.title.partition(",")[0] for table in report.tables] == ["renewals", "POST /v1/poll", "deliveries"]
    for table in report.tables:
        one, two = table.rows
        assert (one.name, two.name) == ("1 worker", "2 workers")
        assert one.medians["share"] == 1
        assert 0.5 <= two.medians["share"] <= 1
        assert two.ratio is not None
