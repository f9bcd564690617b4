"""Fan-out, very small, with real servers: the bench runs and counts right, at any speed."""

from __future__ import annotations

import pytest

from bench.load.process import LoadFailed, LoadProcess
from bench.measure.checkouts import Checkouts
from bench.measure.report import Report
from bench.measure.servers import NotInstalled, Server, softstate_server
from bench.speed import fanout


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare only candidates that need no installation, and one that is not installed."""

    def missing() -> Server:
        raise NotInstalled("rival is not installed (apt install rival)")

    known = fanout.candidates(Checkouts())
    kept = {name: known[name] for name in (fanout.OURS, fanout.FLOOR)} | {"rival": fanout.Candidate(missing, "nats")}  # type: ignore[arg-type]
    monkeypatch.setattr(fanout, "candidates", lambda _: kept)


@pytest.mark.usefixtures("few")
@pytest.mark.timeout(120)
def test_all_comparisons_run_with_ten_subscribers() -> None:
    report = Report("fanout", "small")
    paced = fanout.paced(report, 10, 3, 2)
    bursts = fanout.bursts(report, 10, 20, 2)
    apart = fanout.apart(report, 10, 2)
    hot = fanout.hot(report, 10, 50, 2)
    assert list(apart.runs) == list(hot.runs)
    assert apart.median(fanout.OURS, "publish_cpu_s") > 0
    for result in (paced, bursts):
        assert {len(runs) for runs in result.runs.values()} == {2}
        assert all(run["server_cpu_s"] > 0 < run["wall_s"] for runs in result.runs.values() for run in runs)
    assert list(hot.runs) == [fanout.OURS]
    assert hot.median(fanout.OURS, "received_bytes") > 0
    assert len(report.tables) == 4
    assert "skipped: rival is not installed (apt install rival)" in report.notes
    assert [target.ok for target in report.targets if "nats-server" in target.wanted] == [None]


def test_a_sink_says_what_is_wrong() -> None:
    with softstate_server(store="memory:") as server, LoadProcess("bench.load.sink") as sink:
        with pytest.raises(LoadFailed, match=r"handshake refused: .* 404"):
            sink.ask("open", protocol="websockets", port=server.port, connections=1, topics=["a"])
        with pytest.raises(LoadFailed, match="ended with exit code"):
            sink.ask("nonsense")
