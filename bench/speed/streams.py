"""``python -m bench streams``: the cost of streams of events and of polls that are held.

Streams are compared with WebSockets of the JSON subprotocol that ask for beats, which carry the same text: CPU of the
server for each delivery of one change to all, less that of its publish, and memory of each session. Polls that are held
are compared with plain polls that bring the same change: CPU from the change to the answer of each, the publish
included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.cost import CPU_S_MIN, cpu_s, resident_bytes
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server, softstate_server

LISTENERS = {False: 1_000, True: 200}
"""Connections of each kind, with and without ``--quick``."""

CHANGES = 20
STREAMS_RATIO_MAX = 1.1
WOKEN_RATIO_MAX = 1.3
KIB = 1024

EVENTS = "streams of events"
WEBSOCKET = "WebSockets, JSON"
HELD = "held polls"
PLAIN = "plain polls"

COST = (
    Column("server_cpu_s", "server CPU us each", 1e6, 1),
    Column("wall_s", "wall us each", 1e6, 1),
    Column("generator_busy", "generator busy", better=""),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A server, and its listeners."""

    server: Server
    load: LoadProcess
    session_bytes: float = 0.0

    def deliver(self) -> Figures:
        """Return the cost of each delivery."""
        alone = self._run("publishes", count=CHANGES)
        run = self._run("changes", count=CHANGES)
        return _figures(run, max(run["cpu_s"] - alone["cpu_s"], CPU_S_MIN))

    def wake(self) -> Figures:
        """Return the cost of each poll that is held, from the change to its answer."""
        self.load.ask("hold")
        run = self._run("wake")
        return _figures(run, run["cpu_s"])

    def poll(self) -> Figures:
        """Return the cost of each plain poll for a change."""
        run = self._run("poll")
        return _figures(run, run["cpu_s"])

    def _run(self, command: str, **arguments: int) -> dict[str, float]:
        before = cpu_s(self.server.pid)
        answer = self.load.ask(command, **arguments)
        return {**answer, "cpu_s": cpu_s(self.server.pid) - before}


def _figures(run: dict[str, float], server_cpu_s: float) -> Figures:
    return {
        "server_cpu_s": server_cpu_s / run["count"],
        "wall_s": run["wall_s"] / run["count"],
        "generator_busy": run["generator_cpu_s"] / run["wall_s"],
    }


@contextmanager
def listening(kind: str, connections: int) -> Iterator[Pair]:
    """Run a node in memory with so many listeners of a kind."""
    with softstate_server(store="memory:") as server, LoadProcess("bench.load.listeners") as load:
        load.ask("open", port=server.port, connections=1, kind=kind)  # to warm up
        before = resident_bytes(server.pid)
        load.ask("open", port=server.port, connections=connections, kind=kind)
        yield Pair(server, load, (resident_bytes(server.pid) - before) / connections)


def streams(measuring: Measuring) -> Report:
    """Measure deliveries and memory of streams, and polls that are held."""
    report = measuring.report("streams", "streams of events and held polls, values of 100 bytes, a store in memory")
    connections = LISTENERS[measuring.quick]
    deliveries(report, connections, measuring.rounds)
    polls(report, connections, measuring.rounds)
    return report


def deliveries(report: Report, connections: int, rounds: int) -> Rounds:
    """Compare streams with WebSockets."""
    with ExitStack() as stack:
        pairs = {
            name: stack.enter_context(listening(kind, connections))
            for name, kind in ((WEBSOCKET, "websocket"), (EVENTS, "events"))
        }
        result = run_rounds({name: pair.deliver for name, pair in pairs.items()}, rounds, "deliveries")
    title = f"one change to {connections:,} subscribers"
    report.table(title, result, COST, baseline=WEBSOCKET, compares="server_cpu_s")
    report.at_most("server CPU of a delivery", result, EVENTS, WEBSOCKET, "server_cpu_s", STREAMS_RATIO_MAX)
    report.note_busy(title, result)
    ours, theirs = (pairs[name].session_bytes / KIB for name in (EVENTS, WEBSOCKET))
    got = f"{ours:.1f} KiB, a WebSocket session {theirs:.1f}"
    report.targets.append(Target("memory of a stream", "≤ that of a WebSocket session", got, ours <= theirs))
    return result


def polls(report: Report, connections: int, rounds: int) -> Rounds:
    """Compare polls that are held with plain ones."""
    with listening("polls", connections) as pair:
        candidates = {PLAIN: pair.poll, HELD: pair.wake}
        for warm_up in candidates.values():
            warm_up()
        result = run_rounds({name: partial(call) for name, call in candidates.items()}, rounds, "polls")
    title = f"one change to {connections:,} that poll for it"
    report.table(title, result, COST, baseline=PLAIN, compares="server_cpu_s")
    report.at_most("server CPU of a held poll's answer", result, HELD, PLAIN, "server_cpu_s", WOKEN_RATIO_MAX)
    report.note_busy(title, result)
    return result
