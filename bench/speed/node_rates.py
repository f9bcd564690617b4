"""What several nodes publish in a second, and how often they read the store for those who renew."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from statistics import mean

from bench.load.asker import CONNECTION
from bench.load.asking import COLUMNS, note_busy_askers
from bench.load.engines.alone import Alone, per_answer
from bench.load.process import LoadProcess
from bench.load.protocols import client_frame, value_of
from bench.measure.cost import cpu_s
from bench.measure.engines import Engine
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Server
from bench.speed.node_groups import Groups, name_of
from bench.speed.publish import PER_COMMIT, counted, counters
from softstate.wire import CBOR, messages

PUBLISHERS = (16, 256)
JUDGED = 16
"""With how many publishers the rate is judged."""
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
        askers = {
            count: [stack.enter_context(LoadProcess("bench.load.asker")) for _ in servers]
            for count, servers in groups.items()
        }
        for publishers in PUBLISHERS:
            measures: dict[str, Measure] = {}
            for count, servers in groups.items():
                for server, asker in zip(servers, askers[count], strict=True):
                    asker.ask("open", port=server.port, connections=publishers // count, speaks="softstate")
                measures[name_of(count)] = partial(_publish, servers, askers[count], ask_s)
                measures[name_of(count)]()  # to warm up
            if alone.ask is not None:
                measures[BARE] = partial(alone.ask, ask_s)
            if alone.ask_one is not None:
                measures[BARE_ONE] = partial(alone.ask_one, ask_s)
            title = f"{engine.kind}: durable publishes, {publishers} publishers"
            result = run_rounds(measures, rounds, title)
            report.table(title, result, (*COLUMNS, PER_COMMIT), baseline=BARE, compares="per_s")
            note_busy_askers(report, title, result)
            if publishers == JUDGED:
                for count in groups:
                    name = f"{engine.kind}: publishes per second, {publishers} publishers, {name_of(count)}"
                    for bare in (BARE_ONE, BARE):
                        if bare in measures:
                            report.at_least(name, result, name_of(count), bare, "per_s", RATE_MIN)
    if alone.ask is not None:
        report.note(f"{engine.kind}: bare loop: {alone.about}")


def _publish(servers: Sequence[Server], askers: Sequence[LoadProcess], seconds: float) -> Figures:
    before_s = [cpu_s(server.pid) for server in servers]
    commits, publishes = _counted(servers)
    for node, asker in enumerate(askers):
        asker.tell("ask", request=_request(node), seconds=seconds, good="published")
    runs = [asker.answer() for asker in askers]
    spent_s = sum(cpu_s(server.pid) - was_s for server, was_s in zip(servers, before_s, strict=True))
    commits_then, publishes_then = _counted(servers)
    together = {
        "answers": sum(run["answers"] for run in runs),
        "asker_cpu_s": sum(run["asker_cpu_s"] for run in runs),
        "wall_s": max(run["wall_s"] for run in runs),
        "p50_s": mean(run["p50_s"] for run in runs),
        "p99_s": max(run["p99_s"] for run in runs),
    }
    figures = per_answer(together)
    figures["asker_busy"] /= len(askers)  # each has a process of its own
    figures["server_cpu_s"] = spent_s / together["answers"]
    figures["per_commit"] = (publishes_then - publishes) / max(commits_then - commits, 1)
    return figures


def _counted(servers: Sequence[Server]) -> tuple[float, float]:
    found = [counters(server) for server in servers]
    return sum(commits for commits, _ in found), sum(publishes for _, publishes in found)


def _request(node: int) -> str:
    """Return the template of a message that publishes the connection's topic, which nobody at another node does."""
    message = messages.Publish(1, f"bench/{node}/{CONNECTION.decode()}", value_of(0))
    return client_frame(CBOR.encode(message)).decode("latin-1")


def renewals(report: Report, engine: Engine, groups: Groups, rounds: int, sessions: int, renew_s: float) -> Rounds:
    """Have all sessions, spread over the nodes, renew as fast as they are answered."""
    with ExitStack() as stack:
        measures: dict[str, Measure] = {}
        for count, servers in groups.items():
            crowd = stack.enter_context(LoadProcess("bench.load.crowd"))
            for server in servers:
                crowd.ask("open", port=server.port, connections=sessions // count, subscriptions=1)
            measures[name_of(count)] = partial(_renew, servers, crowd, renew_s)
            measures[name_of(count)]()  # to warm up
        title = f"{engine.kind}: renewals, {sessions:,} sessions without pause"
        result = run_rounds(measures, rounds, title)
    report.table(title, result, RENEWALS, baseline=name_of(1), compares="per_s")
    worst = max(run["reads_per_s"] for runs in result.runs.values() for run in runs)
    name = f"{engine.kind}: store reads by renewals, busiest node of any run"
    report.figure_at_most(name, worst, READS_MAX, "per second")
    return result


def _renew(servers: Sequence[Server], crowd: LoadProcess, seconds: float) -> Figures:
    before_s = [cpu_s(server.pid) for server in servers]
    before = [_head_reads(server) for server in servers]
    run = crowd.ask("keep_renewing", seconds=seconds)
    spent_s = sum(cpu_s(server.pid) - was_s for server, was_s in zip(servers, before_s, strict=True))
    # Nobody renews when the counters are read, so they count exactly this run.
    reads = [_head_reads(server) - was for server, was in zip(servers, before, strict=True)]
    return {
        "per_s": run["renewals"] / run["renew_s"],
        "reads_per_s": (max(reads) - 1) / run["renew_s"],
        "per_read": run["renewals"] / sum(reads),
        "server_cpu_s": spent_s / run["renewals"],
        "generator_busy": run["generator_cpu_s"] / run["renew_s"],
    }


def _head_reads(server: Server) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as reply:
        return counted(reply.read().decode(), "head_reads")
