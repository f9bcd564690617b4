"""Worlds of one kind of fault: how staleness is worked out, and one small world."""

from __future__ import annotations

from bench.models.measured.faulted import FAULTS, observe, staleness
from softstate.testing.trace import ChangeCommitted, ChangeDelivered, TraceEvent


def commit(at_s: float, revision: int, topic: str = "t") -> TraceEvent:
    return ChangeCommitted(at_s, revision, topic, revision, deleted=False, key=None)


def delivery(at_s: float, version: int, client: str = "c", topic: str = "t") -> TraceEvent:
    return ChangeDelivered(at_s, client, 1, topic, version, version, deleted=False, age_s=0.0)


def test_staleness_counts_from_the_first_commit_that_was_missing() -> None:
    events = [
        commit(0.0, 1), delivery(0.5, 1), commit(10.0, 2), commit(12.0, 3), commit(12.5, 4, "other"), delivery(13.0, 3),
        commit(20.0, 5), delivery(20.25, 5), delivery(21.0, 5, "late"),
    ]  # fmt: skip
    assert staleness(events) == [3.0, 0.25]


def test_lost_pushes_are_repaired_by_the_next_beat_and_ages_are_honest() -> None:
    lost = next(fault for fault in FAULTS if "pushes lost" in fault.name)
    found = observe(lost, True, 1, 1)
    assert found.broken == []
    assert found.margin_s >= 0
    assert 0.2 < found.quantile(1.0) < 3.0
    assert found.counts["repairs_sent_unequal"] > 0
