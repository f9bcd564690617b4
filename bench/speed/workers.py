"""``python -m bench workers``: the gain of a second node on the same port and store (``softstate serve --workers 2``).

One worker and two get the same load, in turns: renewals and conditional polls, which each worker answers by itself, and
bursts of changes to many subscribers, of which each worker has some. Both servers run all the time; an idle one costs
very little.

The generator needs a core as well. If it and two workers share two cores, a second worker cannot double the rate: it
gains at most the time that the generator leaves, which each table shows (``cores in use``). The CPU time of the server
for each operation tells the gain of more cores.

The kernel assigns each new connection to a worker by a hash of its addresses, so that one worker has more than half.
Its share differs between runs of the bench, and is the same within one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from bench.load.process import LoadProcess
from bench.measure.checkouts import Checkouts
from bench.measure.cost import CPU_S_MIN, children_of, cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server, softstate_server
from bench.speed.polls import questions

WORKERS = (1, 2)
SESSIONS = 1_000
RENEWALS = 5
"""Renewals of each session in one run."""
CONNECTIONS = 64
ASK_S = {False: 1.0, True: 0.5}
"""Duration of polling in one run, with and without ``--quick``."""
SUBSCRIBERS = 1_000
TOPICS = 80
"""Changes of one burst: enough that delivering takes longer than a worker takes to notice the other's commit."""
BURSTS = 5

COLUMNS = (
    Column("per_s", "per second", digits=0, better="more"),
    Column("server_cpu_s", "server CPU us each", 1e6),
    Column("cores", "cores in use, servers", better=""),
    Column("generator_busy", "and generator", better=""),
    Column("share", "share of the busier worker", better=""),
)

Run: TypeAlias = Callable[[], tuple[int, float, float]]
"""Runs the load once; returns the number of operations, the seconds, and the CPU seconds of the generator."""


@dataclass(frozen=True, slots=True)
class Group:
    """A server of some workers."""

    server: Server
    pids: tuple[int, ...]

    def measure(self, run: Run) -> Figures:
        """Run a load; return its rate, and its cost to all processes of the server."""
        before = [cpu_s(pid) for pid in self.pids]
        count, wall_s, generator_cpu_s = run()
        spent = [max(cpu_s(pid) - was, CPU_S_MIN) for pid, was in zip(self.pids, before, strict=True)]
        return {
            "per_s": count / wall_s,
            "server_cpu_s": sum(spent) / count,
            "cores": sum(spent) / wall_s,
            "generator_busy": generator_cpu_s / wall_s,
            "share": max(spent) / sum(spent),
        }


def workers(measuring: Measuring, sessions: int = SESSIONS, ask_s: float = 0.0) -> Report:
    """Measure renewals, conditional polls and bursts on one worker and on two, and return the report."""
    cores = len(os.sched_getaffinity(0))
    report = measuring.report("workers", "the same load on one worker and on two, on one port and one SQLite file")
    renewing(report, sessions, measuring.rounds)
    polling(report, ask_s or ASK_S[measuring.quick], measuring.rounds)
    bursting(report, sessions, measuring.rounds)
    if cores < max(WORKERS) + 1:
        report.note(
            f"this machine has {cores} cores for {max(WORKERS)} workers and the generator, whose time the second worker"
            " lacks"
        )
    report.note("the kernel spreads connections by a hash: the share of the busier worker limits a closed loop")
    return report


def renewing(report: Report, sessions: int, rounds: int) -> Rounds:
    """Measure renewals of sessions that all renew at once."""
    with ExitStack() as stack:
        measures = {}
        for name, group in stack.enter_context(groups(report.checkouts)).items():
            load = stack.enter_context(LoadProcess("bench.load.sessions"))
            load.ask("open", port=group.server.port, connections=sessions, subscriptions=1)
            measures[name] = partial(group.measure, partial(_renew, load, RENEWALS))
        return _compare(report, f"renewals, {sessions:,} sessions", measures, rounds)


def polling(report: Report, ask_s: float, rounds: int) -> Rounds:
    """Measure conditional polls for one unchanged topic."""
    with ExitStack() as stack:
        measures = {}
        for name, group in stack.enter_context(groups(report.checkouts)).items():
            generator = stack.enter_context(LoadProcess("bench.load.closed_loop"))
            generator.ask("open", port=group.server.port, connections=CONNECTIONS, protocol="http")
            question = questions(generator)[0]
            ask = partial(_ask, generator, question.request, ask_s)
            measures[name] = partial(group.measure, ask)
        return _compare(report, f"{question.title}, {CONNECTIONS} kept connections", measures, rounds)


def bursting(report: Report, subscribers: int, rounds: int) -> Rounds:
    """Measure deliveries of bursts; a worker delivers the other's changes when it has noticed the commit."""
    topics = [f"bench/{number:02}" for number in range(TOPICS)]
    with ExitStack() as stack:
        measures = {}
        for name, group in stack.enter_context(groups(report.checkouts)).items():
            sink = stack.enter_context(LoadProcess("bench.load.sink"))
            sink.ask(
                "open", protocol="softstate", port=group.server.port, connections=subscribers, topics=topics
            )  # fmt: skip
            measures[name] = partial(group.measure, partial(_burst, sink))
        title = f"deliveries, bursts of {TOPICS} changes to {subscribers:,} subscribers"
        return _compare(report, title, measures, rounds)


@contextmanager
def groups(checkouts: Checkouts) -> Iterator[dict[str, Group]]:
    """Run a server of each number of workers, from each checkout."""
    with ExitStack() as stack:
        found = {}
        for count in WORKERS:
            for name, checkout in checkouts.named(name_of(count)).items():
                server = stack.enter_context(softstate_server("--workers", str(count), checkout=checkout))
                found[name] = Group(server, (server.pid, *children_of(server.pid)))
        yield found


def name_of(count: int) -> str:
    """Return the name of a candidate."""
    return f"{count} worker{'s' if count > 1 else ''}"


def _compare(report: Report, title: str, measures: Mapping[str, Callable[[], Figures]], rounds: int) -> Rounds:
    for warm_up in measures.values():
        warm_up()
    result = run_rounds(measures, rounds, title)
    report.table(title, result, COLUMNS, baseline=name_of(1), compares="per_s")
    return result


def _renew(load: LoadProcess, times: int) -> tuple[int, float, float]:
    answer = load.ask("renew", times=times)
    return answer["renewals"], answer["renew_s"], answer["generator_cpu_s"]


def _ask(generator: LoadProcess, request: str, seconds: float) -> tuple[int, float, float]:
    answer = generator.ask("ask", request=request, seconds=seconds, good="HTTP/1.1 200 ")
    return answer["answers"], answer["wall_s"], answer["generator_cpu_s"]


def _burst(sink: LoadProcess) -> tuple[int, float, float]:
    answer: dict[str, Any] = sink.ask("bursts", times=BURSTS)
    return answer["deliveries"], answer["wall_s"], answer["sink_cpu_s"]
