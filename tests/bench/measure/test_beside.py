"""Figures that follow from others."""

from __future__ import annotations

from bench.measure.beside import with_added, with_per_cpu
from bench.measure.rounds import Figures, Rounds


def test_what_is_added_is_formed_within_each_round() -> None:
    runs = {"base": [1.0, 2.0], "other": [1.5, 2.25]}
    costs: dict[str, list[Figures]] = {name: [{"server_cpu_s": cost} for cost in costs] for name, costs in runs.items()}
    result = with_added(Rounds(costs), "base")
    assert [run["added_s"] for run in result.runs["other"]] == [0.5, 0.25]
    assert result.runs["base"] == costs["base"]


def test_a_rate_for_a_cpu_second_follows_from_the_cost_of_one() -> None:
    assert with_per_cpu({"server_cpu_s": 0.004}) == {"server_cpu_s": 0.004, "per_cpu_s": 250.0}
    assert with_per_cpu({"server_cpu_s": 0.0})["per_cpu_s"] > 0
