"""``python -m bench stalled``: the effect of a stalled and a slow reader on all other subscribers.

A thousand subscribers are sent bursts, one after the other. In half of the runs there are two more that do not keep up
(`bench.load.slow_readers`), both congested before the run begins.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.cost import RESIDENT_SOURCE, resident_bytes
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Measure, run_rounds
from bench.measure.servers import Server, softstate_server

SUBSCRIBERS = 1_000
TOPICS = 20
CONGESTED_S_MAX = 3.0
"""The server's ``--congested-s-max``: a reader that is congested for so long is demoted. The default is 10 s."""
RUN_S = 5.0
BURST_EVERY_S = 0.02
"""Least time between bursts: the revision must stay below 65,536, from where on frames are two bytes longer."""
BULK_CHANGES = 150
"""Changes of 60,000 bytes each: together twice the kernel's buffers for one socket."""
PENDING_BYTES_MAX = 1024 * 1024
"""The server's default limit of pending data for a slow reader; the memory target allows twice that for each."""

ALONE = "alone"
BESIDE = "beside a stalled and a slow one"
COLUMNS = (
    Column("p99_s", "p99 ms", 1e3),
    Column("p50_s", "p50 ms", 1e3),
    Column("grown_bytes", "server grew by, MiB", 1 / 1024**2),
    Column("stalled_demoted", "stalled one demoted", digits=0, better=""),
    Column("slow_demoted", "slow one demoted", digits=0, better=""),
    Column("agree", "converged of 2", digits=0, better=""),
)
NOISE = 1.15
"""Greatest ratio of the others' p99 with and without slow readers."""


def stalled(measuring: Measuring, subscribers: int = SUBSCRIBERS, run_s: float = RUN_S) -> Report:
    """Measure the others' delivery times with and without two that do not keep up."""
    about = f"{subscribers:,} subscribers, one stalled, one slow; bursts of {TOPICS} changes"
    report = measuring.report("stalled", about)
    topics = [f"bench/{number:02}" for number in range(TOPICS)]
    options = ("--congested-s-max", str(CONGESTED_S_MAX))
    with ExitStack() as stack:
        alone: dict[str, Measure] = {}
        beside: dict[str, Measure] = {}
        names = zip(report.checkouts.named(ALONE).items(), report.checkouts.named(BESIDE), strict=True)
        for (name, checkout), name_beside in names:
            server = stack.enter_context(softstate_server(*options, checkout=checkout))
            sink = stack.enter_context(LoadProcess("bench.load.sink"))
            sink.ask("open", protocol="softstate", port=server.port, connections=subscribers, topics=topics)
            _bursts(server, sink, run_s / 2)
            alone[name] = partial(_bursts, server, sink, run_s)
            beside[name_beside] = partial(_beside, server, sink, topics, run_s)
        result = run_rounds({**alone, **beside}, measuring.rounds, "stalled")
    report.table("delivery to the others", result, COLUMNS, baseline=ALONE, compares="p99_s")
    everything = [run for name in beside for run in result.runs[name]]
    for figure, wanted, name in (
        ("stalled_demoted", 1, "stalled reader demoted (revoked: slow_consumer)"),
        ("agree", 2, "both converged afterwards"),
    ):
        least = min(run[figure] for run in everything)
        report.targets.append(Target(name, f"{wanted} in every round", f"at least {least:g}", least == wanted))
    if not report.compares:
        report.at_most("the others' p99", result, BESIDE, ALONE, "p99_s", NOISE)
        grown = max(run["grown_bytes"] for run in everything) / 1024**2
        report.figure_at_most("server memory, most growth in a run", grown, 4 * PENDING_BYTES_MAX / 1024**2, "MiB")
    report.note(f"the server runs with --congested-s-max {CONGESTED_S_MAX:g}, so that a demotion fits into a run")
    report.note("the slow reader reads 80 KB/s: it may stay live, since a newer change replaces a pending one")
    report.note(f"memory: {RESIDENT_SOURCE}, sampled after each burst; kernel buffers are not in it")
    return report


def _beside(server: Server, sink: LoadProcess, topics: Sequence[str], seconds: float) -> Figures:
    """Publish bursts while two more do not keep up; return also whether they were demoted and converged."""
    with LoadProcess("bench.load.slow_readers") as readers:
        readers.ask("open", port=server.port, topics=topics, bulk_changes=BULK_CHANGES)
        readers.tell("lag", seconds=seconds)
        figures = _bursts(server, sink, seconds)
        readers.answer()
        end = readers.ask("catch_up", topics=topics)
    demoted = {f"{name}_demoted": end[f"{name}_revoked"] == "slow_consumer" for name in ("stalled", "slow")}
    return figures | demoted | {"agree": end["stalled_agrees"] + end["slow_agrees"]}


def _bursts(server: Server, sink: LoadProcess, seconds: float) -> dict[str, float]:
    """Publish bursts for some seconds; return medians of their times, and the growth of the server's memory."""
    before = most = resident_bytes(server.pid)
    p50, p99 = [], []
    deadline = time.monotonic() + seconds
    while (began := time.monotonic()) < deadline:
        answer = sink.ask("bursts", times=1)
        p50.append(answer["p50_s"])
        p99.append(answer["p99_s"])
        most = max(most, resident_bytes(server.pid))
        time.sleep(max(0.0, began + BURST_EVERY_S - time.monotonic()))
    middle = len(p99) // 2
    return {"p50_s": sorted(p50)[middle], "p99_s": sorted(p99)[middle], "grown_bytes": most - before}
