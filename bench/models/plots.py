"""Plots of the parts of `bench models`."""

from __future__ import annotations

import importlib
from functools import partial
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.measure.drawing import draw
from bench.models.part import Figure, Part

COLUMNS = 70
"""Width of a title, in characters."""


def plot(parts: list[Part], folder: Path) -> str:
    """Draw the figures of all parts into files of `folder`; return a line that says where they are."""
    figures = {
        f"{part.name}-{number}": partial(_curves, f"{part.name}: {figure.title}", figure)
        for part in parts
        for number, figure in enumerate(part.figures)
    }
    return draw(figures, folder)


def _curves(title: str, curves: Figure, pyplot: Any) -> Any:
    """Draw curves; a model has the colour of what it is the model of, if that is there."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    free = cycle(f"C{number}" for number in range(10))
    colours = {name: next(free) for name in curves.curves if "model" not in name}
    for name, points in curves.curves.items():
        colour = colours.get(name) or colours.get(name.partition(", model")[0], "black")
        style = "--" if "model" in name else "o-"
        if "model" in name and len(points) == 1:
            style = "x"
        axes.plot(*zip(*points, strict=True), style, label=name, markersize=4, color=colour, linewidth=1.2)
    if curves.log:
        _logarithmic(axes)
    axes.set_xlabel(curves.x)
    axes.set_ylabel(curves.y)
    axes.set_title(fill(title, COLUMNS), fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _logarithmic(axes: Any) -> None:
    """Make both axes logarithmic, with plain numbers at 1, 2 and 5: most of them are less than two decades long."""
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
