"""Throw-away servers: errors say what is missing, and counters are read by their whole names."""

from __future__ import annotations

import urllib.request

import pytest

from bench.measure.servers import (
    NotInstalled,
    ServerFailed,
    count_lost,
    counter_in,
    find,
    folder,
    running,
    softstate_server,
)


def test_a_missing_program_is_named_with_the_way_to_install_it() -> None:
    with pytest.raises(NotInstalled, match=r"no-such-server is not installed \(apt install it\)"):
        find("no-such-server", "apt install it")


def test_the_output_of_a_failed_server_is_reported() -> None:
    with (
        folder() as home,
        pytest.raises(ServerFailed, match=r"it did not listen.*: sorry"),
        running("it", ["sh", "-c", "echo sorry; exit 1"], 1, home),
    ):
        pass


def test_counters_are_read_by_their_whole_name() -> None:
    metrics = "softstate_publishes_total 7.0\nsoftstate_publishes_repeated_total 1.0\nsoftstate_commits_total 3.0\n"
    assert (counter_in(metrics, "publishes"), counter_in(metrics, "commits")) == (7.0, 3.0)
    with pytest.raises(ServerFailed, match="no softstate_reads_total"):
        counter_in(metrics, "reads")


def test_a_node_is_not_configured_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTSTATE_DRAIN", "no duration")
    with softstate_server(store="memory:") as server:
        assert server.get("/healthz")


def test_lost_values_are_counted() -> None:
    with softstate_server(store="memory:") as server:
        for topic, value in (("a", 4), ("b", 5)):
            request = urllib.request.Request(
                f"http://127.0.0.1:{server.port}/v1/topics/{topic}", b"%d" % value, method="PUT"
            )
            request.add_header("Content-Type", "application/json")
            urllib.request.urlopen(request, timeout=30).close()
        assert count_lost(server, {"a": 4, "b": 6}) == 1
        assert server.counter("publishes") == 2
