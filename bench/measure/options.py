"""The options that every speed bench has, and showing its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bench.measure.plots import plot
from bench.measure.report import Report
from bench.measure.rounds import ROUNDS, ROUNDS_QUICK


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How much to measure, and how to show it."""

    quick: Annotated[bool, Parameter(negative=())] = False
    """Fewer rounds and smaller sizes, for a first look."""

    json: Annotated[bool, Parameter(negative=())] = False
    """Print the report as JSON, with the figures of each round."""

    plots: Annotated[Path | None, Parameter(metavar="DIR")] = None
    """Draw plots into this folder; needs matplotlib."""

    @property
    def rounds(self) -> int:
        """How many rounds to run."""
        return ROUNDS_QUICK if self.quick else ROUNDS

    def show(self, report: Report) -> int:
        """Print a report and return the exit code: 0, also when a target was missed, since a machine may be busy."""
        if self.plots is not None:
            report.note(plot(report, self.plots))
        print(report.json() if self.json else report)
        return 0
