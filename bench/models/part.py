"""The result of one part of `bench models`: figures beside their models, tables, and what was not met.

A measured figure *agrees* with its model if they are within 5 % of it, and the interval of 95 % confidence of the
measurement is not wider than 10 % either way. What is allowed to be further away says so: ``within 15%`` is a tolerance
of the part, and ``within ±30%`` an interval that has the model in it, and little power to refute it. A figure that is
outside of both needs a reason, which is printed; without one the part is *unexplained*, and the command's exit code
is 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.measure.report import aligned
from bench.models.measured.estimates import Estimate

WITHIN = 0.05
"""Part of the model by which a measurement may be off."""

WIDE = 0.1
"""Half of an interval, as a part of the model, beyond which it says little that the model lies in it."""

ROUNDING = 1e-9

Cell: TypeAlias = str | float | int | None
"""A number is printed with four digits, None as a dash."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure beside its model. `reason` is why they differ, should they."""

    what: str
    measured: Estimate
    model: float
    within: float = WITHIN
    reason: str = ""

    @property
    def off(self) -> float:
        """By how much the measurement is off, as a part of the model."""
        if self.model == self.measured.value:
            return 0.0
        return (self.measured.value - self.model) / self.model if self.model else math.inf

    @property
    def agrees(self) -> bool:
        """Whether both are the same, as far as one can tell."""
        return self._apart(max(self.within * abs(self.model), self.measured.half))

    @property
    def verdict(self) -> str:
        """The words to print."""
        if not self.agrees:
            return "differs" if self.reason else "UNEXPLAINED"
        size, half = abs(self.model), self.measured.half
        if size and (half > WIDE * size or not self._apart(self.within * size)):
            return f"within ±{half / size:.0%}"
        return "agrees" if self._apart(WITHIN * size) else f"within {self.within:.0%}"

    def _apart(self, at_most: float) -> bool:
        return abs(self.measured.value - self.model) <= at_most * (1 + ROUNDING)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def cells(self) -> list[list[str]]:
        """Return head and rows as text."""
        return [list(self.head), *([text_of(cell) for cell in row] for row in self.rows)]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of `--plots`: curves of points by their names; `log`: both axes are logarithmic.

    Curves whose name has *model* in it are drawn as dashed lines, the others as points with a line.
    """

    title: str
    x: str
    y: str
    log: bool = False
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, curve: str, x: float, y: float) -> None:
        """Add a point to a curve."""
        self.curves.setdefault(curve, []).append((x, y))


@dataclass(slots=True)
class Part:
    """One table or figure: its name, as in ``T1``, what it shows, and its results."""

    name: str
    title: str
    about: str
    seed: int
    compared: list[Compared] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Promises and bounds that did not hold."""
    notes: list[str] = field(default_factory=list)
    machine_bound: bool = False
    """Whether figures are of this machine's speed, and differ from run to run."""
    took_cpu_s: float = 0.0
    command: str = ""
    """How to repeat it; "": by ``python -m bench models --only NAME``."""

    def table(self, title: str, head: Sequence[str]) -> list[list[Cell]]:
        """Add a table, and return its rows, to be filled."""
        rows: list[list[Cell]] = []
        self.grids.append(Grid(title, head, rows))
        return rows

    def figure(self, title: str, x: str, y: str, *, log: bool = False) -> Figure:
        """Add a figure, and return it, to be filled."""
        self.figures.append(Figure(title, x, y, log))
        return self.figures[-1]

    def compare(
        self, what: str, measured: Estimate | float, model: float, within: float = WITHIN, reason: str = ""
    ) -> None:
        """Add a figure beside its model."""
        estimate = measured if isinstance(measured, Estimate) else Estimate(measured)
        self.compared.append(Compared(what, estimate, model, within, reason))

    def bound(self, what: str, measured: float, limit: float, unit: str = "") -> None:
        """Note it as broken if a figure is above a bound that must always hold."""
        if measured > limit:
            self.broken.append(f"{what}: {measured:.4g} {unit}, above {limit:.4g}".replace("  ", " "))

    @property
    def ok(self) -> bool:
        """Whether all bounds held, and each difference from a model has its reason."""
        return not self.broken and all(compared.agrees or compared.reason for compared in self.compared)

    def comparison(self) -> list[list[str]]:
        """Return the table of all compared figures, as text."""
        head = ["", "measured", "model", "off", ""]
        return [
            head,
            *(
                [each.what, str(each.measured), f"{each.model:.4g}", _percent(each.off), each.verdict]
                for each in self.compared
            ),
        ]

    def reasons(self) -> list[str]:
        """Return the reasons of all differences, each once, with the figures that it is about."""
        about: dict[str, list[str]] = {}
        for each in self.compared:
            if not each.agrees and each.reason:
                about.setdefault(each.reason, []).append(each.what)
        return [f"{'; '.join(figures)}: {reason}" for reason, figures in about.items()]

    @property
    def origin(self) -> str:
        """Say of what the figures are a function."""
        return "this machine's speed, not repeatable" if self.machine_bound else f"seed {self.seed}"

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.title} ({self.origin}; {self.took_cpu_s:.1f} s of CPU)\n{self.about}"]
        if self.compared:
            parts.append(aligned(self.comparison()))
        parts += [f"differs: {reason}" for reason in self.reasons()]
        parts += [f"{grid.title}\n{aligned(grid.cells())}" for grid in self.grids]
        parts += [f"BROKEN: {what}" for what in self.broken]
        parts += [f"note: {note}" for note in self.notes]
        return "\n\n".join(parts)


def text_of(cell: Cell) -> str:
    """Return a cell as text."""
    match cell:
        case None:
            return "-"
        case str():
            return cell
        case int():
            return f"{cell:,}"
    if math.isinf(cell):
        return "never"
    return f"{cell:,.0f}" if abs(cell) >= 10_000 else f"{cell:.4g}"


def _percent(off: float) -> str:
    return f"{off:+.1%}" if math.isfinite(off) else "-"
