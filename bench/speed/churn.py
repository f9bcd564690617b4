"""``python -m bench churn``: subscribers arrive and leave at rising rates while topics change.

Arrivals are a Poisson process, lifetimes Pareto distributed (a few stay very long), and a quarter of all vanish without
closing the connection. So the number of leases is known: it is an M/G/infinity queue, whose mean at time t is the sum,
over all arrivals before t, of the probability that their lease has not ended. (In the steady state this is Little's
law.) A lease lasts as long as its subscriber; of one that vanished, until the rest of TTL and grace has passed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean, median

from bench.load.churn import VANISHING, lifetime_s
from bench.load.process import LoadProcess
from bench.measure.checkouts import THIS, Checkout
from bench.measure.cost import cpu_s, resident_bytes
from bench.measure.options import Measuring
from bench.measure.progress import Steps
from bench.measure.report import Column, Report
from bench.measure.rounds import Figures, Rounds, run_rounds
from bench.measure.servers import Server, softstate_server
from softstate.errors import ConfigError
from softstate.lease.table import GRACE
from softstate.lease.timer_wheel import TICK_S
from softstate.session.load_advice import RENEWALS_PER_TTL

RATES_PER_S = (25.0, 50.0, 100.0)
PHASE_S = {False: 60.0, True: 4.0}
HOLD_S = {False: 420.0, True: 8.0}
"""Time for which the last rate is held: memory must not grow in it."""
TTL_S = {False: 10, True: 2}
MEAN_S = {False: 10.0, True: 2.0}
"""Mean lifetime, before the longest are cut off."""
PUBLISHES_PER_S = 50.0
SAMPLE_S = 0.5
QUANTILES = 2_000
MODEL_OFF_MAX = 3.0
"""In standard deviations of the Poisson distribution that the number of leases has."""
GROWTH_MAX = 1.05

COLUMNS = (
    Column("sessions", "leases held", digits=0, better=""),
    Column("model", "model", digits=0, better=""),
    Column("off", "held / model", better=""),
    Column("connections", "connections", digits=0, better=""),
    Column("stale_p50_s", "staleness p50 ms", 1e3),
    Column("stale_p99_s", "staleness p99 ms", 1e3),
    Column("opening_p99_s", "arrival to subscribed p99 ms", 1e3),
    Column("cpu_arrival_s", "server CPU us/arrival", 1e6, 0),
    Column("server_busy", "server busy"),
    Column("resident", "MiB resident", 1 / 1024**2, 1),
    Column("generator_busy", "generator busy", better=""),
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A time with one rate of arrivals; times are seconds since the first arrival."""

    per_s: float
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the node at one time."""

    at_s: float
    sessions: int
    connections: int
    resident: int


def lease_times_s(mean_s: float, ttl_s: float) -> list[tuple[float, float]]:
    """Return durations of leases and their weights: of `QUANTILES` lifetimes, each ended by leaving or vanishing.

    The last renewal before vanishing is at a multiple of TTL / 3. The wheel expires a lease half a tick late.
    """
    renew_s = ttl_s / RENEWALS_PER_TTL
    times = []
    for number in range(QUANTILES):
        lasts_s = lifetime_s((number + 0.5) / QUANTILES, mean_s)
        times.append((lasts_s, (1 - VANISHING) / QUANTILES))
        rest_s = ttl_s * (1 + GRACE) - lasts_s % renew_s + TICK_S / 2
        times.append((lasts_s + rest_s, VANISHING / QUANTILES))
    return times


def expected(phases: Sequence[Phase], times: Sequence[tuple[float, float]], at_s: float) -> float:
    """Return the mean number of leases at a time."""
    held = 0.0
    for phase in phases:
        for lasts_s, weight in times:
            overlap_s = min(phase.ends_s, at_s) - max(phase.begins_s, at_s - lasts_s)
            held += phase.per_s * weight * max(overlap_s, 0.0)
    return held


def churn(measuring: Measuring) -> Report:
    """Let subscribers arrive and leave at rising rates."""
    quick = measuring.quick
    phase_s, hold_s = PHASE_S[quick], HOLD_S[quick]
    phases, begins_s = [], 0.0
    for number, per_s in enumerate(RATES_PER_S):
        ends_s = begins_s + phase_s + (hold_s if number == len(RATES_PER_S) - 1 else 0.0)
        phases.append(Phase(per_s, begins_s, ends_s))
        begins_s = ends_s
    about = f"arrivals at up to {RATES_PER_S[-1]:g}/s, a quarter of whom vanish; {begins_s:g} s"
    report = measuring.report("churn", about)
    if report.compares:
        compare(report, phases, TTL_S[quick], MEAN_S[quick], measuring.rounds)
    elif measuring.rounds_wanted is not None:
        raise ConfigError("churn is one long run without rounds: leave out --rounds, or give --against as well")
    else:
        coming_and_going(report, phases, TTL_S[quick], MEAN_S[quick])
        report.note("one run without rounds: each rate begins with the sessions that the one before has left")
    report.note(f"TTL {TTL_S[quick]} s, mean lifetime {MEAN_S[quick]:g} s, {PUBLISHES_PER_S:g} publishes/s, durable")
    report.note("staleness: from when a publish was due until a subscriber has it")
    return report


def coming_and_going(report: Report, phases: Sequence[Phase], ttl_s: int, mean_s: float) -> Rounds:
    """Go through the phases with one server, and add the figures to the report."""
    figures, samples = go_through(phases, ttl_s, mean_s)
    result = Rounds({rate: [run] for rate, run in figures.items()})
    first = next(iter(result.runs))
    report.table("churn", result, COLUMNS, baseline=first, compares="cpu_arrival_s")
    off = max(abs(runs[0]["off_sd"]) for runs in result.runs.values())
    report.figure_at_most("leases held, furthest from the model", off, MODEL_OFF_MAX, "standard deviations")
    report.figure_at_most("memory at the last rate, last third over the third before", growth(samples), GROWTH_MAX, "x")
    return result


def compare(report: Report, phases: Sequence[Phase], ttl_s: int, mean_s: float, rounds: int) -> Rounds:
    """Go through all phases with a new server of each checkout in each round; compare the last rate."""

    def last(checkout: Checkout) -> Figures:
        figures, _ = go_through(phases, ttl_s, mean_s, checkout)
        return list(figures.values())[-1]

    named = report.checkouts.named("softstate")
    result = run_rounds({name: partial(last, checkout) for name, checkout in named.items()}, rounds, "churn")
    report.table(f"{phases[-1].per_s:g} arrivals/s, the last rate", result, COLUMNS, baseline="", compares="")
    return result


def go_through(
    phases: Sequence[Phase], ttl_s: int, mean_s: float, checkout: Checkout = THIS
) -> tuple[dict[str, Figures], list[Sample]]:
    """Go through the phases with one server; return the figures of each rate, and the samples of the last."""
    times = lease_times_s(mean_s, ttl_s)
    found: dict[str, Figures] = {}
    samples: list[Sample] = []
    with (
        softstate_server("--ttl", f"{ttl_s}s", checkout=checkout) as server,
        LoadProcess("bench.load.churn") as load,
        Steps("churn", len(phases)) as steps,
    ):
        load.ask("open", port=server.port, ttl_s=ttl_s, mean_s=mean_s, publishes_per_s=PUBLISHES_PER_S, seed=1)
        began = time.monotonic()
        for phase in phases:
            steps.show(f"{phase.per_s:g}/s")
            before = cpu_s(server.pid)
            load.tell("phase", per_s=phase.per_s, seconds=phase.ends_s - phase.begins_s)
            samples = sampled(server, began, phase)
            answer = load.answer()
            spent_s = cpu_s(server.pid) - before
            model = [expected(phases, times, sample.at_s) for sample in samples]
            held = [sample.sessions for sample in samples]
            found[f"{phase.per_s:g} arrivals/s"] = {
                **answer,
                "sessions": mean(held),
                "model": mean(model),
                "off": mean(held) / mean(model),
                "off_sd": (mean(held) - mean(model)) / math.sqrt(mean(model)),
                "connections": mean(sample.connections for sample in samples),
                "cpu_arrival_s": spent_s / max(answer["arrivals"], 1),
                "server_busy": spent_s / (phase.ends_s - phase.begins_s),
                "resident": samples[-1].resident,
            }
    return found, samples


def sampled(server: Server, began: float, phase: Phase) -> list[Sample]:
    """Take samples of the node every `SAMPLE_S` until shortly before the phase ends, at least one."""
    samples = []
    while True:
        time.sleep(SAMPLE_S)
        status = json.loads(server.get("/v1/status"))
        at_s = time.monotonic() - began
        samples.append(Sample(at_s, status["sessions"], status["connections"], resident_bytes(server.pid)))
        if at_s + 2 * SAMPLE_S > phase.ends_s:
            return samples


def growth(samples: Sequence[Sample]) -> float:
    """Return the median resident memory in the last third of the samples over that in the third before."""
    third = max(len(samples) // 3, 1)
    before = [sample.resident for sample in samples[-2 * third : -third]] or [samples[0].resident]
    return median(sample.resident for sample in samples[-third:]) / median(before)
