"""``python -m bench nodes``: several nodes on one store, for each engine: what they bring, and what they cost it.

One, two and four nodes, separate ``softstate serve`` processes, each number of them on a store of its own in the same
engine. All are up at the same time and take turns, beside the engine alone (`bench.load.engines.native`), which does
the least that anybody must do: a durable write, and its own way of telling a subscriber.

1. latency, at a fixed rate, open loop: published at one node, applied by subscribers at the others;
2. durable publishes per second, from publishers spread over the nodes (`bench.speed.node_rates`);
3. store reads that renewals cause, when all sessions renew as fast as they are answered (likewise);
4. the death of a node (`bench.speed.node_death`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.load.engines.alone import Alone, engine_alone
from bench.load.process import LoadProcess
from bench.measure.engines import THROW_AWAY, Engine, engine
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Absent
from bench.speed.node_death import deaths
from bench.speed.node_groups import Groups, group, name_of
from bench.speed.node_rates import rate, renewals

PER_S = 200.0
"""Publishes per second while latency is measured."""
TOPICS = 6
"""Topics of those publishes, each with a publisher and a subscriber; the engine alone has a writer for each."""
WARM_UP_S = 0.5
LATENCY_MAX = 3.0
TOLD = "told_p99_s"
"""From the commit, as far as it is known: for nodes from the acknowledgement; for the engine alone, which is given all
the time there is, from the publish."""

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
    """How much to measure: how many of what, and seconds of one run. The death of a node has rounds of its own."""

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
    """Measure on each store; on all engines that are installed if none is named. Raises `Absent` for a named one."""
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
        except Absent as absent:
            if stores:
                raise
            report.note(f"{store} skipped: {absent}")
    report.note(
        "p50, p99: from the time at which a publish was due until a subscriber at another node has it (1: same)"
    )
    report.note("after ack: negative or 0 where a subscriber has it as soon as the publisher has its answer")
    report.note("head reads: the first begins a period and ends none, so it is not counted")
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


def _counted(run: Measure, figure: str) -> Figures:
    """Run, and say under one name from where the time to a subscriber counts."""
    figures = run()
    return {**figures, TOLD: figures[figure]}


def latency(report: Report, engine: Engine, groups: Groups, alone: Alone, size: Size) -> Rounds:
    """Publish at the first node by the clock, and subscribe at the others."""
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
            measures[name_of(count)] = partial(_counted, run, "after_p99_s")
        if alone.run is not None:
            measures[alone.baseline] = partial(_counted, partial(alone.run, size.run_s), "applied_p99_s")
        title = f"{engine.kind}: latency, {PER_S:g} publishes/s"
        result = run_rounds(measures, size.rounds, title)
    report.table(title, result, LATENCY, baseline=alone.baseline, compares="applied_p99_s")
    for count in groups:
        if count > 1 and alone.tells:
            for counted, figure in (("from the commit", TOLD), ("from the publish", "applied_p99_s")):
                name = f"{engine.kind}: cross-node p99 {counted}, {name_of(count)}"
                report.at_most(name, result, name_of(count), alone.baseline, figure, LATENCY_MAX)
    if engine.kind == "sqlite":
        report.note("sqlite tells no other process of a change: latency stands beside a bare commit, and is not judged")
    elif not alone.tells:
        report.note(f"{engine.kind}: not compared with the engine alone, to which this bench speaks no TLS")
    return result
