"""``bench peers``, very small, with a real node: all tables are made, and a system that fails ends no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.measure.rounds import Figures, Rounds
from bench.peers.generator import compiled
from bench.peers.peers import FANOUT, Sizes, better, measure_all, peers
from bench.peers.systems import OURS, Places, Process, System, systems
from softstate.errors import ConfigError

SIZES = Sizes({10: (50,), 20: (20, 50)}, paced_s=0.1, bursts=1, publish_s=0.1)
TITLES = [
    "connect and subscribe, 10 clients", "memory of a connection, 10 clients", "fan-out, 10 clients x 50/s, 5 values",
    "bursts of 20, 10 clients", "connect and subscribe, 20 clients", "memory of a connection, 20 clients",
    "fan-out, 20 clients x 20/s, 2 values", "fan-out, 20 clients x 50/s, 5 values",
    "acknowledged publishes, 64 publishers",
]  # fmt: skip


@pytest.mark.timeout(120)
def test_all_tables_are_made_and_a_system_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.peers.peers.QUIET_S", 0.0)
    monkeypatch.setattr("bench.peers.peers.WARM_S", 0.1)
    rival = System("rival", "1", "nothing", "defaults", "lines", lambda port, _home, _pings: [
        Process("rival", [sys.executable, "-c", "exit('no licence')"], port)
    ])  # fmt: skip
    found, report = systems(Places(), [OURS])[0] | {"rival": rival}, Report("peers", "small")
    measure_all(report, found, compiled(tmp_path, "-O0"), SIZES, 1)
    assert [table.title for table in report.tables] == TITLES
    for table in report.tables:
        assert [row.name for row in table.rows] == [OURS]
        assert {column.figure for column in table.columns} <= table.rows[0].medians.keys()
    fan_out = report.tables[2].rows[0].medians
    assert fan_out["values"] == pytest.approx(5, abs=4)
    assert fan_out["server_cpu_s"] > 0 <= fan_out["p50_s"] <= fan_out["p99_s"]
    assert report.tables[-1].rows[0].medians["per_s"] > 0
    assert any(note.startswith("rival failed, 10 clients: rival did not listen") for note in report.notes)
    assert any("no licence" in note for note in report.notes)


def test_peers_that_are_better_are_named_in_every_column_that_judges() -> None:
    ours = {column.figure: 2.0 for column in FANOUT}
    runs: dict[str, list[Figures]] = {OURS: [ours, ours]}
    runs["rival"] = [{**ours, "p50_s": 1.0, "p99_s": 3.0}, {**ours, "p50_s": 1.2, "values": 1.0}]
    assert better(Rounds(runs), FANOUT) == "p50 ms: rival (0.55)"
    assert better(Rounds({OURS: [ours]}), FANOUT) == ""


def test_a_system_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no system 'rival': --system takes 'softstate', 'Centrifugo'"):
        peers(Measuring(), Places(tmp_path), ["rival"])
    with pytest.raises(ConfigError, match="peers does not take --against"):
        peers(Measuring(against=tmp_path), Places())
