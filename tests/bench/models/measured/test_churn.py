"""Churn in the lease table: each kind of it in small, near its model."""

from __future__ import annotations

import pytest

from bench.models.measured.churn import Course, run
from bench.models.theory.churn import mean_orphan_s

SMALL = Course(200, lasts_s=300.0)


def test_leases_outlive_clients_that_vanish_by_the_rest_of_their_time() -> None:
    found = run(SMALL, 1)
    assert sum(found.orphan_s) / len(found.orphan_s) == pytest.approx(mean_orphan_s(60.0, 60.0), rel=0.03)
    assert max(found.orphan_s) <= 66.3
    assert run(SMALL, 1).samples == found.samples


def test_a_crowd_arrives_and_a_departure_takes_its_part() -> None:
    found = run(Course(100, lasts_s=130.0, crowd=500, crowd_at_s=100.5, departure=0.5, departure_at_s=115.0), 1)
    held = {at_s: leases for at_s, leases, _ in found.samples}
    present = {at_s: clients for at_s, _, clients in found.samples}
    assert held[110.0] - held[100.0] == pytest.approx(500, abs=30)
    assert present[120.0] == pytest.approx(present[110.0] / 2, rel=0.15)


def test_mobile_clients_resume_if_they_return_in_time() -> None:
    soon = run(Course(100, lasts_s=200.0, mobile=1.0, away_s=(1.0, 10.0)), 1)
    late = run(Course(100, lasts_s=200.0, mobile=1.0, away_s=(70.0, 80.0)), 1)
    assert soon.resumed == soon.returned > 0
    assert late.resumed == 0 < late.returned
