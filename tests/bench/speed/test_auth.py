"""Permissions, very small, with real nodes: every figure is there, and nothing is received behind a revocation."""

from __future__ import annotations

from typing import get_args

import pytest

from bench.load.process import LoadFailed, LoadProcess
from bench.measure.options import Measuring
from bench.measure.permissions import ADMIN, Algorithm, checking_node, permissions
from bench.measure.report import Report, Table
from bench.measure.rounds import Figures, Rounds
from bench.measure.servers import softstate_server
from bench.speed.auth import candidates, connects, forged, judged, rates, revocation
from bench.speed.auth.auth import Size, auth
from bench.speed.polls import head, presenting
from softstate.errors import ConfigError

SMALL = Size(
    connections=6, renewals=2, subscribers=4, topics=3, bursts=2, pollers=2, publishers=2, run_s=0.1, revocations=3,
    forged_s=0.4, leases=20, sessions=20,
)  # fmt: skip
BESIDE = [forged.beside(algorithm) for algorithm in get_args(Algorithm)]


@pytest.fixture(scope="module")
def report() -> Report:
    return auth(Measuring(quick=True, rounds_wanted=1), SMALL)


def rows(table: Table) -> list[str]:
    return [row.name for row in table.rows]


@pytest.mark.timeout(120)
def test_every_figure_of_every_candidate_is_there(report: Report) -> None:
    both = [candidates.OPEN, candidates.CHECKING]
    assert [rows(table) for table in report.tables] == [
        [candidates.OPEN, candidates.IGNORING, connects.CACHED, connects.HS256, connects.ES256],
        both,
        both,
        [*both, candidates.IGNORING],
        both,
        [forged.ALONE, *BESIDE],
        [revocation.VALUE, revocation.REVOCATION],
        [judged.OWN_GRANTS, judged.SHARED_GRANT],
    ]
    missing = {
        (row.name, column.figure)
        for table in report.tables
        for row in table.rows
        for column in table.columns
        if column.figure not in row.medians
    }
    assert missing == {
        (candidates.OPEN, "added_s"), (forged.ALONE, "forged_cpu_s"), (revocation.VALUE, "received_behind"),
    }  # fmt: skip
    for table in report.tables[1:5]:
        assert all(row.medians["per_cpu_s"] > 0 < row.medians["server_cpu_s"] for row in table.rows)
        assert all(row.ratio is not None for row in table.rows)
    assert len(report.targets) == 3 + 4 + len(BESIDE) + 2 + 2
    assert all(target.ok is not None for target in report.targets if "forged" not in target.name)


def test_nothing_is_received_that_was_committed_behind_a_revocation(report: Report) -> None:
    (table,) = [table for table in report.tables if revocation.REVOCATION in rows(table)]
    told, revoked = (row.medians for row in table.rows)
    assert revoked["received_behind"] == 0
    assert 0 < revoked["p50_s"] <= revoked["p99_s"] <= revoked["max_s"]
    assert told["p50_s"] > 0
    (target,) = [target for target in report.targets if target.name.startswith("received although")]
    assert target.ok
    assert target.wanted == "0 of 15 values"


def test_forged_tokens_are_refused_and_counted(report: Report) -> None:
    (table,) = [table for table in report.tables if forged.ALONE in rows(table)]
    alone, *beside = (row.medians for row in table.rows)
    assert alone["forged_per_s"] == 0
    assert all(run["forged_per_s"] > 0 < run["acknowledged_p99_s"] for run in beside)


def test_an_identity_takes_memory(report: Report) -> None:
    own, shared = (row.medians for row in report.tables[-1].rows)
    assert own["identity_bytes"] > shared["identity_bytes"] > 0
    assert own["session_bytes"] > 0


def test_it_measures_this_checkout_alone() -> None:
    with pytest.raises(ConfigError, match="auth does not take --against"):
        auth(Measuring(against="elsewhere"))  # type: ignore[arg-type]


def test_tokens_are_taken_by_a_node_with_the_policy_file_and_forged_ones_refused() -> None:
    with permissions() as made, checking_node(made, store="memory:") as node:
        with LoadProcess("bench.load.closed_loop") as load:
            load.ask("open", port=node.port, connections=1, protocol="http")
            for algorithm in get_args(Algorithm):
                for token in made.tokens(algorithm, 2):
                    asked = presenting(head("GET", "/v1/whoami"), token)
                    assert load.ask("once", request=asked)["answer"].startswith("HTTP/1.1 200 ")
                answers = {load.ask("once", request=forged.forged_request(token))["answer"] for _ in range(2)}
                assert all("401" in answer and "signature" in answer for answer in answers)


def test_a_node_that_revokes_nobody_fails_the_run() -> None:
    with permissions() as made, softstate_server(store="memory:") as node, LoadProcess("bench.load.revoking") as load:
        load.ask("open", port=node.port, other_port=node.port, token=ADMIN)
        with pytest.raises(LoadFailed, match="timed out"):
            load.ask("revoke", subjects=made.load_tokens_and_revocations(1), patience_s=0.5)


@pytest.mark.parametrize(("cost", "ok"), [(0.97, False), (0.99, True), (1.01, True), (1.03, False)])
def test_deliveries_may_differ_either_way_by_little(cost: float, ok: bool) -> None:
    runs: dict[str, list[Figures]] = {candidates.OPEN: [{"per_cpu_s": 1.0}], candidates.CHECKING: [{"per_cpu_s": cost}]}
    report = Report("auth", "judged")
    candidates.judge_within(report, "deliveries", Rounds(runs), "per_cpu_s", rates.DELIVERIES_OFF)
    assert [target.ok for target in report.targets] == [ok]
