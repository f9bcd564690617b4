"""``python -m bench turns``: the longest turns that one client can cause, and an innocent's delays beside it.

The worst messages known (`bench.load.worst`) are sent by several connections without pause, one kind after the other.
Beside them, an open loop publishes by the clock to subscribers of its own, and each delay counts from when a publish
was due. The node is a process of its own with the default, durable store; it notes its long turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load.process import LoadFailed, LoadProcess
from bench.measure.checkouts import THIS
from bench.measure.cost import cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, run_rounds
from bench.measure.servers import Server, folder, running
from softstate.cli.processes.child import free_port

CONNECTIONS = 20
"""Connections that send the worst messages."""
RUN_S = {False: 6.0, True: 2.0}
LEAD_S = 0.5
"""Time by which the worst messages begin earlier and end later."""
CALM_S = 0.25
CALM_BUSY = 0.1
CALM_S_MAX = 20.0
"""A run begins when the node was busy for less than this part of a quarter of a second: what a flood has left in it,
leases that end and batches that wait, belongs to none of the others."""
PER_S = 100.0
"""Publishes a second of the innocent."""
TOPICS = 10
PUBLISHERS = 4

ALONE = "alone"
KINDS = {
    "values": "values of many items",
    "names": "10,000 names at once",
    "invalid": "what cannot be decoded",
    "http": "bodies over HTTP",
    "abandoned": "sessions of 9,999 names, left",
}
RATIO_MAX = 3.0
"""Greatest ratio of the innocent's p99 beside the worst messages and alone."""
TURN_MS_MAX = 10.0

COLUMNS = (
    Column("applied_p99_s", "p99 ms", 1e3),
    Column("applied_p50_s", "p50 ms", 1e3),
    Column("applied_p999_s", "p99.9 ms", 1e3),
    Column("turn_cpu_s", "longest turn, CPU ms", 1e3),
    Column("turn_wall_s", "longest turn, wall ms", 1e3),
    Column("sent_per_s", "worst messages a second", digits=0, better=""),
    Column("server_busy", "server busy", better=""),
)


@dataclass(frozen=True)
class TimedNode:
    """A node and the file of its long turns."""

    server: Server
    file: Path

    def seen(self) -> int:
        """Return how much there is in the file."""
        return self.file.stat().st_size

    def longest(self, since: int) -> tuple[float, float]:
        """Return the longest turn by its thread's clock and the longest by the wall's, in seconds; 0 for none."""
        with self.file.open("rb") as lines:
            lines.seek(since)
            turns = [tuple(map(float, line.split())) for line in lines]
        return max((cpu for cpu, _ in turns), default=0.0), max((wall for _, wall in turns), default=0.0)

    def settle(self) -> None:
        """Wait until the node has dealt with what was sent before. Raises `LoadFailed`."""
        deadline = time.monotonic() + CALM_S_MAX
        while True:
            cpu = cpu_s(self.server.pid)
            time.sleep(CALM_S)
            if cpu_s(self.server.pid) - cpu < CALM_BUSY * CALM_S:
                return
            if time.monotonic() > deadline:
                raise LoadFailed(f"the node was still busy {CALM_S_MAX:.0f} s after a flood")


@contextmanager
def timed_node() -> Iterator[TimedNode]:
    """Run a node that notes its long turns."""
    with folder() as home:
        port = free_port()
        file = home / "turns"
        python = THIS.softstate()[0]
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--store", f"sqlite:{home / 'softstate.db'}", "--ttl", "1h"]
        command = [python, "-m", "bench.load.servers.timed_node", str(file), *words]
        with running("softstate", command, port, home, THIS.folder, "softstate listens") as server:
            yield TimedNode(server, file)


def turns(
    measuring: Measuring,
    connections: int = CONNECTIONS,
    run_s: float | None = None,
    kinds: Sequence[str] = tuple(KINDS),
) -> Report:
    """Measure the longest turns, and an innocent's delays, beside each kind of worst messages and alone."""
    measuring.refuse_against("turns", "the other checkout would need this bench's node")
    seconds = RUN_S[measuring.quick] if run_s is None else run_s
    about = f"{connections} connections send the worst messages, {PER_S:.0f} publishes/s to {TOPICS} subscribers beside"
    report = measuring.report("turns", about)
    with ExitStack() as stack:
        node = stack.enter_context(timed_node())
        innocent = stack.enter_context(LoadProcess("bench.load.open_loop"))
        worst = stack.enter_context(LoadProcess("bench.load.flood"))
        innocent.ask("open", port=node.server.port, topics=TOPICS, subscribers_each=1, publishers=PUBLISHERS)
        innocent.ask("run", per_s=PER_S, seconds=seconds / 4)
        worst.ask("flood", port=node.server.port, kind="abandoned", connections=connections, seconds=seconds)
        candidates: dict[str, Measure] = {ALONE: partial(_alone, node, innocent, seconds)}
        for kind in kinds:
            candidates[KINDS[kind]] = partial(_beside, node, innocent, worst, kind, connections, seconds)
        result = run_rounds(candidates, measuring.rounds, "turns")
    report.table("an innocent's delays, from due to applied", result, COLUMNS, baseline=ALONE, compares="applied_p99_s")
    for kind in kinds:
        report.at_most(f"p99 beside {KINDS[kind]}", result, KINDS[kind], ALONE, "applied_p99_s", RATIO_MAX)
    for kind in kinds:
        longest = max(run["turn_cpu_s"] for run in result.runs[KINDS[kind]])
        report.figure_at_most(f"longest turn of all rounds beside {KINDS[kind]}, CPU", longest * 1e3, TURN_MS_MAX, "ms")
    report.note("a turn is one pass of the node's loop; CPU is the time of its thread, without waits for the core")
    report.note("generators and server share two cores: some of the delay is theirs")
    return report


def _alone(node: TimedNode, innocent: LoadProcess, seconds: float) -> Figures:
    node.settle()
    return _innocent(node, innocent, seconds)


def _innocent(node: TimedNode, innocent: LoadProcess, seconds: float) -> Figures:
    since, began, cpu = node.seen(), time.monotonic(), cpu_s(node.server.pid)
    figures = innocent.ask("run", per_s=PER_S, seconds=seconds)
    busy = (cpu_s(node.server.pid) - cpu) / (time.monotonic() - began)
    turn_cpu_s, turn_wall_s = node.longest(since)
    return figures | {"turn_cpu_s": turn_cpu_s, "turn_wall_s": turn_wall_s, "server_busy": busy, "sent_per_s": 0.0}


def _beside(
    node: TimedNode, innocent: LoadProcess, worst: LoadProcess, kind: str, connections: int, seconds: float
) -> Figures:
    node.settle()
    whole_s = seconds + 2 * LEAD_S
    worst.tell("flood", port=node.server.port, kind=kind, connections=connections, seconds=whole_s)
    time.sleep(LEAD_S)
    figures = _innocent(node, innocent, seconds)
    return {**figures, "sent_per_s": worst.answer()["sent"] / whole_s}
