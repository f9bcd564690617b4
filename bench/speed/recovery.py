"""``python -m bench recovery``: the return of a node's clients after it was killed.

The clients are the real client machine (`bench.load.machines`), thousands in one process. When all are live and have
renewed, the node is killed, and started again at once on the same store and port. In half of the runs clients come back
within the spread that the node advised in their last `renewed`; in the other half they use exponential backoff with
full jitter only: the first attempt after U(0, base), the bound doubled after each failure.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from bench.load.machines import Spread
from bench.load.process import LoadProcess
from bench.measure.checkouts import THIS, Checkout
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import count_lost, folder, running
from softstate.cli.processes.child import free_port

CLIENTS = {False: 15_000, True: 1_000}
TTL_S = {False: 60, True: 6}
"""Short with ``--quick``, since all clients have to renew once before the node dies."""
SETTLE_TTLS = 1.25 / 3
"""Time in TTLs from the last client's arrival until all have renewed, and know the spread for all."""
AFTER_S = 2.0
"""Time from the last client's return until all must hold the newest values."""
PATIENCE_S = 300.0
STRETCH_MAX = 1.3
ATTEMPTS_MAX = 1.2

SPREAD = "lease-carried spread"
JITTER = "full jitter alone"
FRACTIONS = {"10": 0.1, "25": 0.25, "50": 0.5, "75": 0.75, "90": 0.9, "99": 0.99, "all": 1.0}

LIVE = tuple(
    Column(f"live_{name}_s", f"{name} % live" if name != "all" else "all live", digits=2) for name in FRACTIONS
)
HERD = (
    Column("attempts", "attempts/client"),
    Column("attempts_up", "of them to a running node"),
    Column("shed", "shed/client", better=""),
    Column("handshakes_peak", "peak handshakes/s", digits=0),
    Column("polls_peak", "peak polls/s", digits=0),
    Column("spread_s", "advised spread s", better=""),
    Column("serve_s", "N / handshake rate s"),
    Column("down_s", "node away s"),
    Column("server_cpu_s", "server CPU s"),
    Column("generator_busy", "generator busy", better=""),
)


def recovery(measuring: Measuring) -> Report:
    """Kill a node with all its clients connected, once in each run."""
    clients, ttl_s = CLIENTS[measuring.quick], TTL_S[measuring.quick]
    about = f"{clients:,} clients of one node that is killed with SIGKILL and started again"
    report = measuring.report("recovery", about)
    herds(report, clients, ttl_s, measuring.rounds)
    report.note("clients are the real client machine, in one process, on raw sockets; times count from the kill")
    report.note("handshake rate: measured in the same run, when the clients opened for the first time, 64 at once")
    if measuring.quick:
        report.note("--quick: the node's restart is a large part of the time over which so few clients are spread")
    return report


def herds(report: Report, clients: int, ttl_s: int, rounds: int) -> Rounds:
    """Compare both ways to come back; of two checkouts, compare the nodes, with softstate's own way."""
    measures: dict[str, Measure] = {}
    for name, checkout in report.checkouts.named(SPREAD).items():
        measures[name] = partial(crash, clients, ttl_s, "lease", checkout)
    if not report.compares:
        measures[JITTER] = partial(crash, clients, ttl_s, "jitter")
    result = run_rounds(measures, rounds, "recovery")
    report.table("time until so many are live again, s", result, LIVE, baseline=JITTER, compares="live_all_s")
    report.table("the herd", result, HERD, baseline=JITTER, compares="handshakes_peak")
    if not report.compares:
        stretch = max(run["stretch"] for run in result.runs[SPREAD])
        name = "all live, from when the node listens again, worst round"
        report.figure_at_most(name, stretch, STRETCH_MAX, "x max(spread, N / handshake rate)")
        report.figure_at_most("the same from the kill", result.median(SPREAD, "stretch_from_kill"), STRETCH_MAX, "x")
        report.figure_at_most("attempts a client", result.median(SPREAD, "attempts"), ATTEMPTS_MAX, "")
    everything = [run for runs in result.runs.values() for run in runs]
    for figure, name in (
        ("lost", "acknowledged publishes lost"),
        ("stale", "clients that lack the newest value in the end"),
        ("too_low", "ages stated too low"),
    ):
        total = sum(run[figure] for run in everything)
        report.targets.append(Target(name, "0 in every run", f"{total:g}", total == 0))
    checks = sum(run["checks"] for run in everything)
    margin_s = min(run["least_margin_s"] for run in everything)
    report.note(f"ages were checked {checks:,.0f} times; least margin {margin_s * 1000:.1f} ms")
    report.note_busy("recovery", result)
    return result


def crash(clients: int, ttl_s: float, spread: Spread, checkout: Checkout = THIS) -> Figures:
    """Open clients, kill the node, start it again, and return the figures of the recovery."""
    with folder() as home, LoadProcess("bench.load.machines") as load:
        port = free_port()
        words = ("--listen", f"127.0.0.1:{port}", "--store", f"sqlite:{home / 'softstate.db'}", "--ttl", f"{ttl_s}s")
        node = partial(running, "softstate", checkout.softstate("serve", *words), port, home, checkout.folder)
        with node():
            opened = load.ask("open", port=port, clients=clients, spread=spread, seed=1)
            settled = load.ask("go_on", seconds=SETTLE_TTLS * ttl_s)
            load.tell("crash", settle_s=AFTER_S, patience_s=PATIENCE_S)
            time.sleep(0.1)  # until the load process serves its clients again
        with node() as server:
            up_at = time.monotonic()
            answer = load.answer()
            server_cpu_s = cpu_s(server.pid)
            lost = count_lost(server, answer["acknowledged"])
    return figures_of(answer, clients, opened["open_s"], settled, up_at) | {
        "server_cpu_s": server_cpu_s,
        "lost": float(lost + answer["unsettled"]),
    }


def figures_of(
    answer: dict[str, Any], clients: int, open_s: float, settled: dict[str, Any], up_at: float
) -> dict[str, float]:
    """Return figures from the records of the load process."""
    back_s = sorted(answer["back_s"]) + [PATIENCE_S] * (clients - len(answer["back_s"]))
    # From the clients' view: the parent's clock is the same, but it does not see when the sockets break.
    down_s = up_at - answer["died_at"]
    bound_s = max(settled["spread_s"], open_s)
    return {
        **{f"live_{name}_s": back_s[max(round(clients * share) - 1, 0)] for name, share in FRACTIONS.items()},
        "stretch": (back_s[-1] - down_s) / bound_s,
        "stretch_from_kill": back_s[-1] / bound_s,
        "attempts": answer["attempts"] / clients,
        "attempts_up": (answer["attempts"] - answer["refused"]) / clients,
        "shed": answer["shed"] / clients,
        "handshakes_peak": max((count for _, count in answer["handshakes"]), default=0),
        "polls_peak": max((count for _, count in answer["polls"]), default=0),
        "spread_s": settled["spread_s"],
        "serve_s": open_s,
        "down_s": down_s,
        "generator_busy": answer["generator_busy"],
        "stale": answer["stale"],
        "checks": answer["checks"],
        "too_low": answer["too_low"],
        "least_margin_s": answer["least_margin_s"],
    }
