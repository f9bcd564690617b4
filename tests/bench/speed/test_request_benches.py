"""Leases, polls and publishes, very small, with real servers: they must run and count right, however fast."""

from __future__ import annotations

import pytest

from bench.__main__ import app
from bench.load.protocols import frames_in
from bench.measure.options import Measuring
from bench.measure.rounds import Rounds
from bench.speed import leases, polls, publish

QUICK = Measuring(quick=True)


def test_leases_run_and_judge_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STEPS_MIN", 200)
    report = leases.leases(QUICK, (100,))
    assert [table.title for table in report.tables] == ["100 leases"]
    for table in report.tables:
        assert {row.name for row in table.rows} == {leases.TABLE, leases.DICT}
        assert all(row.medians["bytes"] > 0 < row.medians["renew_s"] for row in table.rows)
    assert sum("x bare dict" in target.wanted for target in report.targets) == 2


@pytest.mark.timeout(60)
def test_polls_of_every_kind_are_answered_as_expected() -> None:
    report = polls.polls(QUICK, connections=2, run_s=0.03)
    assert len(report.tables) == len(report.targets) == 6
    for table in report.tables:
        assert all(row.medians["per_s"] > 0 < row.medians["server_cpu_s"] for row in table.rows)
    answered = [int(table.title.rpartition(" answered")[0].rpartition(" ")[2]) for table in report.tables]
    assert answered[0] == answered[2] < answered[1] < answered[3], "unchanged polls bring nothing, changed ones values"


@pytest.mark.timeout(60)
def test_publishes_are_counted_and_compared_with_the_lesser_floor() -> None:
    report = publish.publish(QUICK, publishers=(2,), run_s=0.05)
    [table] = report.tables
    rows = {row.name: row for row in table.rows}
    for name in (publish.HTTP, publish.WEBSOCKET, publish.KEYED):
        assert 1 <= rows[name].medians["per_commit"] <= 2
    for run, least in zip(rows[publish.RAW].rounds, rows[publish.LEAST_HTTP].rounds, strict=True):
        assert 0 < least["per_s"] <= run["per_s"]
    assert [target.ok is None for target in report.targets] == [False] * 3


def test_the_lesser_is_formed_within_each_round() -> None:
    runs = {publish.RAW: [1.0, 4.0], publish.H11: [2.0, 3.0], publish.ECHO: [0.5, 5.0]}
    result = publish.with_least(Rounds({name: [{"per_s": rate} for rate in rates] for name, rates in runs.items()}))
    assert [run["per_s"] for run in result.runs[publish.LEAST_HTTP]] == [1.0, 3.0]
    assert [run["per_s"] for run in result.runs[publish.LEAST_WEBSOCKET]] == [0.5, 4.0]


def test_requests_are_well_formed() -> None:
    plain, keyed = publish.request_message(keyed=False), publish.request_message(keyed=True)
    assert len(keyed) > len(plain)
    for message in (plain, keyed):
        data = message.encode("latin-1")
        assert data[1] & 0x80, "masked"
        assert frames_in(data[:1] + bytes((data[1] & 0x7F,)) + data[2:]) == -1, "the mask is not part of the length"
    put = publish.request_put()
    head, _, body = put.partition("\r\n\r\n")
    assert f"Content-Length: {len(body)}" in head
    assert polls.retarget(put, "/200/5").startswith("PUT /200/5 HTTP/1.1\r\nHost: ")


def test_counters_are_read_by_their_whole_name() -> None:
    metrics = "softstate_publishes_total 7.0\nsoftstate_publishes_repeated_total 1.0\nsoftstate_commits_total 3.0\n"
    assert (publish.counted(metrics, "publishes"), publish.counted(metrics, "commits")) == (7.0, 3.0)
    with pytest.raises(AssertionError, match="no reads in the metrics"):
        publish.counted(metrics, "reads")


def test_herd_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    app(["herd", "--clients", "20", "--how", "bye"])
    assert capsys.readouterr().out.startswith("20 clients, bye: back p50 ")
