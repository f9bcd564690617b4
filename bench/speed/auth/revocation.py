"""The time until a revocation at one node silences a session at another one, on one SQLite file."""

from __future__ import annotations

from collections.abc import Sequence

from bench.load.process import LoadFailed, LoadProcess
from bench.load.revoking import BEHIND
from bench.measure.permissions import ADMIN, Permissions, checking_node
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Rounds
from bench.measure.servers import folder

VALUE = "a value, until it is received"
REVOCATION = "a revocation, until `revoked` is received"
P99_MS_MAX = 50.0

COLUMNS = (
    Column("p50_s", "p50 ms", 1e3),
    Column("p99_s", "p99 ms", 1e3),
    Column("max_s", "max ms", 1e3),
    Column("received_behind", "received behind it", digits=0),
)


def revocation(report: Report, made: Permissions, revocations: int) -> Rounds:
    """Revoke as many subjects one after the other, and see that they receive nothing from then on."""
    with (
        folder() as home,
        checking_node(made, store=f"sqlite:{home / 'shared.db'}") as node,
        checking_node(made, store=f"sqlite:{home / 'shared.db'}") as other,
        LoadProcess("bench.load.revoking") as load,
    ):
        load.ask("open", port=node.port, other_port=other.port, token=ADMIN)
        load.ask("revoke", subjects=made.load_tokens_and_revocations(2))  # to warm up
        run = load.ask("revoke", subjects=made.load_tokens_and_revocations(revocations))
    revoked = {**figures_of(run["revocations_s"]), "received_behind": float(run["received_behind"])}
    result = Rounds({VALUE: [figures_of(run["values_s"])], REVOCATION: [revoked]})
    title = f"{revocations} revocations at one node, from the acknowledgement on, to a session of another"
    report.table(title, result, COLUMNS, baseline=VALUE, compares="p99_s")
    report.figure_at_most("revoked at another node, p99", revoked["p99_s"] * 1e3, P99_MS_MAX, "ms")
    behind = run["received_behind"]
    wanted, got = f"0 of {revocations * (BEHIND + 1):,} values", f"{behind} values"
    report.targets.append(Target("received although committed behind the revocation", wanted, got, behind == 0))
    return result


def figures_of(times_s: Sequence[float]) -> dict[str, float]:
    """Return quantiles of times, and the longest."""
    if not times_s:
        raise LoadFailed("no revocation was measured")
    ordered = sorted(times_s)
    return {"p50_s": ordered[len(ordered) // 2], "p99_s": ordered[len(ordered) * 99 // 100], "max_s": ordered[-1]}
