"""``python -m bench nodes``: several nodes on one store, for each engine: their rates, and their load on the engine.

One, two and four nodes, separate ``softstate serve`` processes, each group on a store of its own in the same engine.
All are up at the same time and take turns, beside the engine alone (`bench.load.engines.native`), which does the least
that the work can cost: a durable write, and the engine's own notification of a subscriber.

1. latency, at a fixed rate, in an open loop: published at one node, applied by subscribers at the others;
2. durable publishes per second, from publishers spread over the nodes (`bench.speed.nodes.rates`);
3. store reads that renewals cause, when all sessions renew as soon as they are answered (likewise);
4. the death of a node (`bench.speed.nodes.death`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.engines import THROW_AWAY, Engine, engine
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import NotInstalled
from bench.speed.nodes.death import deaths
from bench.speed.nodes.engine_alone import Alone, engine_alone
from bench.speed.nodes.groups import Groups, group, name_of
from bench.speed.nodes.rates import rate, renewals

PER_S = 200.0
"""Publishes per second while latency is measured."""
TOPICS = 6
"""Topics of these publishes, each with a publisher and a subscriber; the engine alone has a writer for each."""
WARM_UP_S = 0.5
LATENCY_MAX = 3.0
FROM_COMMIT = "from_commit_p99_s"
"""Latency from the commit: of nodes from the acknowledgement; of the engine alone, generously, from the publish."""

LATENCY = (
    Column("applied_p50_s", "p50 ms", 1e3),
    Column("applied_p99_s", "p99 ms", 1e3),
    Column("acknowledged_p50_s", "ack p50 ms", 1e3),
    Column("acknowledged_p99_s", "ack p99 ms", 1e3),
    Column("after_p50_s", "after ack p50 ms", 1e3),
    Column("after_p99_s", "after ack p99 ms", 1e3),
    Column("late_p99_s", "generator late p99 ms", 1e3, better=""),
    Column("generator_busy", "generator busy", better=""),
)


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of rounds, deaths, nodes, sessions and clients, and seconds of one run."""

    rounds: int
    deaths: int
    counts: tuple[int, ...] = (1, 2, 4)
    run_s: float = 4.0
    ask_s: float = 1.5
    renew_s: float = 3.0
    sessions: int = 1_000
    clients_each: int = 100
    ttl_s: float = 6.0


def nodes(measuring: Measuring, stores: Sequence[str] = (), size: Size | None = None) -> Report:
    """Measure on each store, or on all installed engines if none is named. Raises `NotInstalled` for a named one."""
    measuring.refuse_against("nodes", "it would run 14 nodes of both at once; compare `publish` and `latency` instead")
    if size is None:
        size = Size(measuring.rounds, deaths=3)
        if measuring.quick:
            size = Size(measuring.rounds, deaths=1, run_s=2.0, ask_s=0.7, renew_s=1.0, clients_each=60, ttl_s=3.0)
    report = Report("nodes", "1, 2 and 4 nodes on one store, beside the engine alone")
    for store in stores or THROW_AWAY:
        try:
            with engine(store) as found:
                measure(report, found, size)
        except NotInstalled as missing:
            if stores:
                raise
            report.note(f"{store} skipped: {missing}")
    report.note("p50, p99: from when a publish was due until a subscriber at another node (of 1: the same) has it")
    report.note("after ack: negative or 0 if a subscriber has it no later than the publisher has its answer")
    report.note("head reads: without the first one, which ends no period")
    return report


def measure(report: Report, engine: Engine, size: Size) -> None:
    """Measure one engine."""
    report.note(f"{engine.kind}: {engine.about}")
    with ExitStack() as stack:
        groups = {count: stack.enter_context(group(engine, count, f"nodes_{count}")) for count in size.counts}
        alone = stack.enter_context(engine_alone(engine, TOPICS, PER_S))
        latency(report, engine, groups, alone, size)
        rate(report, engine, groups, alone, size.rounds, size.ask_s)
        renewals(report, engine, groups, size.rounds, size.sessions, size.renew_s)
    several = [count for count in size.counts if count > 1]
    if several:
        deaths(report, engine, several, size.deaths, size.clients_each, size.ttl_s)


def _with_from_commit(run: Measure, figure: str) -> Figures:
    """Run, and add a figure under the name `FROM_COMMIT`."""
    figures = run()
    return {**figures, FROM_COMMIT: figures[figure]}


def latency(report: Report, engine: Engine, groups: Groups, alone: Alone, size: Size) -> Rounds:
    """Publish at the first node by the clock, with subscribers at the others."""
    with ExitStack() as stack:
        measures: dict[str, Measure] = {}
        for count, servers in groups.items():
            load = stack.enter_context(LoadProcess("bench.load.open_loop"))
            first, *others = (server.port for server in servers)
            load.ask(
                "open", port=first, topics=TOPICS, subscribers_each=1, publishers=TOPICS, subscriber_ports=others
            )  # fmt: skip
            load.ask("run", per_s=PER_S, seconds=WARM_UP_S)
            run = partial(load.ask, "run", per_s=PER_S, seconds=size.run_s)
            measures[name_of(count)] = partial(_with_from_commit, run, "after_p99_s")
        if alone.run is not None:
            measures[alone.baseline] = partial(_with_from_commit, partial(alone.run, size.run_s), "applied_p99_s")
        title = f"{engine.kind}: latency, {PER_S:g} publishes/s"
        result = run_rounds(measures, size.rounds, title)
    report.table(title, result, LATENCY, baseline=alone.baseline, compares="applied_p99_s")
    for count in groups:
        if count > 1 and alone.notifies:
            for origin, figure in (("from the commit", FROM_COMMIT), ("from the publish", "applied_p99_s")):
                name = f"{engine.kind}: cross-node p99 {origin}, {name_of(count)}"
                report.at_most(name, result, name_of(count), alone.baseline, figure, LATENCY_MAX)
    if engine.kind == "sqlite":
        report.note("sqlite does not notify other processes: latency stands beside a bare commit, and is not judged")
    elif not alone.notifies:
        report.note(f"{engine.kind}: not compared with the engine alone, since this bench cannot use TLS for that")
    return result
