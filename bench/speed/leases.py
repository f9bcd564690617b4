"""``python -m bench leases``: the lease table alone, beside a bare dict from token to deadline.

There is no server and no clock: `bench.load.lease_table` runs 10,000 to 1,000,000 leases through all steps, each time
in a new process. The dict does the least that this can cost, in place and without a call: it has no names, does not
report that a lease has ended, and is walked once, when all are due.

Since there is no server that another checkout could run, with ``--against`` each round runs ``python -m bench leases
--json`` of both checkouts, with their own interpreters, and takes the medians of the lease table from it.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from functools import partial

from bench.load.lease_table import RENEWALS
from bench.load.process import LoadProcess
from bench.measure.checkouts import Checkout
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import ServerFailed

SIZES = (10_000, 100_000, 1_000_000)
SIZES_QUICK = (10_000, 100_000)
TABLE = "lease table"
DICT = "bare dict"
TARGET = 2.0
FLAT = 2.0
"""Greatest growth of a cost from the smallest table to the largest that counts as flat."""

STEPS_MIN = 200_000
"""Leases of one run: small tables run several times, since else a step would only take a millisecond."""

NAMES = {TABLE: "table", DICT: "dict"}
COLUMNS = (
    Column("renew_s", "renew ns", 1e9, 0),
    Column("pass_s", "wheel passes ns", 1e9, 0),
    Column("expire_s", "expire ns", 1e9, 0),
    Column("grant_s", "grant ns", 1e9, 0),
    Column("bytes", "bytes each", digits=0),
)


def leases(measuring: Measuring, sizes: tuple[int, ...] = ()) -> Report:
    """Measure every size, and return the report."""
    sizes = sizes or (SIZES_QUICK if measuring.quick else SIZES)
    report = measuring.report("leases", "the lease table alone, no names, beside a dict from token to deadline")
    if report.compares:
        compare(report, measuring.quick, measuring.rounds)
        return report
    by_size = {}
    for size in sizes:
        label = f"{size:,} leases"
        result = run_rounds({name: partial(_live, name, size) for name in NAMES}, measuring.rounds, label)
        by_size[size] = _weighed(result, size)
        report.table(label, by_size[size], COLUMNS, baseline=DICT, compares="renew_s")
        for figure, what in (("renew_s", "renew"), ("expire_s", "expire")):
            report.at_most(f"{what}, {label}", result, TABLE, DICT, figure, TARGET)
    _judge_flatness(report, by_size)
    report.note(f"wheel passes: once in a TTL, so a {RENEWALS}rd of it belongs to each renewal of a live lease")
    report.note("the ratio in the tables is that of renew; bytes by tracemalloc, in runs of their own, tokens excluded")
    return report


def compare(report: Report, quick: bool, rounds: int) -> None:
    """Run the leases bench of both checkouts in each round."""
    named = report.checkouts.named(TABLE)
    result = run_rounds({name: partial(own_bench, checkout, quick) for name, checkout in named.items()}, rounds)
    for label in {key.partition(": ")[0]: None for key in result.runs[next(iter(named))][0]}:
        columns = [replace(column, figure=f"{label}: {column.figure}") for column in COLUMNS]
        report.table(label, result, columns, baseline="", compares="")
    report.note("each round ran each checkout's own bench, generator included, in a new process")


def own_bench(checkout: Checkout, quick: bool) -> Figures:
    """Run ``python -m bench leases`` in a checkout; return its lease table's medians as "TITLE: FIGURE".

    A checkout whose bench knows ``--rounds`` runs one round, an older one as many as it does without.
    Raises `ServerFailed`.
    """
    knows_rounds = "--rounds" in _said(checkout, "leases", "--help")
    words = [*(["--quick"] if quick else []), *(["--rounds", "1"] if knows_rounds else [])]
    report = json.loads(_said(checkout, "leases", "--json", *words))
    return {
        f"{table['title']}: {figure}": value
        for table in report["tables"]
        for row in table["rows"]
        for figure, value in row["medians"].items()
        if row["name"] == TABLE
    }


def _said(checkout: Checkout, *words: str) -> str:
    command = checkout.bench(*words)
    done = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerFailed(
            f"{' '.join(command)} in {checkout.folder} failed: {done.stderr.strip().rpartition(chr(10))[2]}"
        )
    return done.stdout


def _live(name: str, size: int) -> Figures:
    with LoadProcess("bench.load.lease_table") as process:
        return process.ask("live", candidate=NAMES[name], count=size, times=max(STEPS_MIN // size, 1))


def _weighed(result: Rounds, size: int) -> Rounds:
    """Add the bytes of a lease to each round; they do not vary, so they are measured once."""
    weighed: dict[str, list[Figures]] = {}
    for name, runs in result.runs.items():
        with LoadProcess("bench.load.lease_table") as process:
            weight = process.ask("weigh", candidate=NAMES[name], count=size)
        weighed[name] = [{**run, **weight} for run in runs]
    return Rounds(weighed)


def _judge_flatness(report: Report, by_size: dict[int, Rounds]) -> None:
    """Judge growth by the ratio to the dict, on which processor caches have the same effect."""
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    for figure, what in (("renew_s", "renew"), ("expire_s", "expire"), ("grant_s", "grant"), ("bytes", "bytes")):
        grown = large.ratio(TABLE, DICT, figure).median / small.ratio(TABLE, DICT, figure).median
        name = f"{what}, ratio to the dict at {max(by_size):,} over that at {min(by_size):,}"
        report.figure_at_most(name, grown, FLAT, "times")
