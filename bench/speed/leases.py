"""``python -m bench leases``: the lease table alone, beside a bare dict from token to deadline.

No server and no clock: `bench.load.lease_table` leads 10,000 to 1,000,000 leases through their lives, each time in a
fresh process. The dict does the same and nothing more, in place and without a call: it knows no names, tells nobody
that a lease is over, and finds what is due by being walked once, when everything is.

There is no server here that another checkout could run: with ``--against`` each round runs ``python -m bench leases
--json`` of either checkout, by its own interpreter, and takes the medians of the lease table from it.
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
"""What the largest table may cost, as a multiple of what the smallest costs: 'flat', but for a processor's caches."""

STEPS_MIN = 200_000
"""Small tables live several times in one run, for so many leases together: else a step is over in a millisecond."""

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
    report.note("each round ran each checkout's own bench in a process of its own, generator and all")


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
    """Add to every round what one lease weighs: that does not vary, so it is taken once."""
    weighed: dict[str, list[Figures]] = {}
    for name, runs in result.runs.items():
        with LoadProcess("bench.load.lease_table") as process:
            weight = process.ask("weigh", candidate=NAMES[name], count=size)
        weighed[name] = [{**run, **weight} for run in runs]
    return Rounds(weighed)


def _judge_flatness(report: Report, by_size: dict[int, Rounds]) -> None:
    """Judge growth by the ratio to the dict, which meets the same caches."""
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    for figure, what in (("renew_s", "renew"), ("expire_s", "expire"), ("grant_s", "grant"), ("bytes", "bytes")):
        grown = large.ratio(TABLE, DICT, figure).median / small.ratio(TABLE, DICT, figure).median
        name = f"{what}, ratio to the dict at {max(by_size):,} over that at {min(by_size):,}"
        report.figure_at_most(name, grown, FLAT, "times")
