"""More connections than a node can serve, very short, with a real server: the bench counts right, at any speed."""

from __future__ import annotations

import pytest

from bench.load.process import LoadProcess
from bench.measure.report import Report
from bench.measure.servers import softstate_server
from bench.speed import overload


@pytest.mark.timeout(60)
def test_goodput_is_measured_beside_the_peak_of_the_same_node() -> None:
    report = Report("overload", "small")
    result = overload.loading(report, 2, 0.7, 1.0, 0.2, 1)
    [run] = result.runs[overload.OURS]
    assert run["peak_per_s"] > 0
    assert run["goodput"] > 0
    assert 0 < run["came"] <= 2.5
    assert len(report.targets) == 3


@pytest.mark.timeout(60)
def test_each_client_ends_in_one_way() -> None:
    """Of fifty a second all become live; none is, and all give up, where none waits long enough."""
    with softstate_server() as server, LoadProcess("bench.load.newcomers") as load:
        run = load.ask("come", port=server.port, per_s=50, seconds=1.0, patience_s=30.0)
        assert 0 < sum(run["live_per_s"]) <= 50
        assert (run["refused"], run["gave_up"]) == (0, 0)
        run = load.ask("come", port=server.port, per_s=50, seconds=1.0, patience_s=0.0)
        assert run["gave_up"] > 0.5


def test_a_connection_that_is_refused_counts_as_refused() -> None:
    with LoadProcess("bench.load.newcomers") as load:
        run = load.ask("come", port=1, per_s=50, seconds=0.5, patience_s=30.0)
    assert run["refused"] > 0.9
    assert sum(run["live_per_s"]) == 0


def test_shares_leave_out_the_first_seconds_and_compare_the_last_with_those_behind_them() -> None:
    figures = overload.shares([100] * 5 + [80] * 5 + [60] * 5 + [40] * 5, 100.0)
    assert figures == {"goodput": 0.6, "worst": 0.4, "last_of_first": 0.5}
    assert overload.shares([50, 0], 100.0)["last_of_first"] == 0.0
