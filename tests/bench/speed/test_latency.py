"""Latency, very short, with a real server."""

from __future__ import annotations

import pytest

from bench.load.process import LoadProcess
from bench.measure.report import Report
from bench.measure.servers import softstate_server
from bench.speed import latency


@pytest.mark.timeout(120)
def test_every_publish_is_counted_at_every_subscriber(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SHARES", (0.05,))
    report = Report("latency", "small")
    result = latency.shares(report, ceiling_s=0.1, run_s=0.3, commits=20, rounds=1, topics=4)
    [name] = [name for name in result.runs if name != latency.COMMIT]
    [run] = result.runs[name]
    assert run["deliveries"] == run["publishes"] * latency.SUBSCRIBERS_EACH > 0
    assert 0 < run["applied_p50_s"] <= run["applied_p99_s"] <= run["applied_p999_s"]


def test_publishes_that_were_due_in_a_stall_are_all_counted() -> None:
    # 500 a second, more than the store may sustain: all publishes are counted at any rate.
    with softstate_server(store="memory:") as server, LoadProcess("bench.load.open_loop") as load:
        load.ask("open", port=server.port, topics=2, subscribers_each=2, publishers=1)
        answer = load.ask("run", per_s=500.0, seconds=0.4)
        assert (answer["publishes"], answer["deliveries"]) == (200, 400)
        again = load.ask("run", per_s=100.0, seconds=0.1)
        assert (again["publishes"], again["deliveries"]) == (10, 20)
