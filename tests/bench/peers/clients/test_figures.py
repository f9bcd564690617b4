"""Figures of a failure, from applications that noted little enough to reckon by hand."""

from __future__ import annotations

import math

import pytest

from bench.peers.clients.figures import Failure, figures_of, known, story, unwarned_s
from bench.peers.clients.records import Age, Application, Held, Noted, Published, Told

OLD = Published("still", 1, 0.0, 0.1)
NEW = Published("still", 2, 9.9, 10.0)


def application(*told: Told, heard_at: float = math.inf, ages: tuple[Age, ...] = ()) -> Application:
    """Return one that held 1 from the beginning, and hears 2 at a time."""
    held = [Held(0.1, 1), *([Held(heard_at, 2)] if heard_at < math.inf else [])]
    return Application({"still": held}, told, ages)


@pytest.mark.parametrize(
    ("one", "seconds"),
    [
        (application(), 10.0),
        (application(heard_at=14.0), 4.0),
        (application(heard_at=9.95), 0.0),
        (application(Told(9.0, "disconnect", False)), 0.0),
        (application(Told(12.0, "disconnect", False)), 2.0),
        (application(Told(9.0, "disconnect", False), Told(15.0, "connect", True)), 5.0),
        (application(Told(9.0, "disconnect", False), Told(15.0, "connect", True), heard_at=15.5), 0.5),
        (application(Told(11.0, "disconnect", False), Told(15.0, "connect", True), heard_at=18.0), 3.0),
        (application(Told(11.0, "ping", None)), 10.0),
        (application(Told(11.0, "subscribing", False, "ticking")), 10.0),
        (application(Told(11.0, "subscribing", False, "still")), 1.0),
        (application(Told(25.0, "disconnect", False)), 10.0),
    ],
)
def test_an_application_is_unwarned_while_it_holds_an_old_value_and_was_told_nothing(
    one: Application, seconds: float
) -> None:
    assert unwarned_s(one, [OLD, NEW], ends_at=20.0) == pytest.approx(seconds)


def test_an_age_warns_as_far_as_it_reaches() -> None:
    right = tuple(Age(at, at - 9.5) for at in (9.6, 12.0, 19.0))
    assert unwarned_s(application(ages=right), [OLD, NEW], 20.0) == 0.0
    too_low = (Age(9.6, 0.1), Age(12.0, 1.5), Age(19.0, 9.5))
    assert unwarned_s(application(ages=too_low), [OLD, NEW], 20.0) == pytest.approx(0.5)
    assert unwarned_s(application(ages=too_low, heard_at=11.0), [OLD, NEW], 20.0) == 0.0


def test_times_count_from_the_begin_and_from_the_end_of_a_failure() -> None:
    ticks = [Published("ticking", 3, 12.0, 12.1)]
    quick, slow = (
        Application(
            {"still": [Held(0.1, 1), Held(12.0 + s, 2)], "ticking": [Held(12.0 + 2 * s, 3)]},
            [Told(8.0, "connected", True), Told(10.0 + s, "disconnect", False)],
            [Age(11.0, 3.0 * s)],
        )
        for s in (0.5, 1.0)
    )
    noted = Noted([quick, slow], [1.0, 10.5, 11.0, 12.5, 30.0])
    failure = Failure(10.0, 12.0, 20.0, ticks_from=3, first=2, published=[OLD, NEW, *ticks])
    figures = figures_of(noted, failure)
    assert figures["told_p50_s"] == pytest.approx(0.5)
    assert figures["told_all_s"] == pytest.approx(1.0)
    assert figures["tick_all_s"] == pytest.approx(2.0)
    assert figures["still_p50_s"] == pytest.approx(0.5)
    assert figures["still_share"] == 1.0
    assert figures["dials"] == 1.5
    assert figures["stated_s"] == 3.0


def test_what_never_happens_is_infinite_and_an_age_that_nobody_stated_is_no_figure() -> None:
    failure = Failure(10.0, 12.0, 20.0, ticks_from=3, first=2, published=[OLD, NEW])
    figures = figures_of(Noted([application(heard_at=13.0), application()], []), failure)
    assert figures["told_all_s"] == figures["tick_p50_s"] == figures["still_all_s"] == math.inf
    assert figures["still_share"] == 0.5
    assert "stated_s" not in figures


def test_what_was_known_before_the_failure_counts_as_known_at_once() -> None:
    failure = Failure(10.0, 12.0, 20.0, ticks_from=3, first=2, published=[OLD, NEW])
    assert figures_of(Noted([application(heard_at=10.5)], []), failure)["still_all_s"] == 0.0


def test_the_share_that_knows_a_value() -> None:
    some = [application(), application(heard_at=11.0), Application({}, [])]
    assert known(some, "still", 1) == pytest.approx(2 / 3)
    assert known(some, "still", 2) == pytest.approx(1 / 3)


def test_the_story_has_each_text_once_in_order_and_how_many_were_told() -> None:
    told = [Told(1.0, "connect", True), Told(10.5, "lost", False), Told(11.0, "again", None), Told(12.0, "lost", False)]
    assert story([application(*told), application(*told[:2])], 10.0) == "“lost” at 0.5 s, “again” at 1.0 s (50%)"
    assert story([application(*told)], 10.0, most=1) == "“lost” at 0.5 s, and 1 more"
    assert story([application()], 10.0) == "nothing"
