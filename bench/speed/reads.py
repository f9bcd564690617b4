"""``python -m bench reads``: reads when more is asked than the node can do.

Askers page through a poll of 97 prefixes, give up after five seconds, hang up and ask again at once
(`bench.load.insistent`). Four of them keep the node busy: that is the peak. Four and sixteen times as many ask for more
than it can do. Innocents read one topic each beside them. The target: the pages served a second stay near the peak,
innocents are served, and the node stays ready.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import cbor2

from bench.load.process import LoadProcess
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, run_rounds
from bench.measure.servers import Server, softstate_server
from bench.speed.polls import post

PREFIXES = 97
TOPICS = 10_000
TOPICS_QUICK = 300
BATCH = 1_000
PEAK = 4
TIMES = (4, 16)
INNOCENTS = 4
RUN_S = 15.0
RUN_QUICK_S = 3.0
OURS = "softstate"
TARGET = 0.8

COLUMNS = [
    Column("per_s", "pages/s", digits=1, better="more"),
    Column("asker_p50_s", "p50 of a page, ms", 1e3, 0),
    Column("refused", "refused", digits=0, better=""),
    Column("given_up", "given up", digits=0),
    Column("innocents_p50_s", "innocents p50, ms", 1e3, 1),
    Column("innocents_p99_s", "p99, ms", 1e3, 0),
    Column("innocents_failed", "failed", digits=0),
    Column("not_ready", "not ready", digits=0),
    Column("server_cpu_s", "server CPU s", digits=1),
]


def reads(measuring: Measuring, topics: int = 0, run_s: float = 0.0) -> Report:
    """Measure goodput at the peak and at many times its load, or against another checkout, and return the report."""
    topics = topics or (TOPICS_QUICK if measuring.quick else TOPICS)
    run_s = run_s or (RUN_QUICK_S if measuring.quick else RUN_S)
    title = f"askers of {PREFIXES} prefixes with {topics:,} topics each, {INNOCENTS} innocents, {run_s:g} s each"
    report = measuring.report("reads", title)
    with ExitStack() as stack:
        servers: dict[str, tuple[Server, LoadProcess]] = {}
        for name, checkout in report.checkouts.named(OURS).items():
            server = stack.enter_context(softstate_server(checkout=checkout))
            fill(server, topics)
            servers[name] = server, stack.enter_context(LoadProcess("bench.load.insistent"))
        if report.compares:
            for askers in (PEAK, *(times * PEAK for times in TIMES)):
                loads = {name: partial(run, *one, askers, run_s) for name, one in servers.items()}
                what = f"{askers} askers"
                result = run_rounds(loads, measuring.rounds, what)
                report.table(what, result, COLUMNS, baseline="", compares="per_s")
            return report
        (one,) = servers.values()
        peak = f"{PEAK} askers"
        loads = {peak: partial(run, *one, PEAK, run_s)}
        loads |= {f"{times} x: {times * PEAK} askers": partial(run, *one, times * PEAK, run_s) for times in TIMES}
        loads[peak]()
        result = run_rounds(loads, measuring.rounds, "reads under overload")
        report.table("reads under overload", result, COLUMNS, baseline=peak, compares="per_s")
        for times in TIMES:
            overload = f"{times} x: {times * PEAK} askers"
            report.at_least(f"goodput at {times} times the load", result, overload, peak, "per_s", TARGET)
        report.note_busy("reads", result)
    return report


def run(server: Server, generator: LoadProcess, askers: int, run_s: float) -> Figures:
    """Load a node once."""
    before_s = cpu_s(server.pid)
    answer = generator.ask(
        "load",
        port=server.port,
        askers=askers,
        innocents=INNOCENTS,
        body={"prefixes": {f"p{number:02}/": 0 for number in range(PREFIXES)}},
        topic="p00/0",
        seconds=run_s,
    )
    spent_s = cpu_s(server.pid) - before_s
    busy = answer["generator_cpu_s"] / answer["wall_s"]
    return {**answer, "per_s": answer["pages"] / answer["wall_s"], "server_cpu_s": spent_s, "generator_busy": busy}


def fill(server: Server, topics: int) -> None:
    """Publish all topics, in an order that spreads each prefix over the whole store."""
    names = [f"p{prefix:02}/{number}" for number in range(topics) for prefix in range(PREFIXES)]
    with LoadProcess("bench.load.closed_loop") as loop:
        loop.ask("open", port=server.port, connections=1, protocol="http")
        for begin in range(0, len(names), BATCH):
            changes = [{"topic": name, "value": 1} for name in names[begin : begin + BATCH]]
            answer = loop.ask("once", request=post("/v1/publish", cbor2.dumps({"changes": changes})))["answer"]
            assert answer.startswith("HTTP/1.1 200"), answer[:400]
