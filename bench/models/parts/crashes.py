"""T4 and T4p: acknowledged publishes that a crash loses, simulated at each point, and with real processes."""

from __future__ import annotations

from bench.measure.engines import THROW_AWAY
from bench.measure.servers import NotInstalled
from bench.models.measured.crashes import DOWN_S, POINTS, PUBLISH_EVERY_S, crash_at, kill_nodes
from bench.models.part import Cell, Part

WORLDS = {False: 2, True: 1}
KILLS = {False: 3, True: 1}
QUICK_POINTS = ("publish.after_commit",)


def t4(seed: int, *, quick: bool) -> Part:
    """Crash nodes at each point of the store, and count acknowledged publishes that are lost."""
    part = Part(
        "T4",
        "acknowledged publishes lost, by crash point",
        f"Simulated worlds of one node: it ends each time its store passes the point, and starts again {DOWN_S:g} s"
        f" later, while two real clients publish {1 / PUBLISH_EVERY_S:g} times a second. killed: its kernel resets"
        " connections; power: nobody is told. The simulated disk is durable: what is committed is synced, so that this"
        " shows that nothing is acknowledged ahead of its commit, not that an engine syncs. The oracle checks all other"
        " promises meanwhile.",
        seed,
    )
    rows = part.table(
        "crash points", ["", "killed: crashes", "acknowledged", "lost", "power: crashes", "acknowledged", "lost"]
    )
    for point in QUICK_POINTS if quick else POINTS:
        row: list[Cell] = [point]
        for how in ("killed", "power"):
            runs = [crash_at(point, how, seed * 100 + number) for number in range(WORLDS[quick])]
            part.broken += [run.broken for run in runs if run.broken]
            lost = sum(run.lost for run in runs)
            part.bound(f"acknowledged publishes lost, {point}, {how}", lost, 0)
            row += [sum(run.passed for run in runs), sum(run.acknowledged for run in runs), lost]
        rows.append(row)
    part.notes.append(
        "a point with fewer crashes is passed more rarely than the world lasts. Ahead of a reopening the store is put"
        " back to a copy of it: what is lost by that is not counted"
    )
    return part


def t4_processes(seed: int, *, quick: bool) -> Part:
    """Kill real nodes on each engine that is installed."""
    part = Part(
        "T4p",
        "acknowledged publishes lost by kill -9 of real nodes, by store",
        "A node takes publishes, each of another topic, one after the other, and is killed with SIGKILL within a"
        " second of the first acknowledgement; another one on the same store is then asked for all that was"
        " acknowledged. Engines are throw-away ones, durable.",
        seed,
        machine_bound=True,
    )
    rows = part.table("stores", ["", "kills", "acknowledged", "lost"])
    for kind in ("sqlite",) if quick else THROW_AWAY:
        try:
            found = kill_nodes(kind, seed, KILLS[quick])
        except NotInstalled as missing:
            part.notes.append(f"{kind} was left out: {missing}")
            continue
        part.bound(f"acknowledged publishes lost, {kind}", found.lost, 0)
        rows.append([found.where, found.passed, found.acknowledged, found.lost])
    part.notes.append(
        "kill -9 says nothing about a power cut: that each engine syncs before it answers is its own claim"
    )
    return part
