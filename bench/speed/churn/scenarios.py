"""The scenarios of churn, each on a server of its own: steady, a flash crowd, a mass departure, mobile clients.

Each begins in the steady state: all clients arrive at an even rate, and get what is left of the lives of a population
in the steady state (`bench.load.lifetimes.residual_s`). Then clients arrive as a Poisson process. The
measurement begins once the leases of the first that vanished have ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from bench.load.lifetimes import VANISHING, mean_lifetime_s
from bench.measure.checkouts import THIS, Checkout
from bench.measure.cost import CPU_S_MIN
from bench.measure.rounds import Figures
from bench.models.theory.churn import mean_leases, mean_orphan_s, resumed_share
from bench.speed.churn.place import Needs, Phase, Place, Sample, fitting, place
from softstate.lease.table import GRACE
from softstate.lease.timer_wheel import TICK_S
from softstate.server.websocket.silence import IDLE_LEASES

GONE = 1.02
"""Leases over their model from which on those that left count as gone."""
CERTAIN = 1e-6
"""Least variance of what a model says of one client, so that what is certain by it can be compared."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long, how fast and how many, without and with ``--quick``. Times in seconds."""

    ttl_s: float = 60.0
    mean_s: float = 240.0
    hold_s: float = 120.0
    fill_per_s: float = 400.0
    publishes_per_s: float = 4.0
    cost_sessions: int = 1_000
    cost_s: float = 30.0
    cost_per_s: float = 100.0
    cost_publishes_per_s: float = 10.0
    calm_s: float = 20.0
    crowded: int = 2_000
    crowd: int = 8_000
    crowd_s: float = 40.0
    departing: int = 5_000
    departure: float = 0.8
    departure_s: float = 6.0
    mobile: int = 5_000
    mobile_s: float = 240.0
    away_s: tuple[float, float] = (5.0, 120.0)
    rest_s: float = 2.0
    """Time after the last publish until all must have the newest values."""
    brief_s: float = 0.25
    """Interval of samples while something happens within seconds."""

    @property
    def orphan_s(self) -> float:
        """For how long a lease outlives a client that vanished, by the model."""
        return mean_orphan_s(self.ttl_s, self.mean_s)

    @property
    def settle_s(self) -> float:
        """Time in which the leases of the first that vanish have ended."""
        return self.ttl_s * (1 + GRACE) + 2 * TICK_S

    def arrivals_per_s(self, sessions: float) -> float:
        """Return the rate of arrivals that keeps so many present."""
        return sessions / mean_lifetime_s(self.mean_s)

    def needs(self, sessions: int, crowd: int = 0) -> Needs:
        """Return what a scenario needs: a node keeps the connections of clients that vanished for a while.

        Raises `ConfigError` if this machine does not have it.
        """
        kept_s = IDLE_LEASES * self.ttl_s * (1 + GRACE)
        return fitting(math.ceil(sessions + crowd + self.arrivals_per_s(sessions) * VANISHING * kept_s))


TERMS = {
    False: Terms(),
    True: Terms(
        ttl_s=3.0, mean_s=12.0, hold_s=8.0, cost_sessions=200, cost_s=3.0, calm_s=3.0, crowded=200, crowd=400,
        crowd_s=4.0, departing=400, departure_s=3.0, mobile=400, mobile_s=10.0, away_s=(0.25, 6.0),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of a server for each of these, and of an idle worker for a second."""

    arrival_s: float
    """Connect, subscribe, and leave."""
    renewal_s: float
    publish_s: float
    delivery_s: float
    idle_s: float

    def of(self, phase: Phase, workers: int) -> float:
        """Return the CPU seconds of a phase, by this model."""
        return (
            phase.counts["arrivals"] * self.arrival_s
            + phase.counts["renewals"] * self.renewal_s
            + phase.counts["publishes"] * self.publish_s
            + len(phase.stale) * self.delivery_s
            + phase.seconds * workers * self.idle_s
        )


def costs(terms: Terms) -> Costs:
    """Measure each cost at the smallest size, one activity at a time: nobody leaves meanwhile."""
    sessions, seconds = terms.cost_sessions, terms.cost_s
    with place(terms.needs(sessions), terms.ttl_s) as here:
        here.open(terms.mean_s)
        idle = here.phase(seconds / 3)
        filled = here.fill(sessions, terms.cost_per_s)
        renewing = here.phase(seconds)
        publishing = here.phase(seconds, publishes_per_s=terms.cost_publishes_per_s, followed=False)
        delivering = here.phase(seconds, publishes_per_s=terms.cost_publishes_per_s)
        left = here.phase(terms.departure_s, departure=1.0)
    idle_s = idle.cpu_s / idle.seconds

    def above(phase: Phase, per: float, *others: tuple[str, float]) -> float:
        """Return what is left of a phase's CPU for each of `per`, without being idle and without `others`."""
        rest_s = phase.cpu_s - phase.seconds * idle_s - sum(phase.counts[name] * each for name, each in others)
        return max(rest_s, CPU_S_MIN) / max(per, 1)

    renewal_s = above(renewing, renewing.counts["renewals"])
    renewals = "renewals", renewal_s
    publish_s = above(publishing, publishing.counts["publishes"], renewals)
    delivery_s = above(delivering, len(delivering.stale), renewals, ("publishes", publish_s))
    arrival_s = above(filled, sessions, renewals) + above(left, left.counts["left"], renewals)
    return Costs(arrival_s, renewal_s, publish_s, delivery_s, idle_s)


@contextmanager
def peopled(
    terms: Terms, sessions: int, needs: Needs, away_s: Sequence[float] = (), checkout: Checkout = THIS
) -> Iterator[tuple[Place, Phase]]:
    """Have so many clients in the steady state; yield the place, and the phase in which they arrived."""
    with place(needs, terms.ttl_s, checkout) as here:
        here.open(terms.mean_s, away_s)
        filled = here.fill(sessions, terms.fill_per_s)
        here.live()
        here.phase(terms.settle_s, terms.arrivals_per_s(sessions), terms.publishes_per_s)
        yield here, filled


def steady(terms: Terms, sessions: int, prices: Costs | None = None, checkout: Checkout = THIS) -> dict[str, float]:
    """Hold the steady state of so many clients, beside the models of leases, memory and, with `prices`, CPU."""
    needs = terms.needs(sessions)
    with peopled(terms, sessions, needs, checkout=checkout) as (here, _):
        held = here.phase(terms.hold_s, terms.arrivals_per_s(sessions), terms.publishes_per_s)
        behind = here.rest(terms.rest_s)
        leases, model = held.mean("sessions"), mean_leases(sessions, terms.mean_s, terms.orphan_s)
        resident = held.mean("resident")
        model_bytes = here.model_bytes(leases, held.mean("connections"))
        empty_bytes = here.empty_bytes
    figures = {
        **common(held),
        "workers": needs.workers,
        "parts": needs.parts,
        "arrivals_per_s": held.per_s("arrivals"),
        "renewals_per_s": held.per_s("renewals"),
        "deliveries_per_s": len(held.stale) / held.seconds,
        "leases": leases,
        "leases_model": model,
        "leases_off": leases / model,
        "off_sd": (leases - model) / math.sqrt(model),
        "connections": held.mean("connections"),
        "cores": held.cpu_s / held.seconds,
        "resident": resident,
        "resident_model": model_bytes,
        "resident_off": (resident - empty_bytes) / (model_bytes - empty_bytes),
        "session_bytes": (resident - empty_bytes) / leases,
        "growth": growth(held.samples),
        "behind": behind,
    }
    if prices is not None:
        cpu_model_s = prices.of(held, needs.workers)
        figures |= {"cores_model": cpu_model_s / held.seconds, "cores_off": held.cpu_s / cpu_model_s}
    return figures


def flash_crowd(terms: Terms) -> Figures:
    """Let several times as many as are present arrive within a second."""
    sessions, crowd = terms.crowded, terms.crowd
    with peopled(terms, sessions, terms.needs(sessions, crowd)) as (here, filled):
        per_s = terms.arrivals_per_s(sessions)
        calm = here.phase(terms.calm_s, per_s, terms.publishes_per_s)
        crowded = here.phase(terms.crowd_s, per_s, terms.publishes_per_s, crowd, sample_s=terms.brief_s)
        behind = here.rest(terms.rest_s)
    before = calm.mean("sessions")
    last = crowded.samples[-max(len(crowded.samples) // 4, 1) :]
    after = sum(sample.sessions for sample in last) / len(last)
    law_s = crowd * filled.cpu_s / sessions
    taken_s = crowded.opening.quantile(0.99)
    return {
        **common(crowded),
        "leases_before": before,
        "leases": after,
        "leases_model": before + crowd,
        "leases_off": after / (before + crowd),
        "law_s": law_s,
        "over_law": taken_s / law_s,
        "calm_p99_s": calm.stale.quantile(0.99),
        "cores": crowded.cpu_s / crowded.seconds,
        "resident_before": calm.samples[-1].resident,
        "resident": crowded.samples[-1].resident,
        "behind": behind,
    }


def mass_departure(terms: Terms) -> Figures:
    """Let most of all clients leave within a second, in order."""
    sessions = terms.departing
    with peopled(terms, sessions, terms.needs(sessions)) as (here, _):
        calm = here.phase(terms.calm_s, terms.arrivals_per_s(sessions), terms.publishes_per_s)
        gone = here.phase(
            terms.departure_s, 0.0, terms.publishes_per_s, departure=terms.departure, sample_s=terms.brief_s
        )
        behind = here.rest(terms.rest_s)
    before, last = calm.samples[-1].sessions, gone.samples[-1]
    # The leases of those that vanished before go on to end, and few follow them.
    expired = terms.arrivals_per_s(sessions) * VANISHING * terms.departure * last.at_s
    model = before - gone.counts["left"] - expired
    times = [sample.at_s for sample in gone.samples if sample.sessions <= model * GONE]
    return {
        **common(gone),
        **({"gone_s": times[0]} if times else {}),
        "leases_before": before,
        "left": gone.counts["left"],
        "leases": last.sessions,
        "leases_model": model,
        "leases_off": last.sessions / model,
        "leave_s": gone.cpu_s / gone.counts["left"],
        "calm_p99_s": calm.stale.quantile(0.99),
        "resident_before": calm.samples[-1].resident,
        "resident": last.resident,
        "behind": behind,
    }


def mobile(terms: Terms) -> Figures:
    """Let all that vanish return after a while, and ask for their session."""
    sessions = terms.mobile
    # Those that return stay once more, and of them, too, some vanish and return.
    needs = terms.needs(math.ceil(sessions / (1 - VANISHING)))
    with peopled(terms, sessions, needs, terms.away_s) as (here, _):
        held = here.phase(terms.mobile_s, terms.arrivals_per_s(sessions), terms.publishes_per_s)
        behind = here.rest(terms.rest_s)
    returned = max(held.counts["returned"], 1)
    share, model = held.counts["resumed"] / returned, resumed_share(terms.orphan_s, terms.away_s)
    deviation = math.sqrt(max(model * (1 - model), CERTAIN) / returned)
    return {
        **common(held),
        "returned": held.counts["returned"],
        "resumed": held.counts["resumed"],
        "share": share,
        "share_model": model,
        "share_off": share / model,
        "off_sd": (share - model) / deviation,
        "leases": held.mean("sessions"),
        "connections": held.mean("connections"),
        "cores": held.cpu_s / held.seconds,
        "resident": held.mean("resident"),
        "behind": behind,
    }


def common(phase: Phase) -> dict[str, float]:
    """Return the delays of a phase, and what went wrong in it."""
    return {
        "stale_p50_s": phase.stale.quantile(0.5),
        "stale_p99_s": phase.stale.quantile(0.99),
        "opening_p50_s": phase.opening.quantile(0.5),
        "opening_p99_s": phase.opening.quantile(0.99),
        "opening_most_s": phase.opening.quantile(1.0),
        "refused": phase.counts["refused"],
        "timed_out": phase.counts["timed out"],
        "lost": phase.counts["lost"] + phase.counts["revoked"],
        "mismatches": phase.counts["mismatches"],
        "publish_errors": phase.counts["publish errors"],
        "generator_busy": phase.generator_busy,
    }


def growth(samples: Sequence[Sample]) -> float:
    """Return the median resident memory in the last third of the samples over that in the third before."""
    third = max(len(samples) // 3, 1)
    before = [sample.resident for sample in samples[-2 * third : -third]] or [samples[0].resident]
    return median(sample.resident for sample in samples[-third:]) / median(before)
