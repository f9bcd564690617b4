"""``python -m bench sessions``: the cost of holding, opening and renewing a session, beside bare trio-websocket.

The bare server (`bench.load.servers.trio_websocket_server`) answers the same messages with as many prepared bytes. It
does not parse them, and has neither topics nor leases, so the difference is the cost that softstate adds. One generator
(`bench.load.sessions`) loads both, with the same bytes, over as many connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.load.process import LoadProcess
from bench.measure.beside import PER_CPU
from bench.measure.cost import CPU_S_MIN, RESIDENT_SOURCE, cpu_s, resident_bytes
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Rounds, run_rounds, spread
from bench.measure.servers import Server, python_server, softstate_server

SIZES = (1_000, 10_000, 19_000)
SIZES_QUICK = (1_000,)
SUBSCRIPTIONS = 20
CONNECTS = 1_000
RENEWALS = 5
"""Renewals of each of `CONNECTS` sessions in one run."""
IDLE_SESSIONS = {False: 10_000, True: 1_000}
IDLE_S = {False: 20.0, True: 4.0}
"""With and without ``--quick``. In 20 s each session renews once."""
RENEW_S = 20.0
"""Default interval of renewals: a third of the TTL of 60 s."""

KIB = 1024
SESSION_KIB_MAX = 4
SUBSCRIPTION_BYTES_MAX = 300
CONNECTS_RATIO_MIN = 4.0
RENEWALS_RATIO_MIN = 4.0

OURS = "softstate"
MANY = f"softstate, {SUBSCRIPTIONS} subscriptions"
SILENT = "softstate, no renewals"
BARE = "trio-websocket"

Serving = Callable[[], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A server, and the generator of its sessions."""

    server: Server
    load: LoadProcess

    def open(self, connections: int, subscriptions: int = 1, **more: Any) -> dict[str, float]:
        """Open sessions, and return the cost of each."""
        before = cpu_s(self.server.pid)
        answer = self.load.ask(
            "open", port=self.server.port, connections=connections, subscriptions=subscriptions, **more
        )  # fmt: skip
        return self._per(connections, before, answer["open_s"], answer["generator_cpu_s"])

    def open_and_leave(self, connections: int, **more: Any) -> Figures:
        """Open sessions, and return the cost of each; then close them, which is not measured."""
        figures = self.open(connections, **more)
        self.load.ask("leave")
        return figures

    def renew(self, times: int) -> Figures:
        """Renew all sessions, and return the cost of each renewal."""
        before = cpu_s(self.server.pid)
        answer = self.load.ask("renew", times=times)
        return self._per(answer["renewals"], before, answer["renew_s"], answer["generator_cpu_s"])

    def idle(self, sessions: int, seconds: float, renew_s: float) -> Figures:
        """Only renew, every `renew_s` (0: never); return the cost of all sessions for a minute."""
        before = cpu_s(self.server.pid)
        answer = self.load.ask("idle", seconds=seconds, renew_s=renew_s)
        minute_s = (cpu_s(self.server.pid) - before) / seconds * 60
        return {
            "minute_s": minute_s,
            "session_minute_s": minute_s / sessions,
            "renewals_per_s": answer["renewals"] / seconds,
        }

    def _per(self, count: int, cpu_before_s: float, wall_s: float, generator_cpu_s: float) -> dict[str, float]:
        server_cpu_s = max(cpu_s(self.server.pid) - cpu_before_s, CPU_S_MIN)
        return {
            "server_cpu_s": server_cpu_s / count,
            "per_s": count / wall_s,
            "per_cpu_s": count / server_cpu_s,
            "generator_busy": generator_cpu_s / wall_s,
        }


COST = (
    Column("server_cpu_s", "server CPU us each", 1e6, 0),
    Column("per_s", "per second", digits=0, better="more"),
    PER_CPU,
    Column("generator_busy", "generator busy", better=""),
)
IDLE = (
    Column("minute_s", "CPU s a minute", digits=3),
    Column("session_minute_s", "CPU us a session and minute", 1e6, 1),
    Column("renewals_per_s", "renewals/s", digits=1, better=""),
)


def sessions(measuring: Measuring) -> Report:
    """Measure memory, opening, renewing and idling."""
    report = measuring.report("sessions", "memory and CPU of leased sessions, beside bare trio-websocket")
    quick, rounds = measuring.quick, measuring.rounds
    bare = None if report.compares else partial(bare_server, reply_sizes())
    opening(report, bare, CONNECTS, RENEWALS, rounds)
    memory(report, bare, SIZES_QUICK if quick else SIZES, rounds)
    idling(report, bare, IDLE_SESSIONS[quick], IDLE_S[quick], rounds)
    report.note(f"memory: {RESIDENT_SOURCE}, the whole process; buffers of the kernel's sockets are not in it")
    report.note("each session has one topic to itself; the other 19 of 20 are shared by all")
    return report


def reply_sizes() -> list[int]:
    """Return the lengths of softstate's answers to `hello`, `subscribe` and `renew`."""
    with paired(softstate_server) as pair:
        opened = pair.load.ask("open", port=pair.server.port, connections=1, subscriptions=1)
        renewed = pair.load.ask("renew", times=1)
    return [*opened["sizes"], *renewed["sizes"]]


def bare_server(sizes: Sequence[int]) -> AbstractContextManager[Server]:
    """Run `bench.load.servers.trio_websocket_server`, with answers of these sizes."""
    words = ("--replies", ",".join(map(str, sizes)))
    return python_server("bench.load.servers.trio_websocket_server", *words, name=BARE)


def servings(report: Report, name: str) -> dict[str, Serving]:
    """Return softstate from each checkout, by the names of the candidates that `name` becomes."""
    named = report.checkouts.named(name)
    return {name: partial(softstate_server, checkout=checkout) for name, checkout in named.items()}


@contextmanager
def paired(serving: Serving) -> Iterator[Pair]:
    """Run a server, and a generator for it."""
    with serving() as server, LoadProcess("bench.load.sessions") as load:
        yield Pair(server, load)


@contextmanager
def all_paired(report: Report, bare: Serving | None) -> Iterator[dict[str, Pair]]:
    """Run the bare server, unless it is None, and softstate, each with a generator."""
    serving = {BARE: bare} if bare else {}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(paired(serve)) for name, serve in {**serving, **servings(report, OURS)}.items()
        }


def memory(report: Report, bare: Serving | None, sizes: Sequence[int], rounds: int) -> Rounds:
    """Measure resident memory at several numbers of sessions, each time in a new process."""
    largest = f"at_{max(sizes)}"
    candidates = {BARE: partial(grown, bare, sizes, 1)} if bare else {}
    for way, subscriptions in ((OURS, 1), (MANY, SUBSCRIPTIONS)):
        for name, serving in servings(report, way).items():
            candidates[name] = partial(grown, serving, sizes, subscriptions)
    result = run_rounds(candidates, rounds, "memory")
    columns = [Column(f"at_{size}", f"KiB at {size:,}", 1 / KIB) for size in sizes]
    report.table("resident memory of a session", result, columns, baseline=BARE, compares=largest)
    if not report.compares:
        _judge_memory(report, result, largest, max(sizes))
    return result


def _judge_memory(report: Report, result: Rounds, largest: str, size: int) -> None:
    each = result.median(OURS, largest) / KIB
    report.figure_at_most(f"a session with 1 subscription, of {size:,}", each, SESSION_KIB_MAX, "KiB")
    pairs = zip(result.runs[OURS], result.runs[MANY], strict=True)
    further = spread([(many[largest] - one[largest]) / (SUBSCRIPTIONS - 1) for one, many in pairs])
    name = "each further subscription, to a shared topic"
    ok = further.median <= SUBSCRIPTION_BYTES_MAX
    report.targets.append(Target(name, f"≤ {SUBSCRIPTION_BYTES_MAX} bytes", f"{further} bytes", ok))


def grown(serving: Serving, sizes: Sequence[int], subscriptions: int) -> Figures:
    """Open more and more sessions; return (RSS(N) - RSS(0)) / N for each N in `sizes`."""
    figures: dict[str, float] = {}
    with paired(serving) as pair:
        empty = resident_bytes(pair.server.pid)
        opened = 0
        for size in sizes:
            pair.open(size - opened, subscriptions)
            opened = size
            figures[f"at_{size}"] = (resident_bytes(pair.server.pid) - empty) / size
    return figures


def opening(
    report: Report, bare: Serving | None, connections: int, renewals: int, rounds: int
) -> tuple[Rounds, Rounds]:
    """Measure connect + hello + subscribe, and renewals, with all servers up at the same time."""
    with all_paired(report, bare) as pairs:
        for pair in pairs.values():
            pair.open_and_leave(connections // 10)  # to warm up
        opened = run_rounds(
            {name: partial(pair.open_and_leave, connections) for name, pair in pairs.items()}, rounds, "connect"
        )
        for pair in pairs.values():
            pair.open(connections)
            pair.renew(1)
        renewed = run_rounds({name: partial(pair.renew, renewals) for name, pair in pairs.items()}, rounds, "renew")
    for title, result, limit in (
        ("connect + hello + subscribe", opened, CONNECTS_RATIO_MIN),
        ("renewals", renewed, RENEWALS_RATIO_MIN),
    ):
        report.table(title, result, COST, baseline=BARE, compares="server_cpu_s")
        if not report.compares:
            report.at_least(f"{title} per second", result, OURS, BARE, "per_s", limit)
            report.at_least(f"{title} per CPU second", result, OURS, BARE, "per_cpu_s", limit)
        report.note_busy(title, result)
    return opened, renewed


def idling(report: Report, bare: Serving | None, sessions: int, seconds: float, rounds: int) -> Rounds:
    """Measure idle sessions, with and without renewals."""
    with all_paired(report, bare) as pairs:
        for pair in pairs.values():
            pair.open(sessions)
        measures = {name: partial(pair.idle, sessions, seconds, RENEW_S) for name, pair in pairs.items()}
        for name, silent in zip(report.checkouts.named(OURS), report.checkouts.named(SILENT), strict=True):
            measures[silent] = partial(pairs[name].idle, sessions, seconds, 0.0)
        result = run_rounds(measures, rounds, "idle")
    title = f"{sessions:,} idle sessions, renewed every {RENEW_S:g} s; {seconds:g} s, counted as a minute"
    report.table(title, result, IDLE, baseline=BARE, compares="minute_s")
    return result
