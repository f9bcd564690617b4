"""Copies in simulated worlds: how their age is worked out, and each way to follow in small."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.models.measured.announce import announce
from bench.models.measured.copies import Following, follow, old_times
from bench.models.theory.announce import Announcing, consistency, held_share
from softstate.testing.trace import ChangeCommitted, ChangeDelivered, TraceEvent

SMALL = Following(change_per_s=0.2, clients=4, lasts_s=120.0)


def commit(at_s: float, revision: int) -> TraceEvent:
    return ChangeCommitted(at_s, revision, "t", revision, deleted=False, key=None)


def delivery(at_s: float, version: int) -> TraceEvent:
    return ChangeDelivered(at_s, "c0", 1, "t", version, version, deleted=False, age_s=0.0)


def test_a_copy_is_old_until_the_newest_change_is_there() -> None:
    events = [
        commit(0.0, 1), delivery(0.0, 1), commit(10.0, 2), commit(11.0, 3), delivery(12.0, 2), delivery(14.0, 3),
        commit(20.0, 4),
    ]  # fmt: skip
    old_s, worst_s = old_times(events, 0.0, 22.0)
    assert old_s == {"t": pytest.approx(4.0 + 2.0)}
    assert worst_s == pytest.approx(3.0)
    assert old_times(events, 13.0, 21.0)[0] == {"t": pytest.approx(1.0 + 1.0)}


def test_lost_pushes_are_found_by_counts_and_overlooked_without() -> None:
    counted = follow(replace(SMALL, loss=0.3), 1)
    overlooked = follow(replace(SMALL, loss=0.3, feedback=False), 1)
    assert counted.kinds["subscribe"] > 0
    assert "subscribe" not in overlooked.kinds
    assert counted.worst_s < 26.0


def test_without_a_digest_forgotten_names_are_not_found() -> None:
    given = replace(SMALL, names_lost_per_s=1 / 30)
    assert follow(given, 1).inconsistency.value < 0.5 * follow(replace(given, digest=False), 1).inconsistency.value


def test_a_poll_costs_two_messages() -> None:
    polled = follow(replace(SMALL, renew_s=None, poll_s=5.0), 1)
    assert set(polled.kinds) == {"poll"}
    assert polled.messages_per_s == pytest.approx(2 / 5, rel=0.1)


def test_announcing_is_near_its_model_and_better_with_feedback() -> None:
    given = Announcing(0.3, 0.1, 0.7)
    found, told = announce(given, 20_000, 1), announce(given, 20_000, 1, feedback=True)
    assert found.consistency == pytest.approx(consistency(given), rel=0.1)
    assert found.wasted == pytest.approx(held_share(given), rel=0.03)
    assert told.held > found.held
    assert announce(given, 20_000, 1) == found
