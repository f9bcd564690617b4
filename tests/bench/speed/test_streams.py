"""Few listeners of each kind, with real servers: the bench runs and counts right, at any speed."""

from __future__ import annotations

from bench.measure.report import Report
from bench.speed import streams


def test_streams_and_held_polls_are_compared() -> None:
    report = Report("streams", "small")
    delivered = streams.deliveries(report, 5, 1)
    polled = streams.polls(report, 5, 1)
    assert list(delivered.runs) == [streams.WEBSOCKET, streams.EVENTS]
    assert list(polled.runs) == [streams.PLAIN, streams.HELD]
    assert len(report.targets) == 3


def test_each_listener_gets_each_change() -> None:
    with streams.listening("events", 3) as pair:
        assert pair.load.ask("changes", count=4)["count"] == 4 * 4
