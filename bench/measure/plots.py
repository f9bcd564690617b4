"""Plots of a report, if matplotlib is there (``pip install softstate[bench]``)."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from bench.measure.report import Report, Table


def plot(report: Report, folder: Path) -> str:
    """Draw each table of a report into a file of `folder`; return a line for the report that says where."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        return "plots skipped: matplotlib is not installed (pip install softstate[bench])"
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [table for table in report.tables if table.rows]
    for number, table in enumerate(drawn):
        name = re.sub(r"[^a-z0-9]+", "-", f"{report.bench}-{number}-{table.title}".lower()).strip("-")
        _bars(pyplot, table, folder / f"{name}.svg")
    return f"{len(drawn)} plots in {folder}"


def _bars(pyplot: Any, table: Table, path: Path) -> None:
    """Draw the compared figure, one bar a candidate, from least to greatest round."""
    column = next(column for column in table.columns if column.figure == table.compares)
    rows = list(reversed(table.rows))
    middles = [row.medians[table.compares] * column.scale for row in rows]
    runs = [[run[table.compares] * column.scale for run in row.rounds] for row in rows]
    errors = [
        [middle - min(values) for middle, values in zip(middles, runs, strict=True)],
        [max(values) - middle for middle, values in zip(middles, runs, strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.4 * len(rows)), layout="constrained")
    axes.barh([row.name for row in rows], middles, xerr=errors)
    axes.set_xlabel(column.title)
    axes.set_title(table.title)
    figure.savefig(path)
    pyplot.close(figure)
