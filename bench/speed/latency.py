"""``python -m bench latency``: the time from a publish until a subscriber has applied the change.

The load is an open loop: publishes are due by the clock, and latency counts from the time at which one was *due*, so
that a delay is counted for each publish that it affects. First the ceiling is measured, with many publishes under way
at once; then a tenth, half and nine tenths of it are offered, in turns. The store is the default, SQLite, durable: each
acknowledged publish has waited for the disk, so a bare commit of the same kind on the same disk stands beside it.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Server, folder, softstate_server

TOPICS = 100
SUBSCRIBERS_EACH = 4
PUBLISHERS = 16
OUTSTANDING = 256
"""Publishes under way at once while the ceiling is measured."""
CEILING_S = {False: 5.0, True: 2.0}
CEILINGS = 3
"""Runs of which the ceiling is the median; if checkouts are compared, there is one in each round."""
RUN_S = {False: 10.0, True: 3.0}
SHARES = (0.1, 0.5, 0.9)
COMMITS = {False: 2_000, True: 500}

OURS = "softstate"
COMMIT = "sqlite3 commit"

CEILING = (Column("per_s", "acknowledged per second", digits=0, better="more"),)

APPLIED = (
    Column("applied_p50_s", "p50 ms", 1e3),
    Column("applied_p99_s", "p99 ms", 1e3),
    Column("applied_p999_s", "p99.9 ms", 1e3),
    Column("acknowledged_p50_s", "ack p50 ms", 1e3),
    Column("acknowledged_p99_s", "ack p99 ms", 1e3),
    Column("after_p50_s", "after ack p50 ms", 1e3),
    Column("after_p99_s", "after ack p99 ms", 1e3),
    Column("after_p999_s", "after ack p99.9 ms", 1e3),
    Column("late_p99_s", "generator late p99 ms", 1e3, better=""),
    Column("server_busy", "server busy"),
    Column("generator_busy", "generator busy", better=""),
)


def latency(measuring: Measuring) -> Report:
    """Measure the ceiling, then latency at shares of it."""
    quick = measuring.quick
    report = measuring.report(
        "latency",
        f"publish to applied: {TOPICS} topics, {SUBSCRIBERS_EACH} subscribers each, {PUBLISHERS} publishers,"
        " durable store, open loop",
    )
    shares(report, CEILING_S[quick], RUN_S[quick], COMMITS[quick], measuring.rounds)
    report.note("p50 to p99.9: from the time at which a publish was due until a subscriber has it, or a newer one")
    report.note("ack: from then until its publisher has the answer. after ack: negative if a subscriber was earlier")
    return report


def shares(report: Report, ceiling_s: float, run_s: float, commits: int, rounds: int, topics: int = TOPICS) -> Rounds:
    """Offer shares of the ceiling to one server, in turn with commits to a bare database.

    Two checkouts are offered the same rates, shares of the lower of their ceilings, without a database.
    """
    with ExitStack() as stack:
        up = {}
        for name, checkout in report.checkouts.named(OURS).items():
            server = stack.enter_context(softstate_server(checkout=checkout))
            load = stack.enter_context(LoadProcess("bench.load.open_loop"))
            load.ask("open", port=server.port, topics=topics, subscribers_each=SUBSCRIBERS_EACH, publishers=PUBLISHERS)
            load.ask("ceiling", seconds=ceiling_s / 2, outstanding=OUTSTANDING)  # to warm up
            up[name] = (server, load)
        ceilings = run_rounds(
            {
                name: partial(load.ask, "ceiling", seconds=ceiling_s, outstanding=OUTSTANDING)
                for name, (_, load) in up.items()
            },
            rounds if report.compares else CEILINGS,
            "ceiling",
        )
        per_s = min(ceilings.median(name, "per_s") for name in up)
        runs: dict[str, Measure] = {} if report.compares else {COMMIT: partial(commit, commits)}
        for share in SHARES:
            label = f"{share:.0%} of the ceiling, {share * per_s:,.0f}/s"
            for name, both in zip(report.checkouts.named(label), up.values(), strict=True):
                runs[name] = partial(_offer, *both, share * per_s, run_s)
        result = run_rounds(runs, rounds, "latency")
    if report.compares:
        report.table("ceiling", ceilings, CEILING, baseline="", compares="per_s")
    report.note(f"ceiling: {per_s:,.0f} publishes/s acknowledged, with {OUTSTANDING} under way; durable")
    report.table("latency", result, APPLIED, baseline=COMMIT, compares="applied_p50_s")
    report.note_busy("latency", result)
    return result


def _offer(server: Server, load: LoadProcess, per_s: float, seconds: float) -> Figures:
    before, began = cpu_s(server.pid), time.monotonic()
    answer = load.ask("run", per_s=per_s, seconds=seconds)
    busy = (cpu_s(server.pid) - before) / (time.monotonic() - began)
    return {**answer, "server_busy": busy}


def commit(times: int) -> Figures:
    """Commit rows one by one with the durability of the store; return quantiles of the times."""
    with folder() as home:
        database = sqlite3.connect(Path(home) / "floor.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE floor (topic INTEGER PRIMARY KEY, value BLOB)")
        took = []
        for number in range(times):
            began = time.perf_counter()
            database.execute("INSERT OR REPLACE INTO floor VALUES (?, ?)", (number % TOPICS, value_of(number)))
            took.append(time.perf_counter() - began)
        database.close()
    took.sort()
    last = times - 1
    return {
        "applied_p50_s": took[last // 2],
        "applied_p99_s": took[round(last * 0.99)],
        "applied_p999_s": took[round(last * 0.999)],
    }
