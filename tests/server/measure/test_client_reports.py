from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest

from softstate.server.measure.client_reports import AGES_S, BOUNDS_MS, MODES, RATIO_MAX, ClientReports
from softstate.wire.messages import AGE_MS_NEVER

NOW = 1_000.0
LATER = NOW + 60


def test_a_client_counts_once_by_what_it_said_last() -> None:
    """However often it says something."""
    reports, lie = ClientReports(), 0
    honest = [reports.say(LATER, 600, "live") for _ in range(99)]
    for _ in range(10_000):
        lie = reports.say(LATER, AGE_MS_NEVER, "offline", lie)
    ages = reports.ages(NOW)
    assert (ages.clients, ages.never) == (100, 1)
    assert ages.p50_s == ages.p99_s == pytest.approx(0.6, rel=RATIO_MAX - 1)
    assert ages.max_s is None
    modes = reports.modes(NOW)
    assert (modes["live"], modes["offline"]) == (99, 1)
    for report in (*honest, lie):
        reports.forget(report)
    assert reports.ages(NOW).clients == 0
    assert not any(reports.modes(NOW).values())


@pytest.mark.parametrize("said", [(None, None), (5, None), (None, "live")])
def test_a_client_may_say_only_a_part(said: tuple[int | None, str | None]) -> None:
    reports = ClientReports()
    report = reports.say(LATER, *said)
    assert reports.ages(NOW).clients == (said[0] is not None)
    assert sum(reports.modes(NOW).values()) == (said[1] is not None)
    assert bool(report) == (said != (None, None))
    assert reports.say(LATER, None, None, report) == 0
    assert reports.ages(NOW).clients == 0


def test_a_mode_that_is_not_known_counts_as_another() -> None:
    reports = ClientReports()
    reports.say(LATER, None, "dreaming")
    reports.say(LATER, None, "")
    assert reports.modes(NOW) == {**dict.fromkeys(MODES, 0), "other": 2}


def test_what_was_said_counts_until_its_time_is_over() -> None:
    reports = ClientReports()
    soon = reports.say(NOW + 1.5, 600, "polling")
    reports.say(NOW + 60, 600, "live")
    assert reports.ages(NOW + 1.9).clients == 2
    assert reports.ages(NOW + 2).clients == 1
    reports.forget(soon)  # too late: it must not be taken away twice
    assert reports.say(NOW + 60, 700, "polling", soon)
    assert reports.ages(NOW + 2).clients == 2
    assert reports.modes(NOW + 2)["live"] == 1
    assert reports.ages(NOW + 61).clients == 0
    assert reports.sampled.counts == [0] * (len(AGES_S) + 1)


def test_what_is_said_too_late_counts_for_a_second_at_most() -> None:
    reports = ClientReports()
    reports.modes(NOW)
    reports.say(NOW - 50, 600, "live")
    assert reports.modes(NOW + 0.9)["live"] == 1
    assert reports.modes(NOW + 1)["live"] == 0


def test_a_percentile_is_an_upper_bound_and_close() -> None:
    random, reports = Random(7), ClientReports()
    ages_ms = sorted(round(random.lognormvariate(7, 2)) + 60 for _ in range(1_000))
    for age_ms in ages_ms:
        reports.say(LATER, age_ms, "live")
    ages = reports.ages(NOW)
    for found_s, true_ms in ((ages.p50_s, ages_ms[499]), (ages.p99_s, ages_ms[989]), (ages.max_s, ages_ms[-1])):
        assert found_s is not None
        assert true_ms <= found_s * 1000 <= true_ms * RATIO_MAX + 1


def test_each_client_counts_once_in_each_sample() -> None:
    reports = ClientReports()
    for bound_s in AGES_S:
        reports.say(LATER, round(bound_s * 1000), "live")
    reports.say(LATER, 300_001, "live")
    reports.say(LATER, AGE_MS_NEVER, "connecting")
    for times in (1, 2):
        reports.sample(NOW)
        assert reports.sampled.counts == [times] * len(AGES_S) + [2 * times]
        assert reports.sampled.sum_s == pytest.approx(times * (sum(AGES_S) + 300.001))


def test_memory_is_bounded_by_seconds_and_not_by_clients() -> None:
    reports = ClientReports()
    for client in range(5_000):
        reports.say(NOW + client % 60, client, "live")
    assert len(reports._rows) == 60
    reports.modes(NOW + 100)
    assert not reports._rows


def test_the_bounds_kept_contain_those_shown() -> None:
    assert {round(bound_s * 1000) for bound_s in AGES_S} <= set(BOUNDS_MS)
    assert BOUNDS_MS[-1] == AGE_MS_NEVER
    assert all(math.isclose(high / low, RATIO_MAX, rel_tol=0.2) for low, high in pairwise(BOUNDS_MS))
