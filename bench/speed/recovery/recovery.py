"""``python -m bench recovery``: the return of a server's clients after it was killed.

The clients are the real client machine (`bench.load.machines`), thousands in one process. When all are live and have
renewed, the node is killed, stays away, and is started again on the same store and port. In half of the runs clients
come back within the spread that the node advised in their last `renewed`; in the other half they use exponential
backoff with full jitter only: the first attempt after U(0, base), the bound doubled after each failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.load.process import LoadProcess
from bench.measure.options import Measuring
from bench.measure.report import Column, Report, Row, Table, Target
from bench.measure.rounds import Figures, Measure, Rounds, run_rounds
from bench.speed.recovery.crash import Herd, System, crash, softstate_system
from bench.speed.recovery.figures import course_of, figures_of
from bench.speed.recovery.peers import peer_systems
from bench.speed.sessions import bare_server, reply_sizes

CLIENTS = {False: 15_000, True: 1_000}
TTL_S = {False: 60.0, True: 6.0}
"""Short with ``--quick``, since all clients have to renew once before the node dies."""
FLOOR_CONNECTS = 1_000
"""Connections that the bare server is measured with."""

STRETCH_MAX = 1.3
KNOCKS_MAX = 2.0
ACKNOWLEDGED_SHARE_MIN = 0.95
STALL_S_MAX = 1.0
FRESH_UP_S_MAX = {0: 1.5, 1: 3.0}
"""For 3,000 clients and 2 s of downtime, on a machine of two cores, by the number of other cores that are busy."""
FRESH_JUDGED = (3_000, 2.0)

SPREAD = "lease-carried spread"
JITTER = "full jitter alone"

LIVE = (
    Column("live_50_s", "50 % live"),
    Column("live_99_s", "99 % live"),
    Column("live_all_s", "all live"),
    Column("fresh_50_s", "50 % fresh"),
    Column("fresh_99_s", "99 % fresh"),
    Column("fresh_all_s", "all fresh"),
    Column("down_s", "node away"),
    Column("fresh_99_up_s", "99 % fresh since it listens"),
    Column("stall_s", "longest stall"),
)
LAW = (
    Column("live_99_up_s", "99 % live since it listens"),
    Column("spread_s", "advised spread", better=""),
    Column("serve_s", "N / handshake rate"),
    Column("floor_s", "N / rate of bare trio-websocket", better=""),
    Column("stretch_99", "over the law"),
)
HERD = (
    Column("attempts", "dials/client"),
    Column("attempts_up", "of them to a running node"),
    Column("polls", "polls/client"),
    Column("shed", "shed/client", better=""),
    Column("handshakes_peak", "peak handshakes/s", digits=0),
    Column("queue_peak", "longest accept queue", digits=0),
    Column("attempted", "publishes attempted", digits=0, better=""),
    Column("acknowledged_share", "acknowledged", better="more"),
    Column("server_cpu_s", "server CPU s"),
    Column("generator_busy", "generator busy", better=""),
)
COURSE = (
    Column("live", "live %", 100, 1),
    Column("fresh", "fresh %", 100, 1),
    Column("queue", "accept queue", digits=0),
    Column("dials", "dials/client"),
    Column("refused", "of them refused"),
    Column("polls", "polls/client"),
    Column("attempted", "publishes attempted", digits=0),
    Column("acknowledged", "acknowledged", digits=0),
)


def recovery(
    measuring: Measuring, clients: int | None = None, down_s: float = 0.0, busy: int = 0, peers: Path | None = None
) -> Report:
    """Kill a node with all its clients connected, once in each run."""
    quick = measuring.quick
    herd = Herd(clients or CLIENTS[quick], down_s, TTL_S[quick], busy)
    report = measuring.report("recovery", f"{herd}: one node is killed with SIGKILL and started again")
    others: dict[str, System] = {}
    if not report.compares:
        others, notes = peer_systems(peers)
        for note in notes:
            report.note(note)
    herds(report, herd, measuring.rounds, others)
    report.note(
        "clients are the real client machine, in one or two processes, on raw sockets; times count from the kill"
    )
    report.note("handshake rate: measured in the same run, when the clients opened for the first time, 64 at once")
    report.note("publishes: one each 0.1 s on a new connection, since the node listens; acknowledged within 0.5 s")
    report.note("fresh: holds a value whose publish began after the kill")
    if not herd.beats:
        report.note("so many clients ask for no beats, which their processes could not read beside the herd")
    if herd.clients <= CLIENTS[True]:
        report.note("the node's restart is a large part of the time over which so few clients are spread")
    return report


def herds(report: Report, herd: Herd, rounds: int, others: Mapping[str, System] | None = None) -> Rounds:
    """Compare both ways to come back, and `others`; of two checkouts, compare the nodes, with softstate's own way."""
    courses: dict[str, list[tuple[float, Figures]]] = {}
    systems = {name: softstate_system("lease", checkout) for name, checkout in report.checkouts.named(SPREAD).items()}
    if not report.compares:
        systems |= {JITTER: softstate_system("jitter"), **(others or {})}
    sizes = reply_sizes()
    measures: dict[str, Measure] = {
        name: partial(_measure, name, herd, system, sizes, courses) for name, system in systems.items()
    }
    result = run_rounds(measures, rounds, "recovery")
    report.table("time until so many are live, and fresh, s", result, LIVE, baseline=JITTER, compares="live_all_s")
    report.table("the herd's law, s", result, LAW, baseline="", compares="live_99_up_s")
    report.table("the herd", result, HERD, baseline=JITTER, compares="handshakes_peak")
    for name, course in courses.items():
        rows = [Row(f"{at_s:.2f} s", None, figures) for at_s, figures in course]
        report.courses.append(Table(f"the last round of {name}, seconds since the kill", "", "", COURSE, rows))
    if not report.compares:
        _judge(report, herd, result)
    everything = [run for runs in result.runs.values() for run in runs]
    for figure, title in (
        ("lost", "acknowledged publishes lost"),
        ("unsettled", "publishes without an outcome in the end"),
        ("stale", "clients that lack the newest value in the end"),
        ("too_low", "ages stated too low"),
    ):
        total = sum(run[figure] for run in everything)
        report.targets.append(Target(title, "0 in every run", f"{total:g}", total == 0))
    checks = sum(run["checks"] for run in everything)
    margin_s = min(run["least_margin_s"] for run in everything)
    report.note(f"ages were checked {checks:,.0f} times; least margin {margin_s * 1000:.1f} ms")
    report.note_busy("recovery", result)
    return result


def _judge(report: Report, herd: Herd, result: Rounds) -> None:
    runs = result.runs[SPREAD]
    law = "x max(spread, N / handshake rate)"
    stretch = max(run["stretch_99"] for run in runs)
    report.figure_at_most("99 % live, from when the node listens again, worst round", stretch, STRETCH_MAX, law)
    stall_s = max(run["stall_s"] for run in runs)
    report.figure_at_most("longest time without one more live client, worst round", stall_s, STALL_S_MAX, "s")
    report.figure_at_most("dials and polls a client", result.median(SPREAD, "knocks"), KNOCKS_MAX, "")
    share = min(run["acknowledged_share"] for run in runs)
    report.figure_at_least("publishes acknowledged, worst round", share, ACKNOWLEDGED_SHARE_MIN, "of those attempted")
    if (herd.clients, herd.down_s) == FRESH_JUDGED and herd.busy in FRESH_UP_S_MAX:
        fresh_s = result.median(SPREAD, "fresh_99_up_s")
        report.figure_at_most("99 % fresh, since the node listens", fresh_s, FRESH_UP_S_MAX[herd.busy], "s")


def _measure(
    name: str, herd: Herd, system: System, sizes: list[int], courses: dict[str, list[tuple[float, Figures]]]
) -> Figures:
    floor_per_s = bare_rate(sizes)
    record = crash(herd, system)
    courses[name] = course_of(record)
    return figures_of(record, floor_per_s)


def bare_rate(sizes: list[int], connects: int = FLOOR_CONNECTS) -> float:
    """Return how many handshakes with `hello` and `subscribe` a bare trio-websocket server answers a second."""
    with bare_server(sizes) as server, LoadProcess("bench.load.sessions") as load:
        load.ask("open", port=server.port, connections=connects // 10, subscriptions=1)  # to warm up
        opened = load.ask("open", port=server.port, connections=connects, subscriptions=1)
    return connects / float(opened["open_s"])
