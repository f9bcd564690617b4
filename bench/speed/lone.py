"""``python -m bench lone``: the CPU of a node that is idle, and of publishes that come one at a time.

This is what a small installation pays: nothing is shared, batched or warm. Everything is CPU time of the whole process,
of all its threads, and a publish is charged with what the process used beyond what it uses when idle.

Beside it: the same node on ``memory:``, which has no files to watch and no thread to write them; raw `sqlite3`
(`bench.load.servers.sqlite_writer`), a process that writes the same value, with the same pragmas, at the same times;
and bare trio-websocket, which renews the same sessions, and sends back each publish: what it costs to wake up Trio's
loop, whose caches have gone cold, for one message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.load.process import LoadProcess
from bench.load.protocols import value_of
from bench.measure.checkouts import THIS, Checkout
from bench.measure.cost import CPU_S_MIN, cpu_s
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.measure.servers import Server, folder, python_server, softstate_server
from bench.speed.closed_loop_runs import figures_of
from bench.speed.publish import request_message
from bench.speed.sessions import BARE, RENEW_S, Pair, bare_server, paired, reply_sizes, servings
from softstate.client.machine.state import BEAT_MS

SESSIONS = 1_000
RATES = (5, 20)
"""Publishes a second, by the clock."""

IDLE_S = {False: 10.0, True: 4.0}
RUN_S = {False: 10.0, True: 4.0}
"""With and without ``--quick``. In a run the node compacts its store once at most, which is in the figures."""

IDLE_BUSY_MAX = 0.003
SESSIONS_BUSY_MAX = 0.010
BEATS_BUSY_MAX = 0.007
"""Beyond what the same sessions cost without beats."""
PUBLISH_MS_MAX = 0.5

OURS = "softstate"
MEMORY = "softstate memory:"
RAW = "raw sqlite3"
ECHO = "trio-websocket, echo"
EMPTY = "no clients"
RENEWED = "with sessions"
BEATEN = "with sessions and beats"

BUSY = (Column("busy", "% of a core", 100, 2),)
COST = (
    Column("each_s", "CPU ms each, beyond idle", 1e3, 3),
    Column("per_s", "per second", digits=1, better=""),
    Column("p50_s", "p50 ms", 1e3),
)


@dataclass(frozen=True, slots=True)
class Publisher:
    """A running server, and one connection that publishes to it; each answer contains `good`."""

    server: Server
    load: LoadProcess
    good: str = "published"

    def publish(self, per_s: float, seconds: float, idle_s: float) -> Figures:
        """Publish by the clock, or if `per_s` is 0 as soon as answered; charge each with what idling does not cost."""
        idle = busy(self.server.pid, idle_s)
        before_s = cpu_s(self.server.pid)
        command, more = ("pace", {"per_s": per_s}) if per_s else ("ask", {})
        run = self.load.ask(command, request=request_message(keyed=False), seconds=seconds, good=self.good, **more)
        spent_s = cpu_s(self.server.pid) - before_s
        return {**figures_of(run), "each_s": (spent_s - idle * run["wall_s"]) / run["answers"]}


def lone(measuring: Measuring) -> Report:
    """Measure an idle node, and lone publishes."""
    report = measuring.report("lone", "CPU of an idle node, and of durable publishes of 100 bytes, one at a time")
    quick, rounds = measuring.quick, measuring.rounds
    resting(report, SESSIONS, IDLE_S[quick], rounds)
    publishing(report, RATES, RUN_S[quick], IDLE_S[quick], rounds)
    report.note("a publish is charged with the CPU of the whole process beyond that of the same process when idle")
    return report


def busy(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses for some seconds."""
    before_s, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return max(cpu_s(pid) - before_s, CPU_S_MIN) / (time.monotonic() - began)


def resting(report: Report, sessions: int, seconds: float, rounds: int) -> Rounds:
    """Measure a node without clients, and one whose sessions only renew."""
    candidates: dict[str, Measure] = {}
    with ExitStack() as stack:
        for name, serving in servings(report, f"{OURS}, {EMPTY}").items():
            candidates[name] = partial(_rest, stack.enter_context(serving()), seconds)
        for name, serving in servings(report, f"{OURS}, {RENEWED}").items():
            pair = stack.enter_context(paired(serving))
            pair.open(sessions)
            candidates[name] = partial(_renew, pair, sessions, seconds)
        if not report.compares:
            pair = stack.enter_context(paired(softstate_server))
            pair.open(sessions, beat_ms=BEAT_MS)
            candidates[f"{OURS}, {BEATEN}"] = partial(_renew, pair, sessions, seconds)
            candidates[f"{MEMORY}, {EMPTY}"] = partial(
                _rest, stack.enter_context(softstate_server(store="memory:")), seconds
            )
            pair = stack.enter_context(paired(partial(bare_server, reply_sizes())))
            pair.open(sessions)
            candidates[f"{BARE}, {RENEWED}"] = partial(_renew, pair, sessions, seconds)
        result = run_rounds(candidates, rounds, "idle")
    report.table(
        f"idle; sessions: {sessions:,}, renewed every {RENEW_S:g} s",
        result,
        BUSY,
        baseline=f"{MEMORY}, {EMPTY}",
        compares="busy",
    )
    if not report.compares:
        for name, limit in ((EMPTY, IDLE_BUSY_MAX), (RENEWED, SESSIONS_BUSY_MAX)):
            candidate = f"{OURS}, {name}"
            report.figure_at_most(candidate, result.median(candidate, "busy") * 100, limit * 100, "% of a core")
        beats = result.median(f"{OURS}, {BEATEN}", "busy") - result.median(f"{OURS}, {RENEWED}", "busy")
        report.figure_at_most(f"beats of {sessions:,} sessions", beats * 100, BEATS_BUSY_MAX * 100, "% of a core")
    return result


def _rest(server: Server, seconds: float) -> Figures:
    return {"busy": busy(server.pid, seconds)}


def _renew(pair: Pair, sessions: int, seconds: float) -> Figures:
    return {"busy": max(pair.idle(sessions, seconds, RENEW_S)["minute_s"] / 60, CPU_S_MIN / seconds)}


def publishing(
    report: Report, rates: tuple[int, ...], run_s: float, idle_s: float, rounds: int
) -> Mapping[str, Rounds]:
    """Measure publishes that come one at a time, at each rate, and one after the other."""
    results: dict[str, Rounds] = {}
    with ExitStack() as stack:
        publishers = {
            name: stack.enter_context(publisher(checkout)) for name, checkout in report.checkouts.named(OURS).items()
        }
        raw = None
        if not report.compares:
            publishers[MEMORY] = stack.enter_context(publisher(store="memory:"))
            publishers[ECHO] = stack.enter_context(echoed())
            home = stack.enter_context(folder())
            raw = stack.enter_context(LoadProcess("bench.load.servers.sqlite_writer", str(home / "raw.db")))
        for up in publishers.values():
            up.publish(0, min(run_s, 1.0), 0.0)  # to warm up
        for rate in (*rates, 0):
            candidates: dict[str, Measure] = {
                name: partial(up.publish, rate, run_s, idle_s) for name, up in publishers.items()
            }
            if raw is not None:
                candidates[RAW] = partial(_write, raw, rate, run_s)
            label = f"{rate} publishes a second" if rate else "one publish after the other"
            result = results[label] = run_rounds(candidates, rounds, label)
            report.table(label, result, COST, baseline=RAW, compares="each_s")
            if not report.compares:
                report.figure_at_most(label, result.median(OURS, "each_s") * 1e3, PUBLISH_MS_MAX, "ms of CPU")
    return results


@contextmanager
def publisher(checkout: Checkout = THIS, store: str = "") -> Iterator[Publisher]:
    """Run a node, and a generator with one connection to it."""
    with softstate_server(checkout=checkout, store=store) as server, LoadProcess("bench.load.closed_loop") as load:
        load.ask("open", port=server.port, connections=1, protocol="softstate")
        yield Publisher(server, load)


@contextmanager
def echoed() -> Iterator[Publisher]:
    """Run a server that sends each message back, and a generator with one connection to it."""
    with (
        python_server("bench.load.servers.echo_server", name=ECHO) as server,
        LoadProcess("bench.load.closed_loop") as load,
    ):
        load.ask("open", port=server.port, connections=1, protocol="websocket")
        yield Publisher(server, load, good="publish")


def _write(writer: LoadProcess, per_s: float, seconds: float) -> Figures:
    before_s = cpu_s(writer.pid)
    run = writer.ask("write", topics=1, batch=1, seconds=seconds, value_bytes=len(value_of(0)), per_s=per_s)
    spent_s = cpu_s(writer.pid) - before_s
    return {"each_s": spent_s / run["answers"], "per_s": run["answers"] / run["wall_s"], "p50_s": run["p50_s"]}
