"""F-a and F-b: the return of a herd over its size, and where it never ends."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

from bench.models.measured.estimates import NORMAL_95, Estimate
from bench.models.part import Cell, Part
from bench.models.theory.herd_law import (
    frontier_s,
    fullest_share,
    least_s,
    mean_backoff_s,
    residual_share,
    silent_back_share,
    silent_peak_per_s,
    spread_share,
)
from bench.trials.herd import Plan, Report, herd
from softstate.session.load_advice import RATE_FLOOR_PER_S, RECOVER_BASE_MS

HANDSHAKE_S = 0.001
SIZES = {False: (100, 1_000, 10_000, 100_000), True: (100, 1_000)}
PARTS_OF_SPREAD = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

PEAK_MAX = 1.1
"""The greatest rate at which clients may come, over that of an even spread, unless chance alone may exceed it."""

PEAKED_MIN = 1_000
"""Fewest clients whose peak says anything: of 100 the greatest second is chance."""

TENTHS = 10
"""Parts of the spread in which rates are taken: the fullest second of thousands of clients is chance, too."""

SILENT_DOWN_S = 300.0
SILENT_CLIENTS = {False: 3_000, True: 1_500}


def f_a(seed: int, *, quick: bool) -> Part:
    """Measure the return after a crash over the number of clients."""
    part = Part(
        "F-a",
        "recovery over the number of clients",
        "All clients lose their node in one instant, and it is back at once. They are the real client machine,"
        " the advice and the shedding are the product's; the node is a model that serves 1,000 handshakes a"
        " second. Model: each dials once, at an even time within the spread w that it was told, so that the part"
        " that is live is t/w, and N/w come a second. The greatest rate is that of the fullest tenth of w.",
        seed,
    )
    head = ["clients", "w s", "N/μ s", "last s", *(f"live at {each:g} w" for each in PARTS_OF_SPREAD)]
    rows = part.table("return after a crash", [*head, "N/w per s", "greatest", "fullest second", "dials each"])
    curve = part.figure("part that is live after a crash", "time in spreads", "part")
    for clients in SIZES[quick]:
        report = herd(Plan(clients=clients, down_s=0.0, handshake_s=HANDSHAKE_S, seed=seed))
        spread_s = report.spread_s
        shares = [live_share(report, each * spread_s) for each in PARTS_OF_SPREAD]
        even = clients / spread_s
        rows.append([
            clients, spread_s, least_s(clients, 1 / HANDSHAKE_S), report.last_s, *(share.value for share in shares),
            even, fullest_per_s(report), report.peak_per_s, report.attempts / clients,
        ])  # fmt: skip
        for step in range(21):
            curve.add(f"{clients:,} clients", step / 20, live_share(report, step / 20 * spread_s).value)
        part.compare(f"half of the spread, {clients:,} clients", shares[2], spread_share(spread_s / 2, spread_s), 0.1)
        if clients >= PEAKED_MIN:
            part.compare(f"all live, in spreads, {clients:,} clients", report.last_s / spread_s, 1.0)
            most = max(PEAK_MAX, fullest_share(TENTHS, clients / TENTHS))
            part.bound(f"rate over that of an even spread, {clients:,} clients", fullest_per_s(report) / even, most)
            most = fullest_share(math.ceil(spread_s), even)
            part.bound(f"fullest second over an even one, {clients:,} clients", report.peak_per_s / even, most)
    for at in (0.0, 1.0):
        curve.add("model", at, spread_share(at, 1.0))
    _silent(part, seed, quick=quick)
    return part


def _silent(part: Part, seed: int, *, quick: bool) -> None:
    """Compare the return after a long, silent outage with the law of full jitter."""
    clients = SILENT_CLIENTS[quick]
    plan = Plan(clients=clients, how="power", down_s=SILENT_DOWN_S, handshake_s=HANDSHAKE_S, seed=seed)
    report = herd(plan)
    title = (
        f"part of {clients:,} clients that is live, from when a node is back that was silent for {SILENT_DOWN_S:g} s"
    )
    rows = part.table(title, ["s", "measured", "model", "model, if all were in backoff"])
    curve = part.figure("part that is live after a silent outage", "s since the node is back", "part")
    for at_s in (2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0):
        share = live_share(report, plan.down_s + at_s)
        model = silent_back_share(at_s, plan.cap_s, plan.timeout_s, RECOVER_BASE_MS / 1000)
        backoff = residual_share(at_s, plan.cap_s)
        rows.append([at_s, share.value, model, backoff])
        for name, value in (("measured", share.value), ("model", model), ("model, if all were in backoff", backoff)):
            curve.add(name, at_s, value)
        if at_s in (5.0, 10.0, 20.0):
            part.compare(f"live {at_s:g} s after a silent outage", share, model, 0.1)
    most = max(Counter(int(at_s) for at_s in report.back_s).values())
    part.notes.append(
        f"after the silent outage {most} came back in the fullest second; the model's peak is"
        f" {silent_peak_per_s(clients, plan.cap_s, plan.timeout_s):.0f} a second, at once"
    )


def fullest_per_s(report: Report) -> float:
    """Return the rate at which clients were back in the fullest tenth of the spread."""
    tenth_s = report.spread_s / TENTHS
    return max(Counter(int(at_s / tenth_s) for at_s in report.back_s).values()) / tenth_s


def live_share(report: Report, at_s: float) -> Estimate:
    """Return the part of the clients that was live by a time since the crash; their times are drawn independently."""
    clients = report.plan.clients
    share = bisect_right(sorted(report.back_s), at_s) / clients
    return Estimate(share, NORMAL_95 * math.sqrt(share * (1 - share) / clients))


# The frontier --------------------------------------------------------------------------------------------------------

FEW = {False: 800, True: 400}
PATIENCE_S = 600.0
PATIENCE_CAPS = 30.0
"""Caps of the backoff after which a herd counts as never, for the frontier. Just below it the node has little time left
for the handshakes that piled up while backoffs were short: with a cap of 60 s, a herd of N/μ = 34 s takes 680 s, one of
36 s 1,020 s; with 600 s for all, that frontier was 15 % too low."""
TIMES = {False: ((2.0, 10.0), (5.0, 10.0), (5.0, 30.0), (5.0, 60.0), (10.0, 30.0)), True: ((5.0, 30.0),)}
"""Timeouts q of clients, and caps c of their backoff."""

LOADS = {False: (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 60.0), True: (40.0,)}
FRONTIER_WITHIN = 0.15
RANGE_S = (1.0, 65.0)
"""Bounds of the frontiers of all `TIMES`, from a herd that always returns to one that never does."""
HALVINGS = {False: 6, True: 4}


@dataclass(frozen=True, slots=True)
class Guards:
    """The guards that a herd has."""

    name: str
    spread: bool
    shed: bool


GUARDS = (
    Guards("none", spread=False, shed=False),
    Guards("shedding", spread=False, shed=True),
    Guards("spread", spread=True, shed=False),
    Guards("spread and shedding", spread=True, shed=True),
)


def f_b(seed: int, *, quick: bool) -> Part:
    """Map where a herd never ends, and measure the frontier."""
    part = Part(
        "F-b",
        "herds that never end: the law N/μ > 2q + b as a map",
        f"{FEW[quick]} clients of a node that serves μ of them a second, also those that gave up after q; b is"
        f" half of the backoff's cap c. Never: not all are back after {PATIENCE_S:g} s, and after"
        f" {PATIENCE_CAPS:g} c for the frontier. As in F-a otherwise.",
        seed,
    )
    rows = part.table("measured frontier, N/μ in seconds", ["q s", "c s", "2q + b", "measured"])
    found = part.figure("frontier of herds that never end", "2q + b in s", "N/μ in s")
    for timeout_s, cap_s in TIMES[quick]:
        model_s = frontier_s(timeout_s, mean_backoff_s(cap_s))
        found_s = frontier(seed, timeout_s, cap_s, quick=quick)
        what = f"frontier, q = {timeout_s:g} s, c = {cap_s:g} s"
        part.compare(what, found_s, model_s, FRONTIER_WITHIN, FRONTIER_REASON)
        rows.append([f"{timeout_s:g}", f"{cap_s:g}", model_s, found_s])
        found.add("measured", model_s, found_s)
        found.add("model", model_s, model_s)
    for points in found.curves.values():
        points.sort()
    timeout_s, cap_s = 5.0, 30.0
    title = f"all back after s, q = {timeout_s:g} s, c = {cap_s:g} s"
    cells = part.table(title, ["N/μ s", *(guards.name for guards in GUARDS)])
    ends = part.figure("return of a herd, as far as it ends, by its guards", "N/μ in s", "all back after s")
    for load_s in LOADS[quick]:
        row: list[Cell] = [load_s]
        for guards in GUARDS:
            last_s = returned_s(seed, load_s, timeout_s, cap_s, guards, FEW[quick])
            row.append(last_s)
            if math.isfinite(last_s):
                ends.add(guards.name, load_s, last_s)
            if guards.spread and guards.shed:
                part.bound(f"return with both guards at N/μ = {load_s:g} s", last_s, PATIENCE_S, "s")
        cells.append(row)
    part.notes += [FRONTIER_NOTE, GUARDS_NOTE]
    return part


FRONTIER_NOTE = (
    f"the frontier is found by halving between {RANGE_S[0]:g} and {RANGE_S[1]:g} s, without the model, and known"
    f" to ±{(RANGE_S[1] - RANGE_S[0]) / 2 ** (HALVINGS[False] + 1):.1g} s; the smaller run knows it to"
    f" ±{(RANGE_S[1] - RANGE_S[0]) / 2 ** (HALVINGS[True] + 1):.0f} s"
)
GUARDS_NOTE = (
    "either guard alone makes every herd end. The spread costs time: it is the longer one wherever a herd is large, and"
    " with it the node never has to shed, so that both together return as the spread alone"
)
FRONTIER_REASON = (
    f"near the frontier a herd recovers slowly: the node first has to work off the handshakes that piled up while"
    f" backoffs were short. One that would end later than after {PATIENCE_CAPS:g} c is counted as never"
)


def returned_s(
    seed: int,
    load_s: float,
    timeout_s: float,
    cap_s: float,
    guards: Guards,
    clients: int,
    patience_s: float = PATIENCE_S,
) -> float:
    """Return when all clients were back, infinity if not within `patience_s`; `load_s` is N/μ."""
    handshake_s = load_s / clients
    plan = Plan(
        clients=clients,
        down_s=0.5,
        handshake_s=handshake_s,
        refuse_s=handshake_s / 10,
        known_per_s=max(1 / handshake_s, RATE_FLOOR_PER_S),
        shed=guards.shed,
        spread=guards.spread,
        timeout_s=timeout_s,
        cap_s=cap_s,
        patience_s=patience_s,
        seed=seed,
    )
    return herd(plan).last_s


def frontier(seed: int, timeout_s: float, cap_s: float, *, quick: bool) -> float:
    """Return the greatest N/μ from which a herd without guards returns, by halving `RANGE_S`."""
    ends, never = RANGE_S
    for _ in range(HALVINGS[quick]):
        middle = (ends + never) / 2
        last_s = returned_s(seed, middle, timeout_s, cap_s, GUARDS[0], FEW[quick], PATIENCE_CAPS * cap_s)
        if math.isfinite(last_s):
            ends = middle
        else:
            never = middle
    return (ends + never) / 2
