"""CPU that a delivery and a renewal cost a node, by the placement of its sessions: whole nodes, and real engines.

Each placement is a process of its own, `softstate serve` with another lease table (`bench.load.servers.placed_node`),
and topics in memory; an engine's CPU is counted with that of its node. All are up at once and take turns. The node
writes to its engine before it goes on, one operation after the other, and a durable one queues a change for all who are
owed it in one commit, and unqueues it in another as soon as it was written to their sockets: an acknowledgement of each
client would cost more.

Polls are HTTP requests on kept connections: one with nothing to learn stands for a renewal, one that gets a value for a
delivery.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.cost import CPU_S_MIN, children_of, cpu_s, resident_bytes
from bench.measure.engines import engine
from bench.measure.rounds import ROUNDS, ROUNDS_QUICK, Figures, Rounds, run_rounds
from bench.measure.servers import NotInstalled, Server, folder, running, softstate_server
from bench.speed.closed_loop_runs import run_closed_loop
from bench.speed.polls import Question, questions
from softstate.cli.processes.child import free_port

SOFT, BEATS, POLLS, NO_DIGEST = "soft", "a beat", "polls", "soft, digest off"
ENGINES = {"redis": "external (Redis)", "sqlite": "hard (SQLite)", "postgres": "hard (PostgreSQL)"}

SESSIONS = {False: 300, True: 100}
IDLE = 1_000
"""Idle sessions whose memory is measured, each with a topic of its own and one that is shared."""
NAMES = 2
RENEWALS = 3
"""Renewals of each session in one run."""
SUBSCRIBERS = 100
CHANGES = 20
"""Changes in one run, one after the other, each to all `SUBSCRIBERS`."""
POLL_S = {False: 1.0, True: 0.5}
POLLING = 8
BEAT_MS = 1_000
BEATS_S = {False: 10.0, True: 3.0}
START_MARK = "softstate listens"


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of all placements, by `Rounds`, and the bytes by which a node grows for each idle session."""

    rounds: Rounds
    session_bytes: float
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """A node, the process of its engine (0: none), its sessions, and its subscribers."""

    server: Server
    engine: int
    sessions: LoadProcess
    sink: LoadProcess

    def measure(self) -> Figures:
        """Renew and deliver; return CPU seconds of each, and the engine's part in them."""
        renewal_s, of_engine_s = self._spent(lambda: int(self.sessions.ask("renew", times=RENEWALS)["renewals"]))
        delivery_s, engine_s = self._spent(lambda: int(self.sink.ask("paced", changes=CHANGES)["deliveries"]))
        return {
            "renewal_s": renewal_s, "renewal_engine_s": of_engine_s, "delivery_s": delivery_s,
            "delivery_engine_s": engine_s,
        }  # fmt: skip

    def _spent(self, run: Callable[[], int]) -> tuple[float, float]:
        """Return the CPU seconds of both for each of what a run did, and those of the engine alone."""
        before_s, engine_before_s = cpu_s(self.server.pid), self._engine_s()
        count = run()
        engine_s = self._engine_s() - engine_before_s
        return max(cpu_s(self.server.pid) - before_s + engine_s, CPU_S_MIN) / count, engine_s / count

    def _engine_s(self) -> float:
        return sum(map(cpu_s, [self.engine, *children_of(self.engine)])) if self.engine else 0.0


def measure(*, quick: bool) -> Measured:
    """Run all placements whose engines are installed."""
    notes: list[str] = []
    with ExitStack() as stack:
        soft, session_bytes = stack.enter_context(_soft(quick=quick))
        measures: dict[str, Callable[[], Figures]] = {SOFT: soft.measure}
        measures[NO_DIGEST] = stack.enter_context(_placed("none", "", 0, SESSIONS[quick])).measure
        for kind, name in ENGINES.items():
            try:
                started = stack.enter_context(engine(kind))
            except NotInstalled as missing:
                notes.append(f"{name} has no CPU: {missing}")
                continue
            measures[name] = stack.enter_context(_placed(kind, started.url, started.process, SESSIONS[quick])).measure
        measures[POLLS] = stack.enter_context(_polls(POLL_S[quick]))
        measures[BEATS] = stack.enter_context(_beats(soft.server, SESSIONS[quick], BEATS_S[quick]))
        for warm_up in measures.values():
            warm_up()
        return Measured(run_rounds(measures, ROUNDS_QUICK if quick else ROUNDS, "CPU"), session_bytes, notes)


@contextmanager
def _soft(*, quick: bool) -> Iterator[tuple[Placed, float]]:
    with softstate_server(store="memory:") as server:
        with LoadProcess("bench.load.sessions") as idle:
            before = resident_bytes(server.pid)
            idle.ask("open", port=server.port, connections=IDLE, subscriptions=NAMES)
            session_bytes = (resident_bytes(server.pid) - before) / IDLE
            idle.ask("leave")
        with _loaded(server, 0, SESSIONS[quick]) as placed:
            yield placed, session_bytes


@contextmanager
def _placed(kind: str, url: str, process: int, sessions: int) -> Iterator[Placed]:
    """Run a node whose sessions are in an engine as well."""
    with folder() as home:
        port = free_port()
        words = [kind, url, "serve", "--listen", f"127.0.0.1:{port}", "--store", "memory:", "--ttl", "1h"]
        command = [sys.executable, "-m", "bench.load.servers.placed_node", *words, "--idle-s-max", "3600"]
        with (
            running(kind, command, port, home, announcement=START_MARK) as server,
            _loaded(server, process, sessions) as placed,
        ):
            yield placed


@contextmanager
def _loaded(server: Server, process: int, sessions: int) -> Iterator[Placed]:
    """Open sessions and subscribers at a node."""
    with LoadProcess("bench.load.sessions") as load, LoadProcess("bench.load.sink") as sink:
        sink.ask(
            "open", protocol="softstate", port=server.port, connections=SUBSCRIBERS, topics=["bench/spectrum"]
        )  # fmt: skip
        load.ask("open", port=server.port, connections=sessions, subscriptions=NAMES)
        yield Placed(server, process, load, sink)


@contextmanager
def _polls(run_s: float) -> Iterator[Callable[[], Figures]]:
    with softstate_server(store="memory:") as server, LoadProcess("bench.load.closed_loop") as load:
        load.ask("open", port=server.port, connections=POLLING, protocol="http")
        unchanged, changed = questions(load)[:2]

        def spent_s(question: Question) -> float:
            return run_closed_loop(server, load, question.request, run_s, f"HTTP/1.1 {question.status} ")[
                "server_cpu_s"
            ]

        yield lambda: {
            "renewal_s": spent_s(unchanged), "renewal_engine_s": 0.0, "delivery_s": spent_s(changed),
            "delivery_engine_s": 0.0,
        }  # fmt: skip


@contextmanager
def _beats(idle: Server, sessions: int, run_s: float) -> Iterator[Callable[[], Figures]]:
    """Measure beats of a node beside one that is idle meanwhile."""
    with softstate_server(store="memory:") as server, LoadProcess("bench.load.sessions") as load:
        load.ask("open", port=server.port, connections=sessions, subscriptions=NAMES, beat_ms=BEAT_MS)
        yield partial(_beat, server, idle, load, sessions, run_s)


def _beat(server: Server, idle: Server, load: LoadProcess, sessions: int, run_s: float) -> Figures:
    before_s, idle_before_s = cpu_s(server.pid), cpu_s(idle.pid)
    load.ask("idle", seconds=run_s, renew_s=0.0)
    spent_s = cpu_s(server.pid) - before_s - (cpu_s(idle.pid) - idle_before_s)
    return {"beat_s": max(spent_s, CPU_S_MIN) / (sessions * run_s * 1000 / BEAT_MS)}
