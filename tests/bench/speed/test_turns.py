"""The worst messages beside an innocent, for a moment, with a real node: the bench runs and counts, at any speed."""

from __future__ import annotations

import pytest

from bench.load.worst import BODY_BYTES, worst_messages, worst_requests
from bench.measure.options import Measuring
from bench.speed import turns
from softstate.errors import ConfigError
from softstate.server import ServerConfig


@pytest.mark.timeout(60)
def test_an_innocent_is_measured_alone_and_beside_each_kind() -> None:
    kinds = ("values", "http")
    report = turns.turns(Measuring(quick=True, rounds_wanted=1), connections=2, run_s=0.3, kinds=kinds)
    (table,) = report.tables
    assert [row.name for row in table.rows] == [turns.ALONE, *(turns.KINDS[kind] for kind in kinds)]
    for row in table.rows:
        assert row.medians["applied_p99_s"] > 0
        assert row.medians["turn_cpu_s"] >= 0
        assert (row.medians["sent_per_s"] > 0) == (row.name != turns.ALONE)
    assert len(report.targets) == 2 * len(kinds)


def test_it_measures_this_checkout_alone() -> None:
    with pytest.raises(ConfigError, match="turns does not take --against"):
        turns.turns(Measuring(against="elsewhere"))  # type: ignore[arg-type]


def test_the_worst_messages_are_within_the_defaults_of_a_node() -> None:
    config = ServerConfig()
    assert config.body_bytes_max == BODY_BYTES
    assert max(len(message.data) for message in worst_messages()) <= config.message_bytes_max
    bodies = [
        len(request.body) for request in worst_requests() if not (request.cbor is False and request.status == 413)
    ]
    assert max(bodies) <= config.body_bytes_max
