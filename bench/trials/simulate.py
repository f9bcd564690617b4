"""Run many simulated worlds under random faults, each checked by an oracle, and add up their results.

Each world is drawn from its seed. A failure is reported with its seed and the few faults that it needs, which are found
by leaving out one fault after the other under the same seed. Worlds are spread over processes; each is deterministic.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

from bench.measure.quiet import quiet_clients
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.schedule import Outcome, ScheduledFault, draw_schedule, minimise, run_schedule

PROCESSES = 2
SEEDS_PER_TASK = 4
FAILURES_MINIMISED_MAX = 3
"""Failures whose faults are minimised; each takes as many runs as it had faults."""


@dataclass(frozen=True)
class Failure:
    """A world in which a promise broke; `needed` is None if its faults were not minimised."""

    outcome: Outcome
    needed: list[ScheduledFault] | None

    def __str__(self) -> str:
        lines = [f"seed {self.outcome.seed}: {self.outcome.error}", "  faults:"]
        lines += [f"    {fault}" for fault in self.outcome.schedule]
        if self.needed is not None:
            lines += ["  faults that it needs:", *(f"    {fault}" for fault in self.needed)]
        return "\n".join(lines)


@dataclass
class Report:
    """The results of all worlds. `margin_s` is the least age minus staleness while a client was stale."""

    first: int
    permissions: bool = False
    worlds: int = 0
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    margin_s: float = math.inf
    converged_s: float = 0.0
    converged_seed: int = 0
    took_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all promises held in all worlds."""
        return not self.failures

    def add(self, outcome: Outcome) -> None:
        """Count one world."""
        self.worlds += 1
        self.steps += outcome.steps
        self.faults.update(outcome.injected)
        self.repairs.update(outcome.repairs)
        self.margin_s = min(self.margin_s, outcome.margin_s)
        if outcome.converged_s > self.converged_s:
            self.converged_s, self.converged_seed = outcome.converged_s, outcome.seed

    def figures(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {
            "worlds": self.worlds, "first": self.first, "steps": self.steps, "took_s": round(self.took_s, 1),
            "faults": dict(sorted(self.faults.items())), "repairs": dict(sorted(self.repairs.items())),
            "margin_s": self.margin_s if math.isfinite(self.margin_s) else None,
            "converged_s": self.converged_s, "converged_seed": self.converged_seed,
            "converge_bound_s": Bounds().converge_s, "failures": [str(failure) for failure in self.failures],
        }  # fmt: skip

    def json(self) -> str:
        """Return `figures` as JSON."""
        return json.dumps(self.figures(), indent=2)

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        lines = [
            f"worlds          {self.worlds}, seeds {self.first} to {self.first + self.worlds - 1}, {self.took_s:.0f} s",
            f"steps checked   {self.steps}",
            f"faults          {listed(self.faults)}",
            f"client counts   {listed(self.repairs)}",
            f"worst margin    {self.margin_s:.6f} s of age above staleness (S5: not below 0)",
            f"worst converge  {self.converged_s:.3f} s of {Bounds().converge_s:g} s (seed {self.converged_seed})",
            f"broken          {len(self.failures)}",
        ]
        return "\n".join([*lines, *map(str, self.failures)])


def run_seed(seed: int, *, permissions: bool = False) -> Outcome:
    """Run the world of one seed. What its clients log of resets and failures is not shown: faults are meant."""
    with quiet_clients():
        return run_schedule(seed, draw_schedule(seed, permissions=permissions), permissions=permissions)


def simulate(seeds: int, first: int = 0, processes: int = PROCESSES, *, permissions: bool = False) -> Report:
    """Run the worlds of `seeds` seeds from `first` on; minimise the faults of the first failures.

    `permissions`: worlds whose nodes check credentials, with faults of these, too.
    """
    began = time.monotonic()
    report = Report(first, permissions)
    failed = [outcome for outcome in _outcomes(range(first, first + seeds), processes, report) if outcome.error]
    for number, outcome in enumerate(failed):
        needed = minimise(outcome, permissions=permissions) if number < FAILURES_MINIMISED_MAX else None
        report.failures.append(Failure(outcome, needed))
    report.took_s = time.monotonic() - began
    return report


def _outcomes(seeds: range, processes: int, report: Report) -> Iterable[Outcome]:
    run = partial(run_seed, permissions=report.permissions)
    if processes == 1:
        outcomes: list[Outcome] = [run(seed) for seed in seeds]
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            outcomes = list(pool.map(run, seeds, chunksize=SEEDS_PER_TASK))
    for outcome in outcomes:
        report.add(outcome)
    return outcomes
