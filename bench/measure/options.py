"""The options of all speed benches, and the output of their reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from bench.measure.checkouts import Checkouts, checkout_at
from bench.measure.plots import plot
from bench.measure.report import Report
from bench.measure.rounds import ROUNDS, ROUNDS_AGAINST, ROUNDS_QUICK
from softstate.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Amount of measuring, and form of the report."""

    quick: Annotated[bool, Parameter(negative=())] = False
    """Fewer rounds and smaller sizes, for a first look."""

    rounds_wanted: Annotated[int | None, Parameter(name="--rounds", validator=Number(gte=1))] = None
    """Rounds to run: 5 if not given, 3 with --quick, 7 with --against."""

    against: Annotated[Path | None, Parameter(metavar="PATH")] = None
    """Another checkout of softstate, with its own PATH/.venv, to compare this one with instead of other servers."""

    json: Annotated[bool, Parameter(negative=())] = False
    """Print the report as JSON, with the figures of each round."""

    plots: Annotated[Path | None, Parameter(metavar="DIR")] = None
    """Draw plots into this folder; needs matplotlib."""

    @property
    def rounds(self) -> int:
        """The number of rounds to run."""
        if self.rounds_wanted is not None:
            return self.rounds_wanted
        if self.against is not None:
            return ROUNDS_AGAINST
        return ROUNDS_QUICK if self.quick else ROUNDS

    def report(self, bench: str, about: str) -> Report:
        """Return the empty report of a bench. Raises `ConfigError` if `against` is not a checkout that can be run."""
        if self.against is None:
            return Report(bench, about)
        if self.plots is not None:
            raise ConfigError("--plots does not go with --against: leave one of them out; --json has every figure")
        report = Report(bench, about, checkouts=Checkouts(against=checkout_at(self.against)))
        differences = report.checkouts.differences()
        if differences:
            report.note(f"the environments differ, this / against: {', '.join(differences)}")
        return report

    def refuse_against(self, bench: str, reason: str) -> None:
        """Raise `ConfigError` if `against` is given to a bench that cannot compare checkouts."""
        if self.against is not None:
            raise ConfigError(f"{bench} does not take --against: {reason}")

    def show(self, report: Report) -> int:
        """Print a report and return the exit code: 0, also when a target was missed, since a machine may be busy."""
        if self.plots is not None:
            report.note(plot(report, self.plots))
        print(report.json() if self.json else report)
        return 0
