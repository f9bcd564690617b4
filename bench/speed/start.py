"""``python -m bench start``: the CPU of commands that ask a node once, from their start to their end.

A script runs them by the hundred, and nearly all of it is imports. Each is a new process, of which the operating system
counts the CPU, user and system; the node is another one, and is not counted. Beside them: an interpreter that does
nothing, and one that imports Trio, which these commands do without.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, run_rounds
from bench.measure.servers import softstate_server

RUNS = {False: 5, True: 2}
"""Runs of a command in a round, with and without ``--quick``; the least of them counts."""

START_S_MAX = 0.25
EMPTY = "python -c pass"
TRIO = "python -c 'import trio'"
COMMANDS = {"publish": ("publish", "bench/start", "1"), "get": ("get", "bench/start"), "list": ("list", "bench/")}
COLUMNS = (Column("cpu_s", "CPU ms", 1e3),)


def start(measuring: Measuring) -> Report:
    """Measure each command, and return the report."""
    measuring.refuse_against("start", "it runs commands of this checkout")
    report = measuring.report("start", "CPU of commands that ask a node once, with the start of their process")
    with softstate_server(store="memory:") as server:
        url = ("--url", f"ws://127.0.0.1:{server.port}")
        words = {
            **{f"softstate {name}": ("-m", "softstate", *command, *url) for name, command in COMMANDS.items()},
            EMPTY: ("-c", "pass"),
            TRIO: ("-c", "import trio"),
        }
        candidates: dict[str, Measure] = {
            name: partial(_least, each, RUNS[measuring.quick]) for name, each in words.items()
        }
        result = run_rounds(candidates, measuring.rounds, "start")
    report.table("from start to end", result, COLUMNS, baseline=TRIO, compares="cpu_s")
    for name in COMMANDS:
        candidate = f"softstate {name}"
        report.figure_at_most(candidate, result.median(candidate, "cpu_s") * 1e3, START_S_MAX * 1e3, "ms of CPU")
    return report


def _least(words: Sequence[str], runs: int) -> Figures:
    return {"cpu_s": min(_cpu_s(words) for _ in range(runs))}


def _cpu_s(words: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
