"""The parent's side of `bench.load.asker`: one run's figures, with what the server's process spent meanwhile."""

from __future__ import annotations

from bench.load.process import LoadProcess
from bench.measure.cost import cpu_s
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds
from bench.measure.servers import Server

BUSY_MAX = 0.9
"""From this share of one core on, the generator counts as what limits the wall-clock figures."""

COLUMNS = (
    Column("per_s", "per second", digits=0, better="more"),
    Column("server_cpu_s", "server CPU us each", 1e6, 1),
    Column("asker_cpu_s", "asker CPU us each", 1e6, 1, better=""),
    Column("p50_s", "p50 ms", 1e3),
    Column("p99_s", "p99 ms", 1e3),
)


def per_answer(server: Server, asker: LoadProcess, request: str, seconds: float, good: str) -> Figures:
    """Have every connection ask for so many seconds; return rates, and costs for each answer."""
    before_s = cpu_s(server.pid)
    run = asker.ask("ask", request=request, seconds=seconds, good=good)
    spent_s = cpu_s(server.pid) - before_s
    return {
        "per_s": run["answers"] / run["wall_s"],
        "server_cpu_s": spent_s / run["answers"],
        "asker_cpu_s": run["asker_cpu_s"] / run["answers"],
        "asker_busy": run["asker_cpu_s"] / run["wall_s"],
        "p50_s": run["p50_s"],
        "p99_s": run["p99_s"],
    }


def note_busy_askers(report: Report, label: str, result: Rounds) -> None:
    """Note where the generator was the limit."""
    for name, runs in result.runs.items():
        if "asker_busy" in runs[0] and result.median(name, "asker_busy") > BUSY_MAX:
            busy = result.median(name, "asker_busy")
            report.note(f"the generator was the limit: {label}, {name}: it used {busy:.0%} of one core")
