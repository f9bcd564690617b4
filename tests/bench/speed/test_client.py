"""A client's snapshot, few topics, with a real node: the bench runs and counts right, at any speed."""

from __future__ import annotations

import pytest

from bench.load import snapshot
from bench.measure.options import Measuring
from bench.speed import client


@pytest.mark.timeout(60)
def test_every_stage_of_a_snapshot_is_measured_and_every_page_counted() -> None:
    report = client.client(Measuring(quick=True, rounds_wanted=1), (100, 2_500))
    assert [table.title for table in report.tables] == ["100 topics", "2,500 topics"]
    for table, topics in zip(report.tables, (100, 2_500), strict=True):
        ours, floor = table.rows
        assert (ours.name, floor.name) == (client.OURS, client.FLOOR)
        assert ours.medians["iterated"] == topics
        assert ours.medians["changes"] >= 1 <= ours.medians["pages"], "each change arrives at least once"
        assert all(ours.medians[f"{stage}_s"] > 0 for stage in snapshot.STAGES)
        assert floor.medians["cpu_s"] > 0
    assert len(report.targets) == 2 + len(snapshot.STAGES)


def test_the_topics_of_a_snapshot_are_all_different() -> None:
    assert len({snapshot.topic_of(2_500, number) for number in range(2_500)}) == 2_500
