"""Figures that follow from others: the rate for a CPU second, and what a candidate costs above a baseline."""

from __future__ import annotations

from bench.measure.report import Column
from bench.measure.rounds import Figures, Rounds

ADDED = Column("added_s", "added CPU us", 1e6, 1)
PER_CPU = Column("per_cpu_s", "per CPU second", digits=0, better="more")


def with_added(result: Rounds, baseline: str, figure: str = "server_cpu_s") -> Rounds:
    """Add to each candidate what its CPU is above the baseline's in the same round."""
    runs: dict[str, list[Figures]] = {}
    for name, mine in result.runs.items():
        pairs = zip(mine, result.runs[baseline], strict=True)
        runs[name] = [
            dict(run) if name == baseline else {**run, "added_s": run[figure] - base[figure]} for run, base in pairs
        ]
    return Rounds(runs)


def with_per_cpu(figures: Figures) -> Figures:
    """Add how many there are for each CPU second of the server."""
    return {**figures, "per_cpu_s": 1 / max(figures["server_cpu_s"], 1e-9)}
