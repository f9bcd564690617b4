"""Rates of several nodes: publishes per second, and store reads for renewals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from statistics import mean

from bench.load.closed_loop import CONNECTION
from bench.load.frames import client_frame
from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.cost import cpu_s
from bench.measure.engines import Engine
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Server
from bench.speed.closed_loop_runs import COLUMNS, figures_of
from bench.speed.nodes.engine_alone import Alone
from bench.speed.nodes.groups import Groups, name_of
from bench.speed.publish import PER_COMMIT, commits_and_publishes
from softstate.wire import CBOR, messages

PUBLISHERS = (16, 256)
JUDGED = 16
"""Number of publishers with which the rate is judged."""
RATE_MIN = 0.5
READS_MAX = 25.0
BARE = "bare loop"
BARE_ONE = "bare loop, 1 connection"

RENEWALS = (
    Column("per_s", "renewals per second", digits=0, better="more"),
    Column("reads_per_s", "head reads per second, busiest node", digits=1),
    Column("per_read", "renewals a read", digits=0, better="more"),
    Column("server_cpu_s", "server CPU us each", 1e6, 1),
    Column("generator_busy", "generator busy", better=""),
)


def rate(report: Report, engine: Engine, groups: Groups, alone: Alone, rounds: int, ask_s: float) -> None:
    """Publish from publishers spread over the nodes, each again as soon as it is answered."""
    with ExitStack() as stack:
        generators = {
            count: [stack.enter_context(LoadProcess("bench.load.closed_loop")) for _ in servers]
            for count, servers in groups.items()
        }
        for publishers in PUBLISHERS:
            measures: dict[str, Measure] = {}
            for count, servers in groups.items():
                for server, generator in zip(servers, generators[count], strict=True):
                    generator.ask("open", port=server.port, connections=publishers // count, protocol="softstate")
                measures[name_of(count)] = partial(_publish, servers, generators[count], ask_s)
                measures[name_of(count)]()  # to warm up
            if alone.ask is not None:
                measures[BARE] = partial(alone.ask, ask_s)
            if alone.ask_one is not None:
                measures[BARE_ONE] = partial(alone.ask_one, ask_s)
            title = f"{engine.kind}: durable publishes, {publishers} publishers"
            result = run_rounds(measures, rounds, title)
            report.table(title, result, (*COLUMNS, PER_COMMIT), baseline=BARE, compares="per_s")
            report.note_busy(title, result)
            if publishers == JUDGED:
                for count in groups:
                    name = f"{engine.kind}: publishes per second, {publishers} publishers, {name_of(count)}"
                    for bare in (BARE_ONE, BARE):
                        if bare in measures:
                            report.at_least(name, result, name_of(count), bare, "per_s", RATE_MIN)
    if alone.ask is not None:
        report.note(f"{engine.kind}: bare loop: {alone.about}")


def _publish(servers: Sequence[Server], generators: Sequence[LoadProcess], seconds: float) -> Figures:
    before_s = [cpu_s(server.pid) for server in servers]
    commits, publishes = commits_and_publishes(servers)
    for node, generator in enumerate(generators):
        generator.tell("ask", request=_request(node), seconds=seconds, good="published")
    runs = [generator.answer() for generator in generators]
    spent_s = sum(cpu_s(server.pid) - was_s for server, was_s in zip(servers, before_s, strict=True))
    commits_then, publishes_then = commits_and_publishes(servers)
    together = {
        "answers": sum(run["answers"] for run in runs),
        "generator_cpu_s": sum(run["generator_cpu_s"] for run in runs),
        "wall_s": max(run["wall_s"] for run in runs),
        "p50_s": mean(run["p50_s"] for run in runs),
        "p99_s": max(run["p99_s"] for run in runs),
    }
    figures = figures_of(together)
    figures["generator_busy"] /= len(generators)  # each is a process
    figures["server_cpu_s"] = spent_s / together["answers"]
    figures["per_commit"] = (publishes_then - publishes) / max(commits_then - commits, 1)
    return figures


def _request(node: int) -> str:
    """Return the template of a message that publishes the connection's own topic; other nodes' have other topics."""
    message = messages.Publish(1, f"bench/{node}/{CONNECTION.decode()}", value_of(0))
    return client_frame(CBOR.encode(message)).decode("latin-1")


def renewals(report: Report, engine: Engine, groups: Groups, rounds: int, sessions: int, renew_s: float) -> Rounds:
    """Have all sessions, spread over the nodes, renew again as soon as they are answered."""
    with ExitStack() as stack:
        measures: dict[str, Measure] = {}
        for count, servers in groups.items():
            load = stack.enter_context(LoadProcess("bench.load.sessions"))
            for server in servers:
                load.ask("open", port=server.port, connections=sessions // count, subscriptions=1)
            measures[name_of(count)] = partial(_renew, servers, load, renew_s)
            measures[name_of(count)]()  # to warm up
        title = f"{engine.kind}: renewals, {sessions:,} sessions without pause"
        result = run_rounds(measures, rounds, title)
    report.table(title, result, RENEWALS, baseline=name_of(1), compares="per_s")
    worst = max(run["reads_per_s"] for runs in result.runs.values() for run in runs)
    name = f"{engine.kind}: store reads by renewals, busiest node of any run"
    report.figure_at_most(name, worst, READS_MAX, "per second")
    return result


def _renew(servers: Sequence[Server], load: LoadProcess, seconds: float) -> Figures:
    before_s = [cpu_s(server.pid) for server in servers]
    before = [server.counter("head_reads") for server in servers]
    run = load.ask("keep_renewing", seconds=seconds)
    spent_s = sum(cpu_s(server.pid) - was_s for server, was_s in zip(servers, before_s, strict=True))
    # No session renews while the counters are read, so they count exactly this run.
    reads = [server.counter("head_reads") - was for server, was in zip(servers, before, strict=True)]
    return {
        "per_s": run["renewals"] / run["renew_s"],
        "reads_per_s": (max(reads) - 1) / run["renew_s"],
        "per_read": run["renewals"] / max(sum(reads), 1),  # none in a short run: the level answers all
        "server_cpu_s": spent_s / run["renewals"],
        "generator_busy": run["generator_cpu_s"] / run["renew_s"],
    }
