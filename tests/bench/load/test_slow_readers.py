"""Slow readers: they decode what they receive, and catch up."""

from __future__ import annotations

from bench.load.process import LoadProcess
from bench.load.slow_readers import BULK_BYTES
from bench.measure.servers import softstate_server


def test_slow_readers_catch_up_with_unread_changes() -> None:
    topics = ["a", "b"]
    with (
        softstate_server(store="memory:") as server,
        LoadProcess("bench.load.slow_readers") as readers,
        LoadProcess("bench.load.sink") as sink,
    ):
        readers.ask("open", port=server.port, topics=topics, bulk_changes=3)
        sink.ask("open", protocol="softstate", port=server.port, connections=2, topics=topics)
        sink.ask("bursts", times=2)
        assert 0 < readers.ask("lag", seconds=0.2)["slow_bytes"] < BULK_BYTES
        end = readers.ask("catch_up", topics=topics)
    assert end == {"stalled_revoked": "", "stalled_agrees": True, "slow_revoked": "", "slow_agrees": True}
