"""T2, T3 and F-f: staleness, honest ages and repairs, in simulated worlds of one kind of fault each."""

from __future__ import annotations

import math

from bench.models.measured.faulted import REPAIRS, Observed, observe_all
from bench.models.part import Cell, Part

WORLDS = {False: 5, True: 1}
WAYS = {False: (True, False), True: (True,)}
"""Clients with beats, and without."""

WORLD = (
    "Each row: simulated worlds of two nodes and three clients with the default timers (TTL 60 s, renewal every 20 s"
    " ± 20 %, poll every 15 s ± 20 %), a change a second by another program, and one kind of fault after 45 s. The code"
    " is the product's, and the oracle checks all promises at each step."
)
BEATS_NOTE = (
    "the bounds are those of renewals and polls alone; beats find silence within seconds, and lost pushes with the next"
    " beat"
)
SAMPLES_NOTE = (
    "every client's age is compared twice a second of virtual time; the age is stated by the product, the staleness is"
    " worked out from the commits of the disk"
)
POLLS_NOTE = (
    "a client that cannot open a WebSocket has its polls held until something changes, so that B4, the bound of plain"
    " polls, is far away"
)


def _observed(part: Part, seed: int, *, quick: bool) -> tuple[Observed, ...]:
    found = observe_all(seed, WORLDS[quick], WAYS[quick])
    for each in found:
        part.broken += each.broken
    return found


def _label(each: Observed) -> list[Cell]:
    return [each.fault.name, "on" if each.beats else "off"]


def t2(seed: int, *, quick: bool) -> Part:
    """Hold staleness against the bounds B1 to B6."""
    part = Part("T2", "staleness by kind of fault, against its bound", WORLD, seed)
    rows = part.table(
        "staleness that a delivery ended", ["", "beats", "p50 s", "p99 s", "most s", "bound", "s", "deliveries"]
    )
    for each in _observed(part, seed, quick=quick):
        most_s = each.quantile(1.0)
        part.bound(f"staleness, {each.fault.name}", most_s, each.fault.bound_s, "s")
        quantiles: list[Cell] = [each.quantile(0.5), each.quantile(0.99), most_s]
        rows.append([*_label(each), *quantiles, each.fault.bound, each.fault.bound_s, len(each.stale_s)])
    part.notes += [BEATS_NOTE, POLLS_NOTE]
    return part


def t3(seed: int, *, quick: bool) -> Part:
    """Find the least margin of age over real staleness."""
    part = Part("T3", "honest ages: the least age minus real staleness, of all samples of stale copies", WORLD, seed)
    title = "age, as the client states it, minus staleness; it must not be below 0"
    rows = part.table(title, ["", "beats", "least margin s", "steps checked"])
    for each in _observed(part, seed, quick=quick):
        part.bound(f"staleness above the stated age, {each.fault.name}", -each.margin_s, 0.0, "s")
        stale = math.isfinite(each.margin_s)
        rows.append([*_label(each), each.margin_s if stale else "never stale", each.steps])
    part.notes.append(SAMPLES_NOTE)
    return part


def f_f(seed: int, *, quick: bool) -> Part:
    """Count what clients repaired, by kind of fault."""
    part = Part("F-f", "repairs by kind of fault", WORLD, seed)
    found = _observed(part, seed, quick=quick)
    shown = [name for name in REPAIRS if any(each.counts[name] for each in found)]
    others = ("misses", "welcomes", "resumed", "polls", "resets")
    rows = part.table(f"counters of all clients, {WORLDS[quick]} worlds each", ["", "beats", *shown, *others])
    for each in found:
        if each.fault.name == "none":
            part.bound("repairs without a fault", sum(each.counts[name] for name in REPAIRS), 0)
        rows.append([*_label(each), *(each.counts[name] for name in (*shown, *others))])
    part.notes.append(f"always 0 here: {', '.join(name for name in REPAIRS if name not in shown) or 'none'}")
    return part
