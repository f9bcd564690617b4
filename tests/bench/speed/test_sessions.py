"""Sessions, very few, with real servers: the bench runs and counts right, at any speed."""

from __future__ import annotations

from functools import partial

import pytest

from bench.load.process import LoadFailed, LoadProcess
from bench.measure.report import Report
from bench.measure.servers import softstate_server
from bench.speed import sessions


@pytest.mark.timeout(120)
def test_opening_and_renewing_run_beside_a_bare_server() -> None:
    sizes = sessions.reply_sizes()
    assert len(sizes) == 3
    report = Report("sessions", "small")
    opened, renewed = sessions.opening(report, partial(sessions.bare_server, sizes), 10, 2, 2)
    assert list(opened.runs) == list(renewed.runs) == [sessions.BARE, sessions.OURS]
    assert all(run["per_cpu_s"] > 0 for result in (opened, renewed) for run in result.runs[sessions.OURS])
    assert len(report.targets) == 4


def test_memory_is_what_a_session_adds() -> None:
    figures = sessions.grown(partial(softstate_server, store="memory:"), [5, 10], 3)
    assert list(figures) == ["at_5", "at_10"]


def test_sessions_renew_by_the_clock_and_leave_nothing_behind() -> None:
    with sessions.paired(partial(softstate_server, store="memory:")) as pair:
        pair.open(5, 3)
        assert pair.idle(5, 0.4, 0.1)["renewals_per_s"] > 0
        assert pair.idle(5, 0.1, 0.0)["renewals_per_s"] == 0
        pair.load.ask("leave")
        assert pair.load.ask("open", port=pair.server.port, connections=1, subscriptions=1)["sessions"] == 1


def test_a_refused_handshake_is_reported() -> None:
    options = ("--role", "poll")
    with softstate_server(*options, store="memory:") as server, LoadProcess("bench.load.sessions") as load:
        with pytest.raises(LoadFailed, match=r"handshake refused: HTTP/1\.1 404"):
            load.ask("open", port=server.port, connections=1, subscriptions=1)
