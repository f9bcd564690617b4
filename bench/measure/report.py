"""The result of a bench: tables, targets and notes, printed as text or JSON.

Each row gives the ratio to a baseline first, since a ratio carries over to another machine; then the absolute figures
of this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from bench.measure import machine
from bench.measure.checkouts import Checkouts, pairs_of
from bench.measure.rounds import Figures, Rounds, Spread

Better: TypeAlias = Literal["less", "more", ""]
"""Whether a smaller or a greater figure is better; "" for figures that only explain others."""

GENERATOR_BUSY_MAX = 0.9
"""Share of one core from which a load generator counts as the limit of the rates."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a table: its name in `Figures`, and how to print it."""

    figure: str
    title: str
    scale: float = 1.0
    """Factor for printing: 1e6 shows seconds as microseconds."""
    digits: int = 2
    better: Better = "less"


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate: ratio to the table's baseline (None for a candidate that has none), and medians."""

    name: str
    ratio: Spread | None
    medians: Figures
    rounds: Sequence[Figures] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One comparison. `compares` is the figure whose ratio to `baseline` comes first."""

    title: str
    baseline: str
    compares: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    def __str__(self) -> str:
        better = next((column.better for column in self.columns if column.figure == self.compares), "")
        ratio = f"ratio to {self.baseline}" + (f" ({better} is better)" if better else "")
        head = ["", ratio if self.baseline else "", *(column.title for column in self.columns)]
        lines = [head]
        for row in self.rows:
            cells = [_number(row.medians.get(column.figure), column) for column in self.columns]
            lines.append([row.name, str(row.ratio) if row.ratio else "-", *cells])
        if not self.baseline:
            lines = [[line[0], *line[2:]] for line in lines]
        return f"{self.title}\n{aligned(lines)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both checkouts: medians, and the ratio this / against; None if that checkout has a round of 0."""

    measured: str
    column: Column
    this: float
    against: float
    ratio: Spread | None
    rounds: Sequence[tuple[float, float]]
    """This and against in each round."""

    def cells(self) -> list[str]:
        """Return the cells to print, in the order of `COMPARISON_HEAD`."""
        this, against = _number(self.this, self.column), _number(self.against, self.column)
        ratio = self.ratio.text(3) if self.ratio else "-"
        return [self.measured, self.column.title, self.column.better, this, against, ratio]


COMPARISON_HEAD = ("", "", "better is", "this", "against", "ratio this / against")


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach. `ok` is None where it could not be judged."""

    name: str
    wanted: str
    got: str
    ok: bool | None

    @property
    def verdict(self) -> str:
        """The word to print."""
        return "not judged" if self.ok is None else "reached" if self.ok else "MISSED"


@dataclass
class Report:
    """The result of one bench."""

    bench: str
    about: str
    tables: list[Table] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    courses: list[Table] = field(default_factory=list)
    """One run of each candidate over time, a row for each step; also if checkouts are compared."""
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=machine.describe)
    checkouts: Checkouts = field(default=Checkouts(), repr=False)

    @property
    def compares(self) -> bool:
        """Whether this checkout is compared with another, and with no other server."""
        return self.checkouts.against is not None

    def note_busy(self, label: str, rounds: Rounds, figure: str = "generator_busy") -> None:
        """Note each candidate whose load generator used so much of a core that it limited the rates.

        `figure` is the generator's share of one core.
        """
        for name, runs in rounds.runs.items():
            busy = rounds.median(name, figure) if figure in runs[0] else 0.0
            if busy > GENERATOR_BUSY_MAX:
                self.note(f"the generator was the limit: {label}, {name}: it used {busy:.0%} of one core")

    def note(self, text: str) -> None:
        """Add a note unless it is there already."""
        if text not in self.notes:
            self.notes.append(text)

    def table(self, title: str, rounds: Rounds, columns: Sequence[Column], *, baseline: str, compares: str) -> None:
        """Add a table of all candidates in `rounds`. It has no ratios if the baseline is "" or was not measured.

        If checkouts are compared, add a `Comparison` of each figure for each pair of candidates instead.
        """
        if self.compares:
            self._compare(title, rounds, columns)
            return
        rows = []
        known = baseline if baseline in rounds else ""
        for name, runs in rounds.runs.items():
            ratio = rounds.ratio(name, known, compares) if known else None
            medians = {figure: rounds.median(name, figure) for figure in runs[0]}
            rows.append(Row(name, ratio, medians, runs))
        self.tables.append(Table(title, known, compares, columns, rows))

    def _compare(self, title: str, rounds: Rounds, columns: Sequence[Column]) -> None:
        pairs = pairs_of(list(rounds.runs))
        for name, (this, against) in pairs.items():
            measured = title if len(pairs) == 1 else f"{title}: {name}"
            for column in columns:
                figure = column.figure
                if not column.better or figure not in rounds.runs[this][0]:
                    continue
                runs = zip(rounds.runs[this], rounds.runs[against], strict=True)
                both = [(mine[figure], theirs[figure]) for mine, theirs in runs]
                ratio = rounds.ratio(this, against, figure) if all(theirs > 0 for _, theirs in both) else None
                medians = rounds.median(this, figure), rounds.median(against, figure)
                self.comparisons.append(Comparison(measured, column, *medians, ratio, both))

    def at_most(self, name: str, rounds: Rounds, candidate: str, baseline: str, figure: str, limit: float) -> None:
        """Judge that a candidate's figure is at most `limit` times a baseline's."""
        self._judge(name, "≤", rounds, candidate, baseline, figure, limit)

    def at_least(self, name: str, rounds: Rounds, candidate: str, baseline: str, figure: str, limit: float) -> None:
        """Judge that a candidate's figure is at least `limit` times a baseline's."""
        self._judge(name, "≥", rounds, candidate, baseline, figure, limit)

    def _judge(
        self, name: str, sign: str, rounds: Rounds, candidate: str, baseline: str, figure: str, limit: float
    ) -> None:
        wanted = f"{sign} {limit:g} x {baseline}"
        if candidate not in rounds or baseline not in rounds:
            self.targets.append(Target(name, wanted, "not measured", None))
            return
        ratio = rounds.ratio(candidate, baseline, figure)
        ok = ratio.median <= limit if sign == "≤" else ratio.median >= limit
        self.targets.append(Target(name, wanted, str(ratio), ok))

    def figure_at_least(self, name: str, got: float, limit: float, unit: str) -> None:
        """Judge that an absolute figure, which depends on the machine, is at least `limit`."""
        self.targets.append(Target(name, f"≥ {limit:,.6g} {unit}", f"{got:,.4g} {unit}", got >= limit))

    def figure_at_most(self, name: str, got: float, limit: float, unit: str) -> None:
        """Judge that an absolute figure, which depends on the machine, is at most `limit`."""
        self.targets.append(Target(name, f"≤ {limit:,.6g} {unit}", f"{got:,.4g} {unit}", got <= limit))

    def json(self) -> str:
        """Return the whole report with the figures of all rounds, and the commits of the checkouts."""
        whole = asdict(self)
        whole["checkouts"] = self.checkouts.commits()
        return json.dumps(whole, ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        parts = [f"{self.bench}: {self.about}", ", ".join(f"{key}: {value}" for key, value in self.machine.items())]
        parts += [str(table) for table in self.tables]
        if self.comparisons:
            commits = ", ".join(f"{side}: {commit}" for side, commit in self.checkouts.commits().items())
            rounds = len(self.comparisons[0].rounds)
            title = f"{commits}; medians of {rounds} round{'s' if rounds > 1 else ''}, ratios within each round"
            lines = [COMPARISON_HEAD, *(comparison.cells() for comparison in self.comparisons)]
            parts.append(f"{title}\n{aligned(lines, left=3)}")
        parts += [str(course) for course in self.courses]
        if self.targets:
            lines = [[target.verdict, target.name, target.wanted, target.got] for target in self.targets]
            parts.append("targets\n" + aligned([["", "", "wanted", "got"], *lines], left=4))
        if self.notes:
            parts.append("\n".join(f"note: {note}" for note in self.notes))
        return "\n\n".join(parts)


def aligned(lines: Iterable[Sequence[str]], left: int = 1) -> str:
    """Align cells in columns: the first `left` ones to the left, others to the right."""
    rows = list(lines)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: Any, column: Column) -> str:
    return "-" if value is None else f"{value * column.scale:,.{column.digits}f}"
