"""``python -m bench client``: a large first snapshot through the whole client, by stage of its CPU.

A node holds the topics in memory. In each round a new process follows a prefix of 1,000 to 1,000,000 topics with the
real client until its application has iterated over the last change (`bench.load.snapshot`); another one does the least
that this can cost: it decodes the same pages and puts their changes into a dict.

Two things can go wrong with size. Pages may be fetched more than once, by push and by poll; and a stage may look at
what it has already, so that a change costs more the more there are. Both are judged.
"""

from __future__ import annotations

from functools import partial

from bench.load.process import LoadProcess
from bench.load.snapshot import STAGES
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import softstate_server

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SIZES_QUICK = (1_000, 100_000)
OURS = "client"
FLOOR = "decode + dict"
FLAT = 2.0
"""Greatest growth of a ratio to the floor from the smallest snapshot to the largest that counts as linear."""
PAGES_MAX = 1.1
"""Greatest number of pages fetched, in times of those that the snapshot has."""

COLUMNS = (
    Column("cpu_s", "CPU of a change, µs", 1e6),
    *(Column(f"{stage}_s", f"{stage}, µs", 1e6) for stage in STAGES),
    Column("rest_s", "rest, µs", 1e6),
    Column("pages", "pages fetched / needed"),
    Column("whole_s", "first byte to last change, s", digits=3),
)


def client(measuring: Measuring, sizes: tuple[int, ...] = ()) -> Report:
    """Measure every size, and return the report. Raises `ConfigError` with ``--against``."""
    measuring.refuse_against("client", "its stages are those of this checkout's own client")
    sizes = sizes or (SIZES_QUICK if measuring.quick else SIZES)
    report = measuring.report("client", "one client's first snapshot, values of 100 bytes, node in another process")
    by_size = {}
    with softstate_server(store="memory:") as server:
        url = f"ws://127.0.0.1:{server.port}"
        for size in sizes:
            _run("fill", size, url=url)
            candidates = {OURS: partial(_run, "follow", size, url=url), FLOOR: partial(_run, "floor", size)}
            label = f"{size:,} topics"
            result = by_size[size] = run_rounds(candidates, measuring.rounds, label)
            report.table(label, result, COLUMNS, baseline=FLOOR, compares="cpu_s")
            pages = result.median(OURS, "pages")
            report.figure_at_most(f"pages fetched, {label}", pages, PAGES_MAX, "times those needed")
    _judge_linearity(report, by_size)
    report.note("rest: the WebSocket library, Trio, connecting; with few topics it is mostly the start of a client")
    report.note("iterate: begun when all has arrived, so that every change is pending at once")
    return report


def _run(command: str, size: int, **where: str) -> Figures:
    with LoadProcess("bench.load.snapshot") as process:
        return process.ask(command, count=size, **where)


def _judge_linearity(report: Report, by_size: dict[int, Rounds]) -> None:
    """Judge growth by the ratio to the floor, on which processor caches and the heap have the same effect."""
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    floor_grown = large.median(FLOOR, "cpu_s") / small.median(FLOOR, "cpu_s")
    for stage in STAGES:
        grown = large.median(OURS, f"{stage}_s") / small.median(OURS, f"{stage}_s") / floor_grown
        name = f"{stage}, ratio to the floor at {max(by_size):,} over that at {min(by_size):,}"
        report.figure_at_most(name, grown, FLAT, "times")
