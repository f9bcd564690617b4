"""Drawing, if matplotlib is there (``pip install softstate[bench]``)."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Draw: TypeAlias = Callable[[Any], Any]
"""Draws one figure with `matplotlib.pyplot`, and returns it."""


def draw(figures: Mapping[str, Draw], folder: Path) -> str:
    """Draw each figure into a file of `folder`, called after its name; return a line that says where they are."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        return "plots skipped: matplotlib is not installed (pip install softstate[bench])"
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in figures.items():
        figure = drawn(pyplot)
        figure.savefig(folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.svg")
        pyplot.close(figure)
    return f"{len(figures)} plots in {folder}"
