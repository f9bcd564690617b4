"""T4 and T4p: acknowledged publishes that a crash loses, simulated at each point, and with real processes."""

from __future__ import annotations

from bench.measure.engines import THROW_AWAY
from bench.measure.servers import NotInstalled
from bench.models.measured.crashes import POINTS, crash_at, kill_nodes
from bench.models.part import Cell, Grid, Part

WORLDS = {False: 2, True: 1}
QUICK_POINTS = ("publish.after_commit",)


def t4(seed: int, *, quick: bool) -> Part:
    """Crash nodes at each point of the store, and count acknowledged publishes that are lost."""
    part = Part(
        "T4",
        "acknowledged publishes lost, by crash point",
        "Simulated worlds of one node: it ends each time its store passes the point, and starts again two seconds"
        " later, while two real clients publish five times a second. killed: its kernel resets connections;"
        " power: nobody is told, and what was not synced is lost. The oracle checks all other promises meanwhile.",
        seed,
    )
    rows: list[list[Cell]] = []
    for point in QUICK_POINTS if quick else POINTS:
        row: list[Cell] = [point]
        for how in ("killed", "power"):
            runs = [crash_at(point, how, seed * 100 + number) for number in range(WORLDS[quick])]
            part.broken += [run.broken for run in runs if run.broken]
            lost = sum(run.lost for run in runs)
            part.bound(f"acknowledged publishes lost, {point}, {how}", lost, 0)
            row += [sum(run.passed for run in runs), sum(run.acknowledged for run in runs), lost]
        rows.append(row)
    head = ["", "killed: crashes", "acknowledged", "lost", "power: crashes", "acknowledged", "lost"]
    part.grids.append(Grid("crash points", head, rows))
    part.notes.append("a point with fewer crashes is passed more rarely than the world lasts")
    return part


def t4_processes(seed: int, *, quick: bool) -> Part:
    """Kill real nodes on each engine that is installed."""
    part = Part(
        "T4p",
        "acknowledged publishes lost by kill -9 of real nodes, by store",
        "A node takes publishes, each of another topic, one after the other, and is killed with SIGKILL within a"
        " second; another one on the same store is then asked for all that was acknowledged. Engines are"
        " throw-away ones, durable.",
        seed,
        machine_bound=True,
    )
    rows: list[list[Cell]] = []
    for kind in ("sqlite",) if quick else THROW_AWAY:
        try:
            found = kill_nodes(kind, seed, 1 if quick else 3)
        except NotInstalled as missing:
            part.notes.append(f"{kind} was left out: {missing}")
            continue
        part.bound(f"acknowledged publishes lost, {kind}", found.lost, 0)
        rows.append([found.engine, found.kills, found.acknowledged, found.lost])
    part.grids.append(Grid("stores", ["", "kills", "acknowledged", "lost"], rows))
    part.notes.append(
        "kill -9 says nothing about a power cut: that each engine syncs before it answers is its own claim"
    )
    return part
