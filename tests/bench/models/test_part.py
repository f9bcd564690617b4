"""The verdict of a comparison, and the page into which parts are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.models import page
from bench.models.measured.estimates import Estimate, mean_of, ratio_of
from bench.models.measured.signalling import measure
from bench.models.models import PARTS, chosen
from bench.models.part import Compared, Grid, Part, text_of
from bench.models.parts.signalling import DEFAULT, SESSIONS
from bench.models.plots import plot
from softstate.errors import ConfigError


def a_part() -> Part:
    part = Part("T1", "a title", "About it.", 7)
    part.compare("near", 1.04, 1.0)
    part.grids.append(Grid("a | grid", ["x", "y"], [[1, 2.5], ["a|b", None]]))
    return part


@pytest.mark.parametrize(
    ("compared", "verdict"),
    [
        (Compared("x", Estimate(1.05), 1.0), "agrees"),
        (Compared("x", Estimate(1.06), 1.0), "UNEXPLAINED"),
        (Compared("x", Estimate(1.06), 1.0, reason="known"), "differs"),
        (Compared("x", Estimate(1.06), 1.0, within=0.1), "within 10%"),
        (Compared("x", Estimate(1.04, 0.09), 1.0), "agrees"),
        (Compared("x", Estimate(1.07, 0.08), 1.0), "within ±8%"),
        (Compared("x", Estimate(1.3, 0.3), 1.0), "within ±30%"),
        (Compared("x", Estimate(1.01, 0.5), 1.0), "within ±50%"),
        (Compared("x", Estimate(0.0), 0.0), "agrees"),
        (Compared("x", Estimate(0.1), 0.0), "UNEXPLAINED"),
    ],
)
def test_a_figure_agrees_within_its_tolerance_or_interval(compared: Compared, verdict: str) -> None:
    assert compared.verdict == verdict


def test_a_part_is_good_unless_a_bound_broke_or_a_difference_has_no_reason() -> None:
    part = a_part()
    part.compare("far", 2.0, 1.0, reason="the reason")
    part.bound("held", 1.0, 1.0)
    ok = part.ok
    assert ok
    assert "differs: far: the reason" in str(part)
    part.bound("staleness", 2.0, 1.0, "s")
    assert not part.ok
    assert "BROKEN: staleness: 2 s, above 1" in str(part)
    unexplained = a_part()
    unexplained.compare("far", 2.0, 1.0)
    assert not unexplained.ok


def test_estimates_have_intervals() -> None:
    mean, ratio = mean_of([1.0, 3.0]), ratio_of([1.0, 2.0], [10.0, 20.0])
    assert [mean.value, mean.half] == pytest.approx([2.0, 1.96])
    assert [ratio.value, ratio.half] == pytest.approx([0.1, 0.0])
    assert ratio_of([1.0], [4.0]) == Estimate(0.25)


def test_a_part_is_written_between_its_markers(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- T1 -->\nold\n<!-- end of T1 -->\nbehind\n")
    page.write([a_part()], path)
    text = path.read_text()
    assert text.startswith("before\n<!-- T1 -->\n\n*About it.*\n\n|  | measured |")
    assert text.endswith("<!-- end of T1 -->\nbehind\n")
    assert "old" not in text
    assert "| a\\|b | - |" in text
    assert page.shown(text, "T1") == page.markdown(a_part())
    with pytest.raises(ConfigError, match="no place for T1"):
        page.replaced("nothing", "T1", "text")


def test_the_page_has_a_place_for_every_part() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in PARTS:
        page.replaced(text, name, "text")


def test_the_page_has_what_a_run_measures() -> None:
    """The row of hard state, the cheapest, once more: the same seed gives the same figures everywhere."""
    table = page.shown(page.PAGE.read_text(encoding="utf-8"), "T1").partition("I and M, a second of a sender's life:")[
        2
    ]
    (row,) = [line for line in table.partition("The same under")[0].splitlines() if line.startswith("| HS ")]
    found = measure("HS", DEFAULT, SESSIONS[False], 1)
    figures = (found.inconsistency, found.orphan, found.missing, found.messages_per_s)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert [cells[3], cells[4], cells[5], cells[8]] == [text_of(figure.value) for figure in figures]


def test_parts_are_chosen_by_name() -> None:
    assert chosen([]) == list(PARTS)
    assert chosen(["f-g", "T1"]) == ["T1", "F-g"]
    with pytest.raises(ConfigError, match="no part T99: --only takes T1"):
        chosen(["T99"])


def test_plots_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert plot([a_part()], tmp_path / "plots").startswith("plots skipped: matplotlib is not installed")
    assert not (tmp_path / "plots").exists()
