"""All traces, generated from the Python machine."""

from __future__ import annotations

from softstate.testing.conformance.client.cells import covered
from softstate.testing.conformance.client.recorder import record_again
from softstate.testing.conformance.client.scenarios import (
    beats,
    connecting,
    credentials,
    histories,
    knowledge,
    late,
    leases,
    offline,
    polling,
    publishing,
)
from softstate.testing.conformance.client.trace import FOLDER, Trace, load_all

SCENARIOS = (
    leases.scenario,
    beats.scenario,
    knowledge.scenario,
    histories.scenario,
    polling.scenario,
    connecting.scenario,
    offline.scenario,
    credentials.scenario,
    publishing.scenario,
    publishing.forks,
    late.scenario,
)


CUT = FOLDER / "cut"
"""Traces that were cut from worlds, and are recorded again from themselves."""


def generate() -> list[Trace]:
    """Run every scenario, record again what was cut from worlds, and return the traces."""
    cut = [record_again(trace) for trace in load_all(CUT)]
    for trace in cut:
        trace.header["covers"] = covered(trace)
    return [*(trace for scenarios in SCENARIOS for trace in scenarios.record()), *cut]
