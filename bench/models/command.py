"""The command ``python -m bench models``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bench.models.models import PARTS, models
from bench.models.page import PAGE, write
from bench.models.plots import plot


@dataclass(frozen=True, kw_only=True)
class ModelsPlan:
    """The parts to measure, and the place of their tables."""

    only: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A part, such as T1 or F-a; may be repeated. The default is all of them."""

    seed: int = 1
    """Decides all that is random; printed with each part."""

    quick: Annotated[bool, Parameter(negative=())] = False
    """Fewer and smaller runs: under a minute of CPU for all parts."""

    plots: Annotated[Path | None, Parameter(metavar="FOLDER")] = None
    """Draw the figures into this folder; needs matplotlib."""

    write: Annotated[bool, Parameter(negative=())] = False
    """Write the tables into softstate/docs/evidence.md, between the markers of each part."""


def show_models(plan: ModelsPlan) -> int:
    """Run the parts and print each; return 1 if one broke a bound, or differs from its model without a reason."""
    done = []
    for part in models(plan.only, plan.seed, quick=plan.quick):
        print(part, end="\n\n", flush=True)
        done.append(part)
        if plan.write:
            write([part], PAGE)
    wrong = [part.name for part in done if not part.ok]
    print(f"{len(done)} of {len(PARTS)} parts, {sum(part.took_cpu_s for part in done):.0f} s of CPU")
    if plan.plots is not None:
        print(plot(done, plan.plots))
    if wrong:
        print(f"a bound is broken, or a difference has no reason: {', '.join(wrong)}")
    return 1 if wrong else 0
