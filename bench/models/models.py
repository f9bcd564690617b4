"""``python -m bench models``: the models of the literature and of this project beside what is measured.

Each part is a function of a seed. Unless a part says that it measures this machine's speed, the same seed prints the
same figures everywhere, so that anyone can repeat them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from bench.models.part import Part
from bench.models.parts import churn, copies, costs, crashes, faults, herds, signalling
from softstate.errors import ConfigError


class Measure(Protocol):
    """One part."""

    def __call__(self, seed: int, *, quick: bool) -> Part:
        """Measure it; `quick`: with fewer and smaller runs."""
        ...


PARTS: dict[str, Measure] = {
    "T1": signalling.t1,
    "T2": faults.t2,
    "T3": faults.t3,
    "T4": crashes.t4,
    "T4p": crashes.t4_processes,
    "F-a": herds.f_a,
    "F-b": herds.f_b,
    "F-c": copies.f_c,
    "F-d": copies.f_d,
    "F-e": costs.f_e,
    "F-f": faults.f_f,
    "F-g": signalling.f_g,
    "F-h": copies.f_h,
    "F-i": churn.f_i,
}
"""All parts, in the order in which they are printed."""


def chosen(only: Sequence[str]) -> list[str]:
    """Return the names of the parts to run: those named, in any case of letters, or all. Raises `ConfigError`."""
    known = {name.lower(): name for name in PARTS}
    unknown = [name for name in only if name.lower() not in known]
    if unknown:
        raise ConfigError(f"there is no part {', '.join(unknown)}: --only takes {', '.join(PARTS)}")
    return [name for name in PARTS if not only or name.lower() in {each.lower() for each in only}]


def models(
    only: Sequence[str], seed: int, *, quick: bool, clock: Callable[[], float] = time.process_time
) -> Iterator[Part]:
    """Run parts one after the other."""
    for name in chosen(only):
        began = clock()
        part = PARTS[name](seed, quick=quick)
        part.took_cpu_s = clock() - began
        if quick:
            part.command = f"python -m bench models --quick --only {name}"
        yield part
