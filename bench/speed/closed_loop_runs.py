"""Runs of `bench.load.closed_loop`: its figures, beside the CPU time of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.load.process import LoadProcess
from bench.measure.cost import cpu_s
from bench.measure.report import Column
from bench.measure.rounds import Figures
from bench.measure.servers import Server

COLUMNS = (
    Column("per_s", "per second", digits=0, better="more"),
    Column("server_cpu_s", "server CPU us each", 1e6, 1),
    Column("generator_cpu_s", "generator CPU us each", 1e6, 1, better=""),
    Column("p50_s", "p50 ms", 1e3),
    Column("p99_s", "p99 ms", 1e3),
)


def run_closed_loop(server: Server, generator: LoadProcess, request: str, seconds: float, good: str) -> Figures:
    """Have all connections send requests for so many seconds; return the rate, and the costs of each answer."""
    before_s = cpu_s(server.pid)
    run = generator.ask("ask", request=request, seconds=seconds, good=good)
    spent_s = cpu_s(server.pid) - before_s
    return {**figures_of(run), "server_cpu_s": spent_s / run["answers"]}


def figures_of(run: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the answer to ``ask``, of `bench.load.closed_loop` or `bench.load.engines.native`."""
    return {
        "per_s": run["answers"] / run["wall_s"],
        "generator_cpu_s": run["generator_cpu_s"] / run["answers"],
        "generator_busy": run["generator_cpu_s"] / run["wall_s"],
        "p50_s": run["p50_s"],
        "p99_s": run["p99_s"],
    }
