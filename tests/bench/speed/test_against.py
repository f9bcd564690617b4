"""Every bench that compares checkouts, very small, with real servers of both."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import app
from bench.measure.checkouts import Checkout, Checkouts
from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.measure.servers import ServerFailed
from bench.speed import fanout, latency, leases, lone, polls, publish, sessions, stalled, workers
from bench.speed.churn import churn
from bench.speed.churn.scenarios import Terms
from bench.speed.nodes.nodes import nodes
from bench.speed.recovery import crash, recovery
from softstate.errors import ConfigError


def _fanout(report: Report) -> None:
    fanout.bursts(report, 3, 2, 1)


def _sessions(report: Report) -> None:
    sessions.opening(report, None, 10, 1, 1)
    sessions.memory(report, None, [3], 1)
    sessions.idling(report, None, 3, 0.1, 1)


def _lone(report: Report) -> None:
    lone.resting(report, 2, 0.1, 1)
    lone.publishing(report, (20,), 0.1, 0.05, 1)


def _latency(report: Report) -> None:
    latency.shares(report, ceiling_s=0.1, run_s=0.2, commits=1, rounds=1, topics=4)


def _recovery(report: Report) -> None:
    recovery.herds(report, crash.Herd(5, ttl_s=1), 1)
    assert [course.title.partition(",")[0] for course in report.courses] == [f"the last round of {recovery.SPREAD}"] * 2


def _churn(report: Report) -> None:
    terms = Terms(ttl_s=1.0, mean_s=3.0, hold_s=0.5, fill_per_s=200.0, publishes_per_s=20.0, rest_s=0.1)
    churn.compare(report, terms, 10, rounds=1)


def _workers(report: Report) -> None:
    workers.renewing(report, 4, 1)


PARTS: dict[str, tuple[Callable[[Report], None], set[str]]] = {
    "fanout": (_fanout, {"bursts, 3 subscribers x 2 changes"}),
    "sessions": (_sessions, {"renewals", "resident memory of a session: softstate"}),
    "lone": (_lone, {"20 publishes a second", "one publish after the other"}),
    "latency": (_latency, {"ceiling"}),
    "recovery": (_recovery, {"the herd"}),
    "workers": (_workers, {"renewals, 4 sessions: 1 worker", "renewals, 4 sessions: 2 workers"}),
    "churn": (_churn, {"steady, 10 sessions"}),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bench", PARTS)
def test_the_parts_of_a_bench_compare_both(bench: str, another: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "AFTER_S", 0.1)
    part, measured = PARTS[bench]
    report = Measuring(against=another).report(bench, "small")
    part(report)
    _check(report, measured)


@pytest.mark.timeout(120)
def test_whole_benches_compare_both(another: Path) -> None:
    measuring = Measuring(quick=True, against=another, rounds_wanted=1)
    _check(polls.polls(measuring, connections=2, run_s=0.02), {"GET /v1/topics/{topic}, unchanged"})
    _check(publish.publish(measuring, (2,), run_s=0.02), {"2 publishers: softstate HTTP"})
    _check(stalled.stalled(measuring, subscribers=3, run_s=0.2), {"delivery to the others: alone"})


def _check(report: Report, measured: set[str]) -> None:
    """Check that there is one table, of both checkouts and of nothing else, and that it holds what was measured."""
    assert report.tables == []
    titles = {row.measured for row in report.comparisons}
    assert {wanted for wanted in measured if not any(title.startswith(wanted) for title in titles)} == set()
    assert all(len(row.rounds) == 1 for row in report.comparisons)
    assert any(row.ratio is not None for row in report.comparisons)
    assert f"against: {report.checkouts.commits()['against']}; medians of 1 round," in str(report)


def test_leases_runs_the_bench_of_each_checkout(tmp_path: Path) -> None:
    sides = [
        _with_bench(tmp_path / str(renew_ns), renew_ns, rounds=rounds)
        for renew_ns, rounds in ((30, ""), (20, "--rounds"))
    ]
    report = Report("leases", "small", machine={}, checkouts=Checkouts(*sides))
    leases.compare(report, quick=True, rounds=2)
    [row] = report.comparisons
    assert (row.measured, row.column.title, row.column.better) == ("5 leases", "renew ns", "less")
    assert row.rounds == [(30e-9, 20e-9)] * 2
    for side, asked in zip(sides, ("leases --json --quick", "leases --json --quick --rounds 1"), strict=True):
        assert (side.folder / "asked").read_text().splitlines() == ["leases --help", asked] * 2
    (sides[0].folder / "bench" / "__main__.py").write_text("raise SystemExit('it is broken')")
    with pytest.raises(ServerFailed, match="failed: it is broken"):
        leases.own_bench(sides[0], quick=True)


def _with_bench(folder: Path, renew_ns: int, rounds: str) -> Checkout:
    """Make a checkout whose bench says what it was asked, and a figure."""
    (folder / "bench").mkdir(parents=True)
    (folder / "bench" / "__init__.py").touch()
    row = {"name": leases.TABLE, "medians": {"renew_s": renew_ns / 1e9}}
    report = {"tables": [{"title": "5 leases", "rows": [row, {"name": leases.DICT, "medians": {"renew_s": 1.0}}]}]}
    (folder / "bench" / "__main__.py").write_text(
        "import sys\n"
        "with open('asked', 'a') as asked: print(*sys.argv[1:], file=asked)\n"
        f"print({rounds!r} if '--help' in sys.argv else {json.dumps(report)!r})\n"
    )
    return Checkout(folder, Path(sys.executable))


def test_a_bench_that_cannot_compare_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nodes does not take --against: it would run 14 nodes"):
        nodes(Measuring(against=tmp_path))
    with pytest.raises(ConfigError, match="churn runs each scenario once: leave out --rounds"):
        churn.churn(Measuring(rounds_wanted=2))


def test_the_options_reach_the_bench(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--against .*: no checkout of softstate is there"):
        app(["polls", "--quick", "--rounds", "1", "--against", str(tmp_path)])
