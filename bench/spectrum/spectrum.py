"""``python -m bench spectrum``: session state nowhere, in the node, in a store beside it, and durable for good.

The same nodes, clients and workload for all placements (`bench.spectrum.workload`), in virtual time, so that figures
are repeatable by their seed; CPU, memory and engines are measured beside them, on this machine (`bench.spectrum.cpu`).
A promise that the product's own placement breaks fails the bench; an alternative may break what it does not promise,
and the table says so.
"""

from __future__ import annotations

import math
import time

from bench.models.measured.copies import PER_POLL
from bench.models.part import Cell, Grid, Part
from bench.spectrum import cpu
from bench.spectrum.engines import SESSIONS, costs
from bench.spectrum.placements import Where
from bench.spectrum.workload import CHANGE_EVERY_S, DOWN_S, RENEW_S, SILENT_S, TOPICS, Placement, Result, Run, Size

SIZES = {False: Size(24, 240.0), True: Size(12, 120.0)}

SOFT = Placement("soft, as it is", "node", beats=True, own=True)
QUIET = Placement("soft, beats off", "node", own=True)
AGE_S = 1.0
"""Polling as often as beats come has the same ages."""

ALTERNATIVES = (
    Placement("soft, digest off", "node", digest=False),
    Placement("soft, bye off", "node", bye=False),
    Placement("external (Redis)", "external"),
    Placement("hard (SQLite, PostgreSQL)", "durable"),
)


def spectrum(seed: int, *, quick: bool) -> Part:
    """Run all placements, and compare them with the product's."""
    began = time.process_time()
    size = SIZES[quick]
    part = Part(
        "spectrum",
        "where session state is: nowhere, in the node, beside it, durable",
        f"{size.clients} clients of one node follow two of {TOPICS} topics each; a change every"
        f" {CHANGE_EVERY_S:g} s on average. In one run: steady; kill -9, back after {DOWN_S:g} s, while every topic"
        f" changes; the node forgets the names of a quarter of the leases; another quarter of the clients is cut off"
        f" for {SILENT_S:g} s; another vanishes; another leaves. Nodes and clients are the product's in all placements,"
        " in virtual time; the store behind the last two is a stand-in that counts operations. CPU, memory and"
        " operations of engines are those of real nodes and engines.",
        seed,
        command=f"python -m bench spectrum{' --quick' if quick else ''}",
    )
    soft = Run(SOFT, seed, size).run()
    quiet = Run(QUIET, seed, size).run()
    budget_s = 2 * 60 / quiet.messages_per_min
    polls = (
        Placement(f"stateless, poll {budget_s:.1f} s: equal messages", "nowhere", poll_s=budget_s),
        Placement(f"stateless, poll {AGE_S:g} s: equal ages", "nowhere", poll_s=AGE_S),
    )
    others = [Run(placement, seed, size).run() for placement in (*polls, *ALTERNATIVES)]
    results = [soft, quiet, *others]
    _tables(part, results, quiet)
    _judge(part, [soft, quiet])
    for each in results:
        if each.placement.where in ("external", "durable"):
            part.bound(f"sessions that did not outlive their node, {each.placement.name}", 1 - each.resumed, 0)
    _cpu(part, results, quick=quick)
    _costs(part, results, quick=quick)
    part.notes += [RATIO_NOTE, ATTEMPTS_NOTE, CPU_NOTE, SPACE_NOTE, HARD_NOTE]
    part.took_cpu_s = time.process_time() - began
    return part


RATIO_NOTE = "ratios are to soft state without beats, of the same run, as the alternatives have no beats"
ATTEMPTS_NOTE = (
    "fresh: the first and the last copy that has what was committed while the node was down. Dials and polls are those"
    " of one minute from the kill on; a herd of so few clients is spread over a tenth of a second, so that all of them"
    " meet the node while it is down: F-a has larger ones. Store operations are those of the same minute, renewals"
    " included"
)
CPU_NOTE = (
    f"CPU: {cpu.SUBSCRIBERS} sessions get each change, {cpu.NAMES} names a session. With polls, a delivery is a poll"
    " that gets a value, a renewal one that has nothing to learn, both over HTTP. Ratios are medians of ratios within"
    " one round. The node writes to its store one operation after the other: one that joins those of a turn pays less."
    f" For a durable queue that is two commits a change, for all {cpu.SUBSCRIBERS} at once, which is the least that it"
    " can cost; and it renews nothing, so that its minute has no renewals."
    " A minute has the deliveries, renewals, polls and beats of a client of the workload; the publishes are not in it."
    " Goodbyes are on neither path, so that soft state without them costs the same"
)
SPACE_NOTE = (
    "a session takes the same memory of the node in all placements but stateless ones, and a place in the store"
    f" besides. The node's bytes are the growth of its resident memory by {cpu.IDLE:,} idle sessions, without"
    " buffers of the kernel. Those of the store are as the engine says, of"
    f" {SESSIONS} sessions: MEMORY USAGE of Redis, pages of the file of SQLite, relation and index of PostgreSQL"
)
HARD_NOTE = (
    "hard state has neither renewals nor a TTL: a client that vanished keeps its session and its queue until"
    " something outside ends them, and names that were lost are not found. It is the only one with sessions that"
    " removes nobody falsely. A session that outlives its node spares no time here: clients that resume and those that"
    " begin another session are fresh after the same time"
)


def _tables(part: Part, results: list[Result], quiet: Result) -> None:
    steady: list[list[Cell]] = []
    failed: list[list[Cell]] = []
    ended: list[list[Cell]] = []
    for each in results:
        name = each.placement.name
        ratio = each.messages_per_min / quiet.messages_per_min
        steady.append([
            name, each.stale_p50_s, each.stale_p99_s, each.messages_per_min, ratio, each.operations_per_min,
        ])  # fmt: skip
        failed.append([
            name, each.first_fresh_s, each.all_fresh_s, each.all_live_s, each.attempts, each.resumed,
            each.recovery_operations, each.doubt_stale_s,
        ])  # fmt: skip
        ended.append([
            name, each.orphan_s, each.wasted, each.bye_orphan_s, each.false_removals, each.lost, each.repeated,
        ])  # fmt: skip
    head = ["", "publish to client p50 s", "p99 s", "messages/min", "ratio", "store operations/min"]
    part.grids.append(Grid("steady, of one client", head, steady))
    head = [
        "",
        "first fresh s",
        "all fresh s",
        "all live s",
        "dials and polls each",
        "resumed each",
        "store operations",
        "old after lost names s",
    ]
    part.grids.append(Grid("after kill -9, and after the node lost names of leases", head, failed))
    head = ["", "orphan s", "pushes wasted", "orphan s after goodbye", "removed falsely", "lost", "repeated"]
    part.grids.append(Grid("clients that vanish, leave, or are cut off for longer than a TTL", head, ended))


def _judge(part: Part, own: list[Result]) -> None:
    for each in own:
        name = each.placement.name
        part.broken += [f"{name}: {broken}" for broken in each.broken]
        part.bound(f"copies that lack the newest value in the end, {name}", each.lost, 0)
        part.bound(f"deliveries repeated, {name}", each.repeated, 0)
        part.bound(f"orphan after a client vanished, {name}", each.orphan_s, 1.1 * 60 + 2.0, "s")
        part.bound(f"old after lost names, {name}", each.doubt_stale_s, 1.2 * 20 + 5.0 + 2.0, "s")


def _cpu(part: Part, results: list[Result], *, quick: bool) -> None:
    found = cpu.measure(quick=quick)
    part.notes += found.notes
    rows: list[list[Cell]] = []
    soft = _minute_s(found, results[1], cpu.SOFT)
    for each in results:
        for name, measured in _measured_as(each.placement):
            if measured not in found.rounds:
                continue
            delivery, renewal = (
                [
                    found.rounds.median(measured, f"{what}_s") * 1e6,
                    found.rounds.median(measured, f"{what}_engine_s") * 1e6,
                    found.rounds.ratio(measured, cpu.SOFT, f"{what}_s").median,
                ]
                for what in ("delivery", "renewal")
            )
            minute = _minute_s(found, each, measured)
            state = 0.0 if each.placement.where == "nowhere" else found.session_bytes
            rows.append([name, *delivery, *renewal, minute * 1e6, minute / soft, state])
    head = [
        "",
        "us a delivery",
        "of the engine",
        "ratio",
        "us a renewal",
        "of the engine",
        "ratio",
        "us a client-minute",
        "ratio",
        "bytes of a session, node",
    ]
    part.grids.append(Grid("CPU of a node and its engine, and memory, on this machine: not repeatable", head, rows))


def _measured_as(placement: Placement) -> list[tuple[str, str]]:
    """Return the names of a placement's rows, and of what was measured for them."""
    if placement.where == "nowhere":
        return [(placement.name, cpu.POLLS)]
    if placement.where == "node":
        return [(placement.name, cpu.SOFT if placement.digest else cpu.NO_DIGEST)]
    return [(name, name) for name in cpu.ENGINES.values() if name.startswith(placement.name.partition(" ")[0])]


def _minute_s(found: cpu.Measured, result: Result, measured: str) -> float:
    """Return the CPU that a client of the workload costs a minute."""
    delivery_s, renewal_s = (found.rounds.median(measured, f"{what}_s") for what in ("delivery", "renewal"))
    placement, followed_per_s = result.placement, cpu.NAMES / TOPICS / CHANGE_EVERY_S
    if placement.poll_s is not None:
        learns = -math.expm1(-followed_per_s * placement.poll_s)
        return result.messages_per_min / PER_POLL * (learns * delivery_s + (1 - learns) * renewal_s)
    renewals = 0.0 if placement.where == "durable" else 60 / RENEW_S
    beats = 60_000 / cpu.BEAT_MS * found.rounds.median(cpu.BEATS, "beat_s") if placement.beats else 0.0
    return 60 * followed_per_s * delivery_s + renewals * renewal_s + beats


def _costs(part: Part, results: list[Result], *, quick: bool) -> None:
    found, notes = costs(quick=quick)
    part.notes += notes
    external, hard = _first(results, "external"), _first(results, "durable")
    rows: list[list[Cell]] = []
    for cost in found:
        result = external if cost.engine.startswith("redis") else hard
        rows.append([
            cost.engine, cost.alone_s * 1e6, cost.batched_s * 1e6, result.placement.name, result.operations_per_min,
            result.operations_per_min * cost.alone_s * 1e3, cost.session_bytes,
        ])  # fmt: skip
    head = [
        "",
        "us an operation",
        "us in a batch of 32",
        "placement",
        "operations/min",
        "ms of waiting a client-minute",
        "bytes of a session",
    ]
    part.grids.append(Grid("operations of real engines, on this machine: not repeatable", head, rows))


def _first(results: list[Result], where: Where) -> Result:
    return next(each for each in results if each.placement.where == where)
