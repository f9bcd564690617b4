"""Random schedules in worlds whose nodes check credentials: rules, keys, providers and clocks are drawn as well."""

from __future__ import annotations

import pytest

from softstate.testing.simulation.random_permissions import PERMISSION_KINDS, REVOCATION_KINDS
from softstate.testing.simulation.schedule import draw_schedule, run_schedule

PENDING_OF_A_LOST_NAME = 1107
"""A change waits for an application that is told first that the name is denied by which it wanted it."""


@pytest.mark.parametrize("seed", [*range(12), PENDING_OF_A_LOST_NAME])
def test_a_random_schedule_breaks_no_promise(seed: int) -> None:
    outcome = run_schedule(seed, draw_schedule(seed, permissions=True), permissions=True)
    assert outcome.error is None, f"seed {seed}: {outcome.error}"
    assert outcome.steps > 1_000


def test_every_kind_of_fault_is_drawn() -> None:
    drawn = {fault.kind for seed in range(50) for fault in draw_schedule(seed, permissions=True)}
    assert {*PERMISSION_KINDS, *REVOCATION_KINDS} <= drawn
