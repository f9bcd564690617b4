"""The figures of a drill, the promises that broke, and their text. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from softstate.cli.commands.drill.advised_times import AdvisedTimes
from softstate.cli.commands.drill.ledger import Ledger
from softstate.cli.commands.drill.plan import Plan

HERD_PER_S_MIN = 50.0
"""Fewer attempts to connect in a second are no herd: a node answers ten times as many (`handshakes_per_s`)."""


@dataclass(frozen=True)
class Spread:
    """Percentiles of some durations, in seconds; infinite where it never happened, NaN where there is nothing."""

    p50_s: float
    p99_s: float
    max_s: float

    @classmethod
    def of(cls, values_s: Sequence[float]) -> Spread:
        """Take the nearest-rank percentiles."""
        ordered = sorted(values_s)
        return cls(percentile(ordered, 50), percentile(ordered, 99), percentile(ordered, 100))

    def __str__(self) -> str:
        return f"p50 {_text(self.p50_s)}, p99 {_text(self.p99_s)}, max {_text(self.max_s)}"


@dataclass(frozen=True)
class Figures:
    """The figures of one drill. `broken` names the promises that broke; empty if all was kept."""

    kind: str
    client: str
    clients: int
    touched: int
    for_s: float
    down_s: float
    topic_every_s: float
    durability: str
    published: int
    acknowledged: int
    lost: int
    longest_publish_s: float
    latency: Spread
    fresh: Spread
    live: Spread
    caught_up: Spread
    converge_s_max: float
    worst_staleness_s: float
    worst_age_s: float
    least_margin_s: float
    age_s_max: float
    worst_allowed_s: float
    samples: int
    too_young: int
    over_bound: int
    connect_peak_per_s: int
    connect_per_s_max: float
    """Most attempts a second that are no herd; infinite where nodes were not restarted one after the other."""
    poll_peak_per_s: int
    went_back: int
    phantoms: int
    resets: int
    behind: int
    broken: tuple[str, ...] = ()

    def json(self) -> str:
        """Write the figures as one JSON object; what never happened, or was not measured, is null."""
        return json.dumps({**_finite(asdict(self)), "ok": not self.broken}, separators=(",", ":"))

    def rows(self) -> list[tuple[str, str]]:
        """Return name and text of each line for people."""
        ages = f"{_text(self.age_s_max)} while a node can be reached, {_text(self.worst_allowed_s)} in this fault"
        store = f"each topic every {self.topic_every_s:.1f} s; store {self.durability}"
        peaks = f"{self.connect_peak_per_s} connection attempts/s, {self.poll_peak_per_s} polls/s"
        oddities = f"{self.went_back}, {self.phantoms}, {self.resets}, {self.behind}"
        margin = f"; ages were above it by {_text(self.least_margin_s)} or more" if self.worst_staleness_s else ""
        return [
            ("fault", f"{self.kind}, for {self.down_s:.1f} s; {self.touched} of {self.clients} clients touched"),
            ("clients", "softstate.sync" if self.client == "sync" else self.client),
            ("published, acknowledged", f"{self.published}, {self.acknowledged} ({store})"),
            ("longest publish, sent to acknowledged", _text(self.longest_publish_s)),
            ("RPO: acknowledged, then lost", f"{self.lost}"),
            ("RTO: fault to first fresh value", f"{self.fresh}"),
            ("RTO: fault to live again", f"{self.live}"),
            ("end of fault to caught up", f"{self.caught_up} (bound {_text(self.converge_s_max)})"),
            ("worst staleness measured", f"{_text(self.worst_staleness_s)}{margin}"),
            ("worst age reported", f"{_text(self.worst_age_s)} (bound {ages})"),
            ("ages too young, above the bound", f"{self.too_young}, {self.over_bound} of {self.samples}"),
            ("peaks after the fault", peaks),
            ("went back, phantoms, resets, behind", oddities),
            ("latency without a fault, publish sent to applied", f"{self.latency}"),
        ]


def judge(plan: Plan, ledger: Ledger, times: AdvisedTimes, published: int, stored: Mapping[int, int]) -> Figures:
    """Work out the figures, and which promises broke. `stored` has the final version of each topic, by number."""
    fault = ledger.fault
    touched = [ledger.followers[client] for client in fault.touched]
    figures = Figures(
        kind=plan.kind,
        client=plan.runtime,
        clients=plan.clients,
        touched=len(touched),
        for_s=plan.for_s,
        down_s=fault.ended_s - fault.began_s,
        topic_every_s=plan.topic_every_s,
        durability=times.durability,
        published=published,
        acknowledged=ledger.acknowledged,
        lost=ledger.lost(stored),
        longest_publish_s=ledger.longest_publish_s,
        latency=Spread.of(ledger.latencies_s),
        fresh=Spread.of([follower.fresh_s - fault.began_s for follower in touched]),
        live=Spread.of([follower.live_s - fault.began_s for follower in touched]),
        caught_up=Spread.of([follower.caught_up_s - fault.ended_s for follower in ledger.followers]),
        converge_s_max=times.converge_s_max,
        worst_staleness_s=ledger.worst_staleness_s,
        worst_age_s=ledger.worst_age_s,
        least_margin_s=ledger.least_margin_s,
        age_s_max=times.age_s_max,
        worst_allowed_s=ledger.worst_allowed_s,
        samples=ledger.samples,
        too_young=ledger.too_young,
        over_bound=ledger.over_bound,
        connect_peak_per_s=max(ledger.connects.values(), default=0),
        connect_per_s_max=_attempts_max(len(touched), plan.urls_known, times) if plan.kind == "rolling" else math.inf,
        poll_peak_per_s=max(ledger.polls.values(), default=0),
        went_back=ledger.went_back,
        phantoms=ledger.phantoms() if published == ledger.acknowledged else 0,
        resets=ledger.resets,
        behind=ledger.behind(stored),
    )
    return Figures(**{**figures.__dict__, "broken": tuple(broken(figures))})


def broken(figures: Figures) -> list[str]:
    """Name the promises that the figures show to be broken, by their ids in the README."""
    spread, peak = figures.caught_up, figures.connect_peak_per_s
    checks = {
        f"S1: versions went back {figures.went_back} times": figures.went_back == 0,
        f"S2: {figures.phantoms} changes were pushed that were never published": figures.phantoms == 0,
        f"S3: {figures.lost} acknowledged publishes are lost": figures.lost == 0,
        f"S5: {figures.too_young} ages were lower than the real staleness": figures.too_young == 0,
        f"S9: {figures.resets} resets, although the store was not restored": figures.resets == 0,
        f"B: {figures.over_bound} ages were above the bound": figures.over_bound == 0,
        f"L: the last client caught up after {_text(spread.max_s)}": spread.max_s <= figures.converge_s_max,
        f"L: {figures.behind} clients differ from the store in the end": figures.behind == 0,
        f"no herd: {peak} connection attempts in a second, {figures.connect_per_s_max:.0f} at most": (
            peak <= figures.connect_per_s_max
        ),
        "some client never saw a fresh value": math.isfinite(figures.fresh.max_s),
        "some client was never live again": math.isfinite(figures.live.max_s),
        "nothing was checked": figures.acknowledged > 0 and figures.samples > 0,
    }
    return [text for text, kept in checks.items() if not kept]


def _attempts_max(clients: int, urls: int, times: AdvisedTimes) -> float:
    """Return how many attempts to connect in one second are no herd: of clients that are spread, each URL and one."""
    return max(HERD_PER_S_MIN, clients * (urls + 1) / max(1.0, times.recover_spread_s))


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """Return the nearest-rank percentile of sorted values; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(per_cent / 100 * len(ordered)), 1) - 1]


def _text(seconds: float) -> str:
    if math.isnan(seconds):
        return "unknown"
    if math.isinf(seconds):
        return "never"
    return f"{seconds * 1000:.0f} ms" if abs(seconds) < 1 else f"{seconds:.2f} s"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
