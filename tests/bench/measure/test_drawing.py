"""Drawing: a file for each figure, called after it; nothing without matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.measure.drawing import draw
from bench.models.part import Part
from bench.models.plots import plot


class Canvas:
    """Stands for `matplotlib.pyplot`, its figures and axes: takes every call, and notes what is drawn and saved."""

    def __init__(self) -> None:
        self.drawn: list[tuple[Any, ...]] = []
        self.saved: list[str] = []

    def subplots(self, **_options: Any) -> tuple[Canvas, Canvas]:
        return self, self

    def plot(self, xs: Any, ys: Any, style: str, label: str, color: str, **_options: Any) -> None:
        self.drawn.append((label, style, color, xs, ys))

    def savefig(self, path: Path) -> None:
        self.saved.append(path.name)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_given, **_options: None


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch) -> Canvas:
    canvas, module = Canvas(), ModuleType("matplotlib")
    module.use = lambda _backend: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib", module)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", canvas)
    return canvas


def test_a_model_is_dashed_and_has_the_colour_of_its_measurement(tmp_path: Path, canvas: Canvas) -> None:
    part = Part("F-x", "a title", "About it.", 1)
    figure = part.figure("a figure", "x", "y")
    for x in (1.0, 2.0):
        figure.add("one", x, x)
        figure.add("one, model", x, x)
        figure.add("model", x, x)
    figure.add("two", 1.0, 3.0)
    assert plot([part], tmp_path / "plots") == f"1 plots in {tmp_path / 'plots'}"
    assert canvas.saved == ["f-x-0.svg"]
    assert [each[:3] for each in canvas.drawn] == [
        ("one", "o-", "C0"),
        ("one, model", "--", "C0"),
        ("model", "--", "black"),
        ("two", "o-", "C1"),
    ]
    assert canvas.drawn[0][3:] == ((1.0, 2.0), (1.0, 2.0))


def test_names_become_names_of_files(tmp_path: Path, canvas: Canvas) -> None:
    draw({"A b: c/d (e)": lambda pyplot: pyplot}, tmp_path)
    assert canvas.saved == ["a-b-c-d-e.svg"]
