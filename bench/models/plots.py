"""Plots of the parts of `bench models`, if matplotlib is there (``pip install softstate[bench]``)."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from bench.models.part import Grid, Part


def plot(parts: list[Part], folder: Path) -> str:
    """Draw the curves of all parts into files of `folder`; return a line that says where they are."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        return "plots skipped: matplotlib is not installed (pip install softstate[bench])"
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for part in parts:
        for number, grid in enumerate(part.grids):
            if grid.plot:
                _curves(pyplot, f"{part.name}: {grid.title}", grid, folder / f"{_slug(part.name)}-{number}.svg")
                drawn += 1
    return f"{drawn} plots in {folder}"


def _curves(pyplot: Any, title: str, grid: Grid, path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for column in range(1, len(grid.head)):
        points = [
            (row[0], row[column])
            for row in grid.rows
            if isinstance(row[0], int | float) and isinstance(row[column], int | float)
        ]
        if points:
            style = "--" if "model" in grid.head[column] else "o-"
            axes.plot(*zip(*points, strict=True), style, label=grid.head[column], markersize=3)
    if grid.log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel(grid.head[0])
    axes.set_title(title)
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
