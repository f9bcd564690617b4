"""All traces, generated from the Python machine."""

from __future__ import annotations

from softstate.testing.conformance.client.scenarios import leases
from softstate.testing.conformance.client.trace import Trace

SCENARIOS = (leases.scenario,)


def generate() -> list[Trace]:
    """Run every scenario, and return the traces."""
    return [trace for scenarios in SCENARIOS for trace in scenarios.record()]
