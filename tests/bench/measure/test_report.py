"""Reports: ratios first, targets judged by the median, JSON with every round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.measure.checkouts import THIS, Checkouts
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, aligned
from bench.measure.rounds import Figures, Rounds


@pytest.fixture
def rounds() -> Rounds:
    return Rounds({"ours": [{"s": 2e-6}, {"s": 3e-6}, {"s": 4e-6}], "theirs": [{"s": 2e-6}, {"s": 2e-6}, {"s": 2e-6}]})


def test_a_table_shows_the_ratio_first(rounds: Rounds) -> None:
    report = Report("b", "about", machine={"cpu": "some"})
    report.table("title", rounds, [Column("s", "us", 1e6)], baseline="theirs", compares="s")
    head, ours, theirs = str(report.tables[0]).splitlines()[1:]
    assert head.split() == ["ratio", "to", "theirs", "(less", "is", "better)", "us"]
    assert ours.split() == ["ours", "1.50", "(1.00", "to", "2.00)", "3.00"]
    assert theirs.split() == ["theirs", "1.00", "(1.00", "to", "1.00)", "2.00"]
    assert "cpu: some" in str(report)
    whole = json.loads(report.json())
    assert [run["s"] for run in whole["tables"][0]["rows"][0]["rounds"]] == [2e-6, 3e-6, 4e-6]
    assert whole["tables"][0]["rows"][0]["ratio"] == {"median": 1.5, "low": 1.0, "high": 2.0}


def test_without_its_baseline_a_table_shows_no_ratio(rounds: Rounds) -> None:
    report = Report("b", "about", machine={})
    report.table("title", rounds, [Column("s", "us", 1e6)], baseline="absent", compares="s")
    assert "ratio" not in str(report)
    assert "3.00" in str(report)


@pytest.mark.parametrize(("limit", "ok"), [(1.4, False), (1.6, True)])
def test_a_target_is_judged_by_the_median_ratio(rounds: Rounds, limit: float, ok: bool) -> None:
    report = Report("b", "about", machine={})
    report.at_most("most", rounds, "ours", "theirs", "s", limit)
    report.at_least("least", rounds, "ours", "theirs", "s", limit)
    report.at_most("absent", rounds, "ours", "rival", "s", limit)
    report.figure_at_least("rate", 2.0, 2.0, "ops/s")
    report.figure_at_most("size", 2.1, 2.0, "KiB")
    assert [target.ok for target in report.targets] == [ok, not ok, None, True, False]
    shown = {" ".join(line.split()[:-1]) for line in str(report).splitlines()}
    assert any(line.startswith("reached most" if ok else "MISSED most") for line in shown)
    assert any(line.startswith("not judged absent") for line in shown)


def test_showing_a_report_exits_with_0_also_when_a_target_was_missed(
    rounds: Rounds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("b", "about", machine={})
    report.table("title", rounds, [Column("s", "us", 1e6)], baseline="theirs", compares="s")
    report.at_most("most", rounds, "ours", "theirs", "s", 1.0)
    assert Measuring(json=True).show(report) == 0
    assert json.loads(capsys.readouterr().out)["targets"][0]["ok"] is False
    report.note("once")
    report.note("once")
    assert Measuring().show(report) == 0
    assert capsys.readouterr().out.count("note: once") == 1


def test_two_checkouts_get_one_table_of_all_figures_that_can_be_better() -> None:
    report = Report("b", "about", machine={}, checkouts=Checkouts(against=THIS))
    columns = [
        Column("s", "us", 1e6), Column("per_s", "rate", digits=0, better="more"), Column("busy", "busy", better="")
    ]  # fmt: skip
    mine: list[Figures] = [{"s": 2e-6, "per_s": 5.0, "busy": 1.0}, {"s": 3e-6, "per_s": 6.0, "busy": 1.0}]
    theirs: list[Figures] = [{"s": 4e-6, "per_s": 5.0, "busy": 1.0}, {"s": 4e-6, "per_s": 0.0, "busy": 1.0}]
    report.table(
        "one", Rounds({"softstate, this": mine, "softstate, against": theirs}), columns, baseline="", compares=""
    )
    two = {"a, this": mine, "a, against": mine, "b, this": mine, "b, against": mine}
    report.table("two", Rounds(two), columns[:1], baseline="absent", compares="s")
    assert report.tables == []
    assert [(row.measured, row.column.title) for row in report.comparisons] == [
        ("one", "us"), ("one", "rate"), ("two: a", "us"), ("two: b", "us")
    ]  # fmt: skip
    title, head, first, second, *_ = str(report).splitlines()[-6:]
    assert "medians of 2 rounds" in title
    assert head.split() == ["better", "is", "this", "against", "ratio", "this", "/", "against"]
    assert first.split() == ["one", "us", "less", "2.50", "4.00", "0.625", "(0.500", "to", "0.750)"]
    assert second.split() == ["one", "rate", "more", "6", "2", "-"], "a round without anything has no ratio"
    whole = json.loads(report.json())
    assert whole["comparisons"][0]["rounds"] == [[2e-6, 4e-6], [3e-6, 4e-6]]
    assert whole["checkouts"].keys() == {"this", "against"}


def test_columns_are_aligned() -> None:
    assert aligned([["a", "1"], ["bbb", "222"]]).splitlines() == ["  a      1", "  bbb  222"]
