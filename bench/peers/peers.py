"""``python -m bench peers``: softstate beside other systems that deliver changes, with one load generator for all.

Each round visits each system: a new server, new connections, then every figure of that size. One server runs at a time,
so that none pays for another's timers; ratios to softstate are formed within a round. Server CPU and memory are those
of all processes of a system, its store included.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from bench.load.process import LoadFailed
from bench.measure.accept_queue import accept_queue
from bench.measure.options import Measuring
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import ServerFailed, folder
from bench.peers.generator import PUBLISHERS, SUBSCRIBERS, Generator, compiled
from bench.peers.systems import MAKERS, OURS, Places, System, Up, systems
from bench.peers.talks import CONNECTION, TALKS, Talk
from softstate.cli.processes.child import free_port
from softstate.errors import ConfigError

Table: TypeAlias = Literal["connect", "memory", "fanout", "bursts", "publish"]
TABLES: Sequence[Table] = ("connect", "memory", "fanout", "bursts", "publish")

BURST = 20
BURST_S_MAX = 20.0
PUBLISHING = 64
"""Publishers of the publishes that are acknowledged, one under way each."""
SETTLE_S_MAX = 10.0
"""How long values may be late at the end of a run before they count as missing."""
QUIET_S = 1.0
"""Rest before memory is read."""
WARM_CLIENTS = 50
WARM_RATE, WARM_S = 50, 0.5
PREPARE_S_MAX = 10.0
TOPIC = "bench"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: for each number of clients the rates of its fan-out, and how long."""

    rates: Mapping[int, Sequence[int]]
    paced_s: float
    bursts: int
    publish_s: float


FULL = Sizes({1_000: (50,), 5_000: (10, 50)}, paced_s=5.0, bursts=10, publish_s=3.0)
QUICK = Sizes({1_000: (50,)}, paced_s=2.0, bursts=3, publish_s=1.0)

CONNECT = (
    Column("server_cpu_s", "server CPU us each", 1e6, 0),
    Column("each_s", "wall us each", 1e6, 0),
    Column("waiting", "most in the accept queue", digits=0, better=""),
    Column("generator_s", "generator us each", 1e6, 0, better=""),
)
MEMORY = (
    Column("idle_bytes", "idle, KiB each", 1 / 1024, 1),
    Column("used_bytes", "after fan-out, KiB each", 1 / 1024, 1),
    Column("empty_bytes", "without clients, MiB", 1 / 1024**2, 0),
)
FANOUT = (
    Column("server_cpu_s", "server CPU us/delivery", 1e6, 1),
    Column("p50_s", "p50 ms", 1e3, 1),
    Column("p99_s", "p99 ms", 1e3, 1),
    Column("values", "values each got", digits=1, better=""),
    Column("run_cpu_s", "server CPU s", 1.0, 2),
    Column("lost", "connections lost", digits=0),
    Column("generator_s", "generator us/delivery", 1e6, 1, better=""),
)
BURSTS = (
    Column("all_s", "all hold the newest, ms", 1e3, 1),
    Column("p50_s", "p50 ms", 1e3, 1),
    Column("server_cpu_s", "server CPU us/client", 1e6, 1),
    Column("values", "values each got", digits=1, better=""),
    Column("late", "not in time", digits=0),
    Column("generator_s", "generator us/client", 1e6, 1, better=""),
)
PUBLISH = (
    Column("per_s", "acknowledged/s", digits=0, better="more"),
    Column("server_cpu_s", "server CPU us each", 1e6, 0),
    Column("p50_s", "p50 ms", 1e3, 1),
    Column("p99_s", "p99 ms", 1e3, 1),
    Column("generator_s", "generator us each", 1e6, 1, better=""),
)


def peers(measuring: Measuring, places: Places, only: Sequence[str] = (), tables: Sequence[Table] = TABLES) -> Report:
    """Measure all systems that are installed, or those of some names, and return the report.

    Raises `ConfigError` if there is none of a name, and `NotInstalled` if there is no C compiler.
    """
    measuring.refuse_against("peers", "it compares with other systems; fanout and recovery take it")
    unknown = [name for name in only if name not in MAKERS]
    if unknown:
        raise ConfigError(f"there is no system {unknown[0]!r}: --system takes {', '.join(map(repr, MAKERS))}")
    found, notes = systems(places, only)
    report = measuring.report("peers", "one topic, values of 100 bytes, all on this machine")
    for system in found.values():
        report.note(
            f"{system.name} ({system.version}): an acknowledged publish survives {system.durable}; {system.tuned}"
        )
    for note in notes:
        report.note(note)
    sizes = QUICK if measuring.quick else FULL
    with folder() as home:
        measure_all(report, found, compiled(home), sizes, measuring.rounds, tables)
    return report


def measure_all(
    report: Report,
    found: Mapping[str, System],
    program: Path,
    sizes: Sizes,
    rounds: int,
    tables: Sequence[Table] = TABLES,
) -> None:
    """Measure systems with a compiled generator, and add the tables to a report."""
    smallest = min(sizes.rates)
    for clients, rates in sizes.rates.items():
        wanted = [table for table in tables if table != "publish" and (table != "bursts" or clients == smallest)]
        if not wanted:
            continue
        visit = partial(_visit_clients, program=program, sizes=sizes, clients=clients, tables=wanted)
        result = _rounds(report, found, visit, rounds, f"{clients:,} clients")
        if "connect" in wanted:
            _table(report, f"connect and subscribe, {clients:,} clients", result, "connect", CONNECT)
        if "memory" in wanted:
            _table(report, f"memory of a connection, {clients:,} clients", result, "memory", MEMORY)
        for rate in rates if "fanout" in wanted else ():
            title = f"fan-out, {clients:,} clients x {rate}/s, {rate * sizes.paced_s:.0f} values"
            _table(report, title, result, f"fanout{rate}", FANOUT)
        if "bursts" in wanted:
            _table(report, f"bursts of {BURST}, {clients:,} clients", result, "bursts", BURSTS)
    if "publish" in tables:
        visit = partial(_visit_publishers, program=program, sizes=sizes)
        result = _rounds(report, found, visit, rounds, f"{PUBLISHING} publishers")
        _table(report, f"acknowledged publishes, {PUBLISHING} publishers", result, "publish", PUBLISH)


def _rounds(
    report: Report, found: Mapping[str, System], visit: Callable[[System], Figures], rounds: int, label: str
) -> Rounds:
    """Run the rounds; a system that failed in one is left out, with a note that says why."""
    failed: dict[str, str] = {}

    def one(system: System) -> Figures:
        if system.name in failed:
            return {}
        try:
            return visit(system)
        except (LoadFailed, ServerFailed) as error:
            failed[system.name] = str(error)
            return {}

    result = run_rounds({name: partial(one, system) for name, system in found.items()}, rounds, label)
    for name, why in failed.items():
        report.note(f"{name} failed, {label}: {why}")
    return Rounds({name: runs for name, runs in result.runs.items() if name not in failed})


def _table(report: Report, title: str, rounds: Rounds, part: str, columns: Sequence[Column]) -> None:
    """Add a table of the figures whose names begin with ``PART.``, and a note of who is better than softstate."""
    begin = f"{part}."
    mine = Rounds(
        {
            name: [{key.removeprefix(begin): run[key] for key in run if key.startswith(begin)} for run in runs]
            for name, runs in rounds.runs.items()
        }
    )
    baseline = OURS if OURS in mine else ""
    report.table(title, mine, columns, baseline=baseline, compares=columns[0].figure)
    report.note_busy(title, mine)
    if baseline:
        report.note(f"{title}: better than {OURS}: {better(mine, columns) or 'none'}")


def better(rounds: Rounds, columns: Sequence[Column]) -> str:
    """Return who is better than softstate in the median of the ratios within rounds, column by column."""
    parts = []
    for column in columns:
        if not column.better or any(run[column.figure] <= 0 for runs in rounds.runs.values() for run in runs):
            continue
        names = []
        for name in rounds.runs:
            ratio = rounds.ratio(name, OURS, column.figure).median
            if name != OURS and (ratio < 1 if column.better == "less" else ratio > 1):
                names.append(f"{name} ({ratio:.2f})")
        if names:
            parts.append(f"{column.title}: {', '.join(names)}")
    return "; ".join(parts)


# Visits ---------------------------------------------------------------------------------------------------------------


def _visit_clients(system: System, *, program: Path, sizes: Sizes, clients: int, tables: Sequence[Table]) -> Figures:
    """Start a system, connect clients, and measure them in all ways."""
    talk, figures = TALKS[system.talk](), dict[str, float]()
    with folder() as home, system.running(free_port(), home, pings=False) as up:
        prepare(talk, up.port)
        _warm_up(up, talk, program)
        with Generator(program, up.port) as generator:
            generator.talk(talk, TOPIC, TOPIC)
            empty = up.resident_bytes()
            figures |= _named("connect", _connect(up, generator, clients))
            generator.open(PUBLISHERS, 1)
            generator.quiet(QUIET_S)
            idle = up.resident_bytes()
            for rate in sizes.rates[clients] if {"fanout", "memory"} & set(tables) else ():
                figures |= _named(f"fanout{rate}", _fan_out(up, generator, clients, rate, sizes.paced_s))
            used = up.resident_bytes()
            memory = {"idle_bytes": (idle - empty) / clients, "used_bytes": (used - empty) / clients}
            figures |= _named("memory", {**memory, "empty_bytes": float(empty)})
            if "bursts" in tables:
                figures |= _named("bursts", _bursts(up, generator, clients, sizes.bursts))
    return figures


def _visit_publishers(system: System, *, program: Path, sizes: Sizes) -> Figures:
    """Start a system, and have publishers publish to a topic each, as fast as they are acknowledged."""
    talk = TALKS[system.talk]()
    with folder() as home, system.running(free_port(), home, pings=False) as up:
        prepare(talk, up.port)
        with Generator(program, up.port) as generator:
            generator.talk(talk, TOPIC, f"{TOPIC}{CONNECTION}")
            generator.open(PUBLISHERS, PUBLISHING)
            generator.closed(WARM_S)
            before_s = up.cpu_s()
            run = generator.closed(sizes.publish_s)
            cpu_s, count = up.cpu_s() - before_s, max(run["acks"], 1)
    return _named("publish", {
        "per_s": count / run["wall_s"], "server_cpu_s": cpu_s / count, "p50_s": run["p50_s"], "p99_s": run["p99_s"],
        "generator_s": run["generator_cpu_s"] / count, "generator_busy": run["generator_cpu_s"] / run["wall_s"],
    })  # fmt: skip


def prepare(talk: Talk, port: int) -> None:
    """Have the conversation that a system needs before all others. Raises `LoadFailed`."""
    if not talk.prepare:
        return
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PREPARE_S_MAX) as opened:
        opened.sendall(talk.prepare)
        while talk.prepared not in heard:
            more = opened.recv(65_536)
            heard += more
            if not more or talk.refuse in heard:
                raise LoadFailed(f"the server did not take the preparation: {heard[-200:]!r}")


def _warm_up(up: Up, talk: Talk, program: Path) -> None:
    """Serve some clients, so that code is loaded and compiled before anything is measured."""
    with Generator(program, up.port) as generator:
        generator.talk(talk, TOPIC, TOPIC)
        generator.open(SUBSCRIBERS, WARM_CLIENTS)
        generator.open(PUBLISHERS, 1)
        generator.paced(WARM_RATE, WARM_S, SETTLE_S_MAX)


def _connect(up: Up, generator: Generator, clients: int) -> Figures:
    waiting = [0]
    before_s = up.cpu_s()
    run = generator.open(SUBSCRIBERS, clients, lambda: waiting.append(accept_queue(up.port) or 0))
    return {
        "server_cpu_s": (up.cpu_s() - before_s) / clients, "each_s": run["open_s"] / clients,
        "waiting": float(max(waiting)), "generator_s": run["generator_cpu_s"] / clients,
    }  # fmt: skip


def _fan_out(up: Up, generator: Generator, clients: int, rate: int, seconds: float) -> Figures:
    before_s = up.cpu_s()
    run = generator.paced(rate, seconds, SETTLE_S_MAX)
    run_cpu_s, count = up.cpu_s() - before_s, max(run["deliveries"], 1)
    return {
        "server_cpu_s": run_cpu_s / count, "p50_s": run["p50_s"], "p99_s": run["p99_s"],
        "values": run["deliveries"] / clients, "run_cpu_s": run_cpu_s, "lost": run["lost"],
        "generator_s": run["generator_cpu_s"] / count, "generator_busy": run["generator_cpu_s"] / run["wall_s"],
    }  # fmt: skip


def _bursts(up: Up, generator: Generator, clients: int, times: int) -> Figures:
    before_s = up.cpu_s()
    run = generator.bursts(BURST, times, BURST_S_MAX)
    count = clients * times
    return {
        "all_s": run["all_s"], "p50_s": run["p50_s"], "server_cpu_s": (up.cpu_s() - before_s) / count,
        "values": run["deliveries"] / count, "late": run["late"], "generator_s": run["generator_cpu_s"] / count,
        "generator_busy": run["generator_cpu_s"] / run["wall_s"],
    }  # fmt: skip


def _named(part: str, figures: Figures) -> dict[str, float]:
    return {f"{part}.{name}": value for name, value in figures.items()}
