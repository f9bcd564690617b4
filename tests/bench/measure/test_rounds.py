"""Rounds: order, medians, and ratios that are formed within one round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.measure.rounds import Figures, Rounds, run_rounds, spread


def test_candidates_take_turns_in_alternating_order() -> None:
    order: list[str] = []

    def measure(name: str) -> Callable[[], Figures]:
        def run() -> Figures:
            order.append(name)
            return {"x": float(len(order))}

        return run

    result = run_rounds({name: measure(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert [run["x"] for run in result.runs["a"]] == [1, 6, 7]


def test_a_ratio_is_formed_within_each_round() -> None:
    # A machine that is ten times slower in the second round: both medians hide it, each round's ratio is 2.
    result = Rounds({"a": [{"x": 2.0}, {"x": 20.0}, {"x": 4.0}], "b": [{"x": 1.0}, {"x": 10.0}, {"x": 2.0}]})
    assert result.ratio("a", "b", "x") == spread([2.0, 2.0, 2.0])
    assert result.median("a", "x") == 4.0
    result.runs["a"][0] = {"x": 5.0}
    ratio = result.ratio("a", "b", "x")
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 5.0)
    assert str(ratio) == "2.00 (2.00 to 5.00)"


def test_a_missing_round_is_no_ratio() -> None:
    result = Rounds({"a": [{"x": 2.0}], "b": [{"x": 1.0}, {"x": 1.0}]})
    with pytest.raises(ValueError, match="zip"):
        result.ratio("a", "b", "x")
    assert "c" not in result
