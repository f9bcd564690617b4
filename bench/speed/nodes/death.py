"""The death of a node: its effects on its own clients, and on those of the other nodes on the same store.

Clients are spread over the nodes; each has its own node first in its list, then the others. One node is killed with
SIGKILL and not started again. Its clients go live at other nodes; the others must not be affected (`bench.load.fleet`).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import partial

from bench.load.process import LoadProcess
from bench.measure.engines import Engine
from bench.measure.report import Column, Report, Target
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import count_lost
from bench.speed.nodes.groups import group, name_of

PATIENCE_S = 120.0
SETTLE_TTLS = 1.25 / 3
"""Time in TTLs from the last client's arrival until all have renewed, and know the spread for all."""
WATCHED_TTLS = 2 / 3
"""Time in TTLs for which the others are recorded, before and after the death: each renews at least once in it."""

COLUMNS = (
    Column("back_50_s", "half live again s"),
    Column("back_all_s", "all live again s"),
    Column("spread_s", "advised spread s", better=""),
    Column("affected", "others disturbed", digits=0),
    Column("age_before_s", "others: worst age before, s"),
    Column("age_s", "meanwhile"),
    Column("delivery_before_s", "others: worst delivery before, ms", 1e3),
    Column("delivery_s", "meanwhile", 1e3),
    Column("generator_busy", "generator busy", better=""),
)


def deaths(
    report: Report, engine: Engine, counts: Sequence[int], times: int, clients_each: int, ttl_s: float
) -> Rounds:
    """Kill one of each number of nodes, in so many rounds."""
    title = f"{engine.kind}: one node dies, {clients_each} clients at each"
    measures = {name_of(count): partial(death, engine, count, clients_each, ttl_s) for count in counts}
    result = run_rounds(measures, times, title)
    report.table(title, result, COLUMNS, baseline="", compares="back_all_s")
    everything = [run for runs in result.runs.values() for run in runs]
    for figure, name in (
        ("affected", "clients of other nodes that lost their connection or left live"),
        ("lost", "acknowledged publishes lost"),
        ("too_low", "ages stated too low"),
    ):
        total = sum(run[figure] for run in everything)
        report.targets.append(Target(f"{engine.kind}: {name}", "0 in every run", f"{total:g}", total == 0))
    report.note(
        "half, all live again: clients of the dead node, counted from when the first of them lost its connection"
    )
    report.note("others: clients of the other nodes; delivery: from the request of a publish until a client has it")
    return result


def death(engine: Engine, count: int, clients_each: int, ttl_s: float) -> Figures:
    """Open clients at some nodes, kill the first node, and return the effects."""
    name = f"death_{count}_{time.monotonic_ns()}"
    with group(engine, count, name, "--ttl", f"{ttl_s}s") as servers, LoadProcess("bench.load.fleet") as load:
        victim, *others = servers
        ports = [server.port for server in servers]
        load.ask("open_nodes", ports=ports, clients=clients_each * count, victim=victim.port, seed=1)
        spread_s = load.ask("go_on", seconds=SETTLE_TTLS * ttl_s)["spread_s"]
        before = load.ask("calm", seconds=WATCHED_TTLS * ttl_s)
        load.tell("death", seconds=WATCHED_TTLS * ttl_s, patience_s=PATIENCE_S)
        time.sleep(0.1)  # until the load process serves its clients again
        os.kill(victim.pid, signal.SIGKILL)
        answer = load.answer()
        lost = count_lost(others[-1], answer["acknowledged"])
    back_s = sorted(answer["back_s"])
    return {
        "back_50_s": back_s[len(back_s) // 2],
        "back_all_s": back_s[-1],
        "spread_s": spread_s,
        "affected": float(max(answer["lost"], answer["left"])),
        "age_before_s": before["age_s"],
        "age_s": answer["age_s"],
        "delivery_before_s": before["delivery_s"],
        "delivery_s": answer["delivery_s"],
        "too_low": float(answer["too_low"]),
        "lost": float(lost),
        "generator_busy": answer["generator_busy"],
    }
