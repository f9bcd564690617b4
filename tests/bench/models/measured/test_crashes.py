"""Crashes: what counts as lost, and one point of a simulated store."""

from __future__ import annotations

import pytest

from bench.models.measured.crashes import count_lost, crash_at
from bench.models.parts.costs import measure, ttl_for
from softstate.testing.trace import ChangeCommitted, PublishAcknowledged, TraceEvent


def test_an_acknowledged_version_that_was_never_committed_is_lost() -> None:
    events: list[TraceEvent] = [
        ChangeCommitted(1.0, 5, "t", 1, deleted=False, key=None),
        PublishAcknowledged(1.1, "a", 1, "t", 5),
        PublishAcknowledged(1.2, "a", 2, "t", 6),
    ]
    assert count_lost(events) == (2, 1)


@pytest.mark.parametrize("point", ["publish.after_commit", "reopen.after"])
def test_a_crash_at_a_point_of_the_store_loses_nothing(point: str) -> None:
    found = crash_at(point, "power", 1)
    assert (found.lost, found.broken) == (0, "")
    assert found.passed > 1
    assert found.acknowledged > 100


def test_the_ttl_grows_with_the_sessions_within_its_bounds() -> None:
    assert ttl_for(1) == 15.0
    assert ttl_for(100_000) == pytest.approx(189.0)
    assert ttl_for(10_000_000) == 600.0


def test_the_costs_of_leases_are_positive() -> None:
    held_bytes, renew_s, expire_s = measure(200)
    assert 200 < held_bytes < 2_000
    assert renew_s >= 0
    assert expire_s > 0
