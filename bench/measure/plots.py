"""Plots of a report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench.measure.drawing import draw
from bench.measure.report import Report, Table


def plot(report: Report, folder: Path) -> str:
    """Draw each table of a report into a file of `folder`; return a line for the report that says where."""
    drawn = [table for table in report.tables if table.rows]
    return draw(
        {f"{report.bench}-{number}-{table.title}": partial(_bars, table) for number, table in enumerate(drawn)}, folder
    )


def _bars(table: Table, pyplot: Any) -> Any:
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
    return figure
