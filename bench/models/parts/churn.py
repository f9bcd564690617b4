"""F-i: the lease table while clients come, go, vanish and return, from 1,000 to 50,000 of them."""

from __future__ import annotations

import math
from dataclasses import replace

from bench.load.lifetimes import VANISHING
from bench.models.measured.churn import Churned, Course, run
from bench.models.measured.estimates import NORMAL_95, Estimate, mean_of
from bench.models.part import Part
from bench.models.theory.churn import mean_leases, mean_orphan_s, resumed_share

SIZES = {False: (1_000, 10_000, 50_000), True: (1_000,)}
STEADY = Course(1_000, lasts_s=900.0)
ORPHAN_S = mean_orphan_s(STEADY.ttl_s, STEADY.mean_s)
SETTLED_S = 700.0
"""Time by which the longest lifetimes and the last leases of the first clients have ended."""

FLASH = replace(STEADY, sessions=2_000, crowd=8_000, crowd_at_s=720.0, lasts_s=760.0)
LEFT = replace(STEADY, sessions=5_000, departure=0.8, departure_at_s=720.0, lasts_s=730.0, sample_s=0.5)
MOBILE = replace(STEADY, sessions=5_000, mobile=1.0)


def f_i(seed: int, *, quick: bool) -> Part:
    """Compare the number of leases with the M/G/infinity queue, through crowds, departures and returns."""
    part = Part(
        "F-i",
        "leases under churn: heavy-tailed lifetimes, flash crowds, mass departures, clients that vanish and return",
        "The product's lease table alone, in virtual time: Poisson arrivals, Pareto lifetimes with a mean of 60 s"
        f" (cut off at ten means), {VANISHING:.0%} vanish; TTL 60 s, renewals every 20 s ± 20 %. Model: an"
        " M/G/infinity queue, in which the lease of a client that vanished lasts for the rest of TTL and grace.",
        seed,
    )
    head = ["clients, model", "present", "leases", "model", "orphan s", "model", "renewals/s", "operations"]
    rows = part.table("steady", head)
    many = part.figure("leases over clients", "clients", "leases", log=True)
    for sessions in SIZES[quick]:
        found = run(replace(STEADY, sessions=sessions), seed)
        held, present, orphan = _steady(found)
        model = leases(sessions)
        part.compare(f"leases, {sessions:,} clients", held, model)
        many.add("leases", sessions, held.value)
        many.add("leases, model", sessions, model)
        part.compare(f"orphan s, {sessions:,} clients", orphan, ORPHAN_S)
        rows.append([
            sessions, present.value, held.value, model, orphan.value, ORPHAN_S,
            found.renewals / STEADY.lasts_s, found.operations,
        ])  # fmt: skip
    _crowd(part, seed, quick=quick)
    _departure(part, seed, quick=quick)
    _mobile(part, seed, quick=quick)
    part.notes.append(
        "CPU, memory, staleness and real sockets under churn are those of `bench churn`, the CPU of an operation"
        " that of F-e"
    )
    return part


def leases(sessions: float) -> float:
    """Return the mean number of leases of so many present clients."""
    return mean_leases(sessions, STEADY.mean_s, ORPHAN_S)


def _steady(found: Churned) -> tuple[Estimate, Estimate, Estimate]:
    """Return leases, present clients and orphan times of the steady part of a run.

    The number in an M/G/infinity queue is Poisson distributed; samples within one lifetime say little new.
    """
    settled = [sample for sample in found.samples if sample[0] >= SETTLED_S]
    held = sum(sample[1] for sample in settled) / len(settled)
    present = sum(sample[2] for sample in settled) / len(settled)
    orphan = mean_of(found.orphan_s)
    return Estimate(held, NORMAL_95 * math.sqrt(held)), Estimate(present, NORMAL_95 * math.sqrt(present)), orphan


def _at(found: Churned, at_s: float) -> tuple[int, int]:
    """Return leases and present clients at a time."""
    return next((held, present) for time_s, held, present in found.samples if time_s >= at_s)


def _smaller(course: Course, *, quick: bool) -> Course:
    return replace(course, sessions=course.sessions // 5, crowd=course.crowd // 5) if quick else course


def _crowd(part: Part, seed: int, *, quick: bool) -> None:
    course = _smaller(FLASH, quick=quick)
    found = run(course, seed)
    before, after = _at(found, 710.0)[0], _at(found, 730.0)[0]
    # The shortest lifetime is a third of the mean: nobody of the crowd has left ten seconds later.
    noise = NORMAL_95 * math.sqrt(2 * leases(course.sessions))
    part.compare("leases that a flash crowd adds, 10 s later", Estimate(after - before, noise), float(course.crowd))
    rows = part.table("flash crowd", ["clients", "crowd within 1 s", "leases before", "10 s after", "most"])
    rows.append([course.sessions, course.crowd, before, after, found.most])


def _departure(part: Part, seed: int, *, quick: bool) -> None:
    course = _smaller(LEFT, quick=quick)
    found = run(course, seed)
    held, present = _at(found, 720.0 - course.sample_s)
    left_held, left_present = _at(found, 720.0 + course.sample_s / 4)
    model = held - course.departure * present
    noise = NORMAL_95 * math.sqrt(present * course.departure * (1 - course.departure))
    part.compare("leases after a mass departure", Estimate(float(left_held), noise), model)
    head = ["part that leaves", "present before", "leases before", "present after", "leases after", "model"]
    rows = part.table("mass departure, in order", head)
    rows.append([course.departure, present, held, left_present, left_held, model])


def _mobile(part: Part, seed: int, *, quick: bool) -> None:
    course = _smaller(MOBILE, quick=quick)
    found = run(course, seed)
    share = found.resumed / found.returned
    half = NORMAL_95 * math.sqrt(share * (1 - share) / found.returned)
    least_s, most_s = course.away_s
    model = resumed_share(ORPHAN_S, course.away_s)
    part.compare("returns that find their lease", Estimate(share, half), model)
    title = f"clients that vanish and return after {least_s:g} to {most_s:g} s"
    part.table(title, ["returned", "resumed", "part", "model"]).append([found.returned, found.resumed, share, model])
