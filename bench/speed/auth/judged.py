"""Leases that are judged again when rules have changed, and the memory of identities: in process, without sockets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.load.judging import NAMES
from bench.load.process import LoadProcess
from bench.measure.permissions import OWN, SHARED, Permissions, permissions
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds

OWN_GRANTS = "each session has a grant of its own"
SHARED_GRANT = "all sessions share a grant"
TIMES = 3
"""Times that rules are read again in one run."""
EXTRAPOLATED = 100_000
RELOAD_S_MAX = 2.0
SESSION_BYTES_MAX = 512

COLUMNS = (
    Column("judged_s", "CPU us to judge a lease again", 1e6, 2),
    Column("as_they_were_s", "a renewal, rules as they were, us", 1e6, 2),
    Column("changed_s", "a renewal, new rules, us", 1e6, 2),
    Column("all_s", f"s for {EXTRAPOLATED:,} leases", 1.0, 2),
    Column("identity_bytes", "bytes added to a session", digits=0),
    Column("remembered_bytes", "of them of a verified token", digits=0, better=""),
    Column("session_bytes", "bytes of a session without", digits=0, better=""),
)


def judged(report: Report, leases: int, sessions: int, rounds: int) -> Rounds:
    """Judge so many leases again, and weigh so many sessions, with grants of both kinds."""
    with permissions(OWN) as own, permissions(SHARED) as shared:
        kinds = {OWN_GRANTS: own, SHARED_GRANT: shared}
        tokens = {name: made.tokens("HS256", leases) for name, made in kinds.items()}
        judgings = {name: partial(_judge, made, tokens[name]) for name, made in kinds.items()}
        result = run_rounds(judgings, rounds, "leases judged again")
        weights = {name: _weigh(made, made.tokens("HS256", sessions + 1)) for name, made in kinds.items()}
    result = Rounds({name: [{**run, **weights[name]} for run in runs] for name, runs in result.runs.items()})
    title = f"rules read again, {leases:,} leases x {NAMES} names, in process"
    report.table(title, result, COLUMNS, baseline=SHARED_GRANT, compares="judged_s")
    told = f"judging {EXTRAPOLATED:,} leases again, extrapolated from {leases:,}"
    report.figure_at_most(told, result.median(OWN_GRANTS, "all_s"), RELOAD_S_MAX, "s of CPU")
    name = f"memory that an identity with its own grant adds to a session, of {sessions:,}"
    report.figure_at_most(name, weights[OWN_GRANTS]["identity_bytes"], SESSION_BYTES_MAX, "bytes")
    report.note(
        f"{EXTRAPOLATED:,} leases: the CPU of one lease times {EXTRAPOLATED:,}, an extrapolation; a node judges so many"
        " in each turn of its loop"
    )
    report.note("bytes by tracemalloc, once: what is remembered of a verified token is in them, its text is not")
    return result


def _judge(made: Permissions, tokens: Sequence[str]) -> Figures:
    with LoadProcess("bench.load.judging", str(made.path)) as process:
        run = process.ask("judge", tokens=tokens, times=TIMES)
    judged_s = run["changed_s"] - run["as_they_were_s"]
    return {**run, "judged_s": judged_s, "all_s": judged_s * EXTRAPOLATED}


def _weigh(made: Permissions, tokens: Sequence[str]) -> Figures:
    with LoadProcess("bench.load.judging", str(made.path)) as process:
        checked = process.ask("weigh", tokens=tokens, checked=True)["bytes"]
        unchecked = process.ask("weigh", tokens=tokens, checked=False)["bytes"]
        remembered = process.ask("identify", tokens=tokens)["bytes"]
    return {"identity_bytes": checked - unchecked, "remembered_bytes": remembered, "session_bytes": unchecked}
