"""``python -m bench fanout``: the cost of delivering one change to many subscribers.

Each candidate is a server process with a sink of its own (`bench.load.sink`) on the same machine. All are up for a
whole comparison and take turns, so that all are measured under the same load of the machine. A publisher in the sink
uses the candidate's usual protocol; its cost to the server is in the figures, once for each change.

``softstate`` has its default durable SQLite store: each commit waits for the disk, unlike all other candidates, and its
cost is shared by the deliveries of that commit. ``softstate memory:`` is the cost without it. The C loop sends frames
of softstate's size, without topics and queues: no server that makes one send(2) for each delivery (``C loop``), or, in
bursts, one for each connection (``C loop, gathered``), can be cheaper.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.load.process import LoadProcess
from bench.measure.checkouts import Checkouts
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import (
    NotInstalled,
    Server,
    find,
    folder,
    mosquitto,
    nats_server,
    python_server,
    redis_server,
    running,
    softstate_server,
)
from softstate.cli.processes.child import free_port

PACED = {100: 100, 1_000: 30, 10_000: 5}
"""Changes that one run publishes, one at a time, by the number of subscribers."""
SIZES_QUICK = (100, 1_000)

BURST_SUBSCRIBERS = 1_000
BURST_TOPICS = 20
BURSTS = 20

APART_SUBSCRIBERS = 512
APART_BURSTS = 8

HOT_SUBSCRIBERS = 1_000
HOT_CHANGES = 500
HOT_S_MAX = 60.0

FLOOR = "C loop"
GATHERED = "C loop, gathered"
OURS = "softstate"
MEMORY = "softstate memory:"
FLOOR_SOURCE = Path(__file__).parents[1] / "load" / "servers" / "floor.c"

COST = (
    Column("server_cpu_s", "server CPU us/delivery", 1e6),
    Column("wall_s", "wall us/delivery", 1e6),
    Column("sink_cpu_s", "sink CPU us/delivery", 1e6, better=""),
    Column("p50_s", "p50 ms", 1e3),
    Column("p99_s", "p99 ms", 1e3),
)
RATE = Column("deliveries_per_s", "million deliveries/s", 1e-6, better="more")
APART = (
    Column("push_cpu_s", "server CPU us/delivery", 1e6),
    Column("publish_cpu_s", "of its publish, beside it", 1e6, better=""),
    Column("p99_s", "p99 ms", 1e3),
)
HOT = (
    Column("wall_s", "until all hold the last, s", 1.0, 3),
    Column("server_cpu_s", "server CPU s", 1.0, 3),
    Column("received_bytes", "MB received", 1e-6, 1, better=""),
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server to compare: its context manager, and the name of its protocol in `bench.load.protocols`."""

    start: Callable[[], AbstractContextManager[Server]]
    protocol: str
    separator: str = "/"
    """Separator of the levels of topics."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate's server, and its sink."""

    server: Server
    sink: LoadProcess

    def run(self, command: str, **arguments: Any) -> dict[str, float]:
        """Have the sink do one run; return its figures, and the CPU time of the server during it."""
        before_s = cpu_s(self.server.pid)
        answer = self.sink.ask(command, **arguments)
        return answer | {"server_cpu_s": cpu_s(self.server.pid) - before_s}

    def per_delivery(self, command: str, **arguments: Any) -> Figures:
        """Return the figures of one run, with costs for each delivery."""
        run = self.run(command, **arguments)
        each = {name: run[name] / run["deliveries"] for name in ("server_cpu_s", "wall_s", "sink_cpu_s")}
        times = {"p50_s": run["p50_s"], "p99_s": run["p99_s"]}
        busy = {"generator_busy": run["sink_cpu_s"] / run["wall_s"]}
        return each | times | busy | {"deliveries_per_s": run["deliveries"] / run["wall_s"]}


def candidates(checkouts: Checkouts) -> dict[str, Candidate]:
    """Return all candidates, installed or not; of two checkouts only those."""
    ours = {
        name: Candidate(partial(softstate_server, checkout=checkout), "softstate")
        for name, checkout in checkouts.named(OURS).items()
    }
    if checkouts.against is not None:
        return ours
    return {
        FLOOR: Candidate(floor, "floor"),
        GATHERED: Candidate(floor, "floor-gathered"),
        **ours,
        MEMORY: Candidate(partial(softstate_server, store="memory:"), "softstate"),
        "websockets": Candidate(websockets_server, "websockets"),
        "nats-server": Candidate(nats_server, "nats", "."),
        "mosquitto": Candidate(mosquitto, "mqtt"),
        "redis-server": Candidate(redis_server, "redis"),
    }


def fanout(measuring: Measuring) -> Report:
    """Measure paced changes, bursts and one hot topic, and return the report."""
    report = measuring.report("fanout", "one publisher, many subscribers, values of 100 bytes, all on this machine")
    for size in SIZES_QUICK if measuring.quick else PACED:
        paced(report, size, PACED[size], measuring.rounds)
    bursts(report, BURST_SUBSCRIBERS, BURST_TOPICS, measuring.rounds)
    apart(report, APART_SUBSCRIBERS, measuring.rounds)
    hot(report, HOT_SUBSCRIBERS, HOT_CHANGES, measuring.rounds)
    report.note("server CPU is the process's own clock: on loopback it includes the delivery to the receiving socket")
    if not report.compares:
        report.note("softstate: durable SQLite; softstate memory: stores nothing, like the others; MQTT at QoS 0")
        loop = "uvloop" if find_spec("uvloop") else "asyncio's loop: uvloop is not installed"
        report.note(f"websockets runs on {loop}")
    return report


def paced(report: Report, subscribers: int, changes: int, rounds: int) -> Rounds:
    """Publish one change at a time, the next when all subscribers have it."""
    with connected(report, subscribers, topics=1, without=[GATHERED]) as pairs:
        label = f"paced, {subscribers:,} subscribers"
        result = _rounds(pairs, "paced", rounds, label, changes=changes)
    report.table(f"paced: 1 topic, {subscribers:,} subscribers", result, COST, baseline=FLOOR, compares="server_cpu_s")
    report.note_busy(label, result)
    if subscribers >= 1_000 and not report.compares:
        for baseline, limit in ((FLOOR, 1.3), ("websockets", 0.6), ("nats-server", 1.0)):
            report.at_most(f"CPU per delivery, {label}", result, OURS, baseline, "server_cpu_s", limit)
    return result


def bursts(report: Report, subscribers: int, topics: int, rounds: int) -> Rounds:
    """Publish a change of each of many topics at once; all subscribers follow all of them."""
    with connected(report, subscribers, topics) as pairs:
        label = f"bursts, {subscribers:,} subscribers x {topics} changes"
        result = _rounds(pairs, "bursts", rounds, label, times=BURSTS)
    report.table(label, result, (*COST, RATE), baseline=GATHERED, compares="server_cpu_s")
    report.note_busy(label, result)
    if OURS not in result:
        return result
    rate = result.median(OURS, "deliveries_per_s") / 1e6
    report.figure_at_least(f"rate, {label}", rate, 2.0, "million deliveries/s")
    report.at_most(f"CPU per delivery, {label}", result, OURS, "nats-server", "server_cpu_s", 1.2)
    return result


def apart(report: Report, subscribers: int, rounds: int) -> Rounds:
    """Publish a change of each of many topics at once; each has one subscriber of its own.

    Beside it the same without subscribers: a publish for each delivery is most of the cost, and the difference is what
    a delivery costs.
    """
    label = f"apart, {subscribers:,} changes to a subscriber each"
    with ExitStack() as stack:
        runs = {}
        for name, checkout in report.checkouts.named(OURS).items():
            server = stack.enter_context(softstate_server(store="memory:", checkout=checkout))
            sink = stack.enter_context(LoadProcess("bench.load.sink"))
            topics = [f"bench/{number:03}" for number in range(subscribers)]
            sink.ask("open", protocol="softstate", port=server.port, connections=subscribers, topics=topics, apart=True)
            runs[name] = partial(_apart, Pair(server, sink))
        for run in runs.values():
            run()
        result = run_rounds(runs, rounds, label)
    report.table(label, result, APART, baseline=OURS, compares="push_cpu_s")
    if OURS in result:
        each_us = result.median(OURS, "push_cpu_s") * 1e6
        report.figure_at_most(f"CPU per delivery, {label}", each_us, 8.0, "us")
    return result


def _apart(pair: Pair) -> Figures:
    alone = pair.run("unfollowed", times=APART_BURSTS)
    pushed = pair.run("bursts", times=APART_BURSTS)
    count = pushed["deliveries"]
    return {
        "push_cpu_s": (pushed["server_cpu_s"] - alone["server_cpu_s"]) / count,
        "publish_cpu_s": alone["server_cpu_s"] / count,
        "p99_s": pushed["p99_s"],
    }


def hot(report: Report, subscribers: int, changes: int, rounds: int) -> Rounds:
    """Publish changes of one topic as fast as the server reads them, until all subscribers hold the last one.

    Without ``memory:``, which commits each change by itself, where a store on a disk batches waiting changes.
    """
    with connected(report, subscribers, topics=1, without=[FLOOR, GATHERED, MEMORY]) as pairs:
        label = f"one hot topic, {subscribers:,} subscribers, {changes:,} changes"
        runs = {name: partial(pair.run, "hot", changes=changes, timeout_s=HOT_S_MAX) for name, pair in pairs.items()}
        result = run_rounds(runs, rounds, label)
    report.table(label, result, HOT, baseline=OURS, compares="wall_s")
    return result


def _rounds(pairs: Mapping[str, Pair], command: str, rounds: int, label: str, **arguments: int) -> Rounds:
    for pair in pairs.values():
        pair.run(command, **arguments)  # to warm up: buffers grow
    return run_rounds(
        {name: partial(pair.per_delivery, command, **arguments) for name, pair in pairs.items()}, rounds, label
    )


@contextmanager
def connected(
    report: Report, subscribers: int, topics: int, without: Collection[str] = ()
) -> Iterator[dict[str, Pair]]:
    """Start all installed candidates, with connected subscribers; note those that are not installed."""
    with ExitStack() as stack:
        pairs = {}
        for name, candidate in candidates(report.checkouts).items():
            if name in without:
                continue
            try:
                server = stack.enter_context(candidate.start())
            except NotInstalled as missing:
                report.note(f"skipped: {missing}")
                continue
            sink = stack.enter_context(LoadProcess("bench.load.sink"))
            wanted = [f"bench{candidate.separator}{number:02}" for number in range(topics)]
            sink.ask("open", protocol=candidate.protocol, port=server.port, connections=subscribers, topics=wanted)
            pairs[name] = Pair(server, sink)
        yield pairs


@contextmanager
def floor() -> Iterator[Server]:
    """Compile and run the loop in C. Raises `NotInstalled` if there is no compiler."""
    compiler = find("cc", "apt install gcc")
    with folder() as home:
        program = home / "floor"
        subprocess.run([compiler, "-O2", "-o", str(program), str(FLOOR_SOURCE)], check=True)
        port = free_port()
        with running("floor", [str(program), str(port)], port, home) as server:
            yield server


@contextmanager
def websockets_server() -> Iterator[Server]:
    """Run `bench.load.servers.websockets_server`. Raises `NotInstalled`."""
    if find_spec("websockets") is None:
        raise NotInstalled("websockets is not installed (pip install softstate[bench])")
    with python_server("bench.load.servers.websockets_server", name="websockets") as server:
        yield server
