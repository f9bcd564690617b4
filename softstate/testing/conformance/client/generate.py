"""All traces, generated from the Python machine."""

from __future__ import annotations

from softstate.testing.conformance.client.scenarios import (
    beats,
    connecting,
    credentials,
    histories,
    knowing,
    late,
    leases,
    offline,
    polling,
    publishing,
)
from softstate.testing.conformance.client.trace import Trace

SCENARIOS = (
    leases.scenario,
    beats.scenario,
    knowing.scenario,
    histories.scenario,
    polling.scenario,
    connecting.scenario,
    offline.scenario,
    credentials.scenario,
    publishing.scenario,
    publishing.forks,
    late.scenario,
)


def generate() -> list[Trace]:
    """Run every scenario, and return the traces."""
    return [trace for scenarios in SCENARIOS for trace in scenarios.record()]
