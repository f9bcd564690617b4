"""``python -m bench workers``: what a second node on the same port and store brings (``softstate serve --workers 2``).

The same load goes to one worker and to two, in turns: renewals and conditional polls, which each worker answers by
itself, and bursts of changes to many subscribers, of whom each worker has some. Both kinds of server are up all the
time; who is not asked costs next to nothing.

The generator needs a core too. Where it and two workers have only two cores between them, a second worker cannot
double anything: the most it can bring is what the generator leaves, which is printed beside each table (``cores in
use``). What a worker costs for each operation (server CPU) tells what more cores would bring.

The system gives each new connection to a worker by a hash of its addresses, so that one worker has more than half;
how much more is different in each run of the bench, and the same within it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bench.load.process import LoadProcess
from bench.measure.checkouts import Checkouts
from bench.measure.cost import CPU_S_MIN, cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server, softstate_server
from bench.speed.polls import questions

WORKERS = (1, 2)
SESSIONS = 1_000
RENEWALS = 5
"""How often each session renews in one run."""
ASKERS = 64
ASK_S = {False: 1.0, True: 0.5}
"""How long one run polls, with and without ``--quick``."""
SUBSCRIBERS = 1_000
TOPICS = 80
"""Changes of one burst: enough that a delivery takes longer than one worker takes to notice the other's commit."""
BURSTS = 5

COLUMNS = (
    Column("per_s", "per second", digits=0, better="more"),
    Column("server_cpu_s", "server CPU us each", 1e6),
    Column("cores", "cores in use, servers", better=""),
    Column("generator_busy", "and generator", better=""),
    Column("share", "share of the busier worker", better=""),
)

Run: TypeAlias = Callable[[], tuple[int, float, float]]
"""Does the load once: how many operations, in how many seconds, for how many CPU seconds of the generator."""


@dataclass(frozen=True, slots=True)
class Group:
    """A server of some workers."""

    server: Server
    pids: tuple[int, ...]

    def measure(self, run: Run) -> Figures:
        """Run a load, and return its rate and what it cost all processes of the server."""
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
            f"this machine has {cores} cores for {max(WORKERS)} workers and the generator: what the generator used,"
            " the second worker could not have"
        )
    report.note("connections are spread by the system's hash: the busier worker's share is what limits a closed loop")
    return report


def renewing(report: Report, sessions: int, rounds: int) -> Rounds:
    """Measure renewals of sessions that all renew as soon as they may."""
    with ExitStack() as stack:
        measures = {}
        for name, group in stack.enter_context(groups(report.checkouts)).items():
            crowd = stack.enter_context(LoadProcess("bench.load.crowd"))
            crowd.ask("open", port=group.server.port, connections=sessions, subscriptions=1)
            measures[name] = partial(group.measure, partial(_renew, crowd, RENEWALS))
        return _compare(report, f"renewals, {sessions:,} sessions", measures, rounds)


def polling(report: Report, ask_s: float, rounds: int) -> Rounds:
    """Measure conditional polls for one topic that has not changed, which a worker answers from what it knows."""
    with ExitStack() as stack:
        measures = {}
        for name, group in stack.enter_context(groups(report.checkouts)).items():
            asker = stack.enter_context(LoadProcess("bench.load.asker"))
            asker.ask("open", port=group.server.port, connections=ASKERS, speaks="http")
            question = questions(asker)[0]
            ask = partial(_ask, asker, question.request, ask_s)
            measures[name] = partial(group.measure, ask)
        return _compare(report, f"{question.title}, {ASKERS} kept connections", measures, rounds)


def bursting(report: Report, subscribers: int, rounds: int) -> Rounds:
    """Measure deliveries of bursts; those to the other worker's subscribers begin when it has noticed the commit."""
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
    """Return what a candidate is called."""
    return f"{count} worker{'s' if count > 1 else ''}"


def children_of(pid: int) -> list[int]:
    """List the processes that a process has started and not yet buried."""
    lists = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for found in lists for child in found.read_text().split()]


def _compare(report: Report, title: str, measures: Mapping[str, Callable[[], Figures]], rounds: int) -> Rounds:
    for warm_up in measures.values():
        warm_up()
    result = run_rounds(measures, rounds, title)
    report.table(title, result, COLUMNS, baseline=name_of(1), compares="per_s")
    return result


def _renew(crowd: LoadProcess, times: int) -> tuple[int, float, float]:
    answer = crowd.ask("renew", times=times)
    return answer["renewals"], answer["renew_s"], answer["generator_cpu_s"]


def _ask(asker: LoadProcess, request: str, seconds: float) -> tuple[int, float, float]:
    answer = asker.ask("ask", request=request, seconds=seconds, good="HTTP/1.1 200 ")
    return answer["answers"], answer["wall_s"], answer["asker_cpu_s"]


def _burst(sink: LoadProcess) -> tuple[int, float, float]:
    answer: dict[str, Any] = sink.ask("bursts", times=BURSTS)
    return answer["deliveries"], answer["wall_s"], answer["sink_cpu_s"]
