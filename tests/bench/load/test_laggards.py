"""The readers that do not keep up: they must understand what they receive, and catch up."""

from __future__ import annotations

from bench.load.laggards import BULK_BYTES
from bench.load.process import LoadProcess
from bench.measure.servers import softstate_server


def test_laggards_catch_up_with_what_they_left_unread() -> None:
    topics = ["a", "b"]
    with (
        softstate_server(store="memory:") as server,
        LoadProcess("bench.load.laggards") as laggards,
        LoadProcess("bench.load.sink") as sink,
    ):
        laggards.ask("open", port=server.port, topics=topics, bulk_changes=3)
        sink.ask("open", protocol="softstate", port=server.port, connections=2, topics=topics)
        sink.ask("bursts", times=2)
        assert 0 < laggards.ask("lag", seconds=0.2)["slow_bytes"] < BULK_BYTES
        end = laggards.ask("catch_up", topics=topics)
    assert end == {"stalled_revoked": "", "stalled_agrees": True, "slow_revoked": "", "slow_agrees": True}
