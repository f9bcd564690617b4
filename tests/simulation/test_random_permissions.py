"""Random schedules in worlds whose nodes check credentials: rules, keys, providers and clocks are drawn as well."""

from __future__ import annotations

import pytest

from softstate.testing.simulation.random_permissions import KINDS_OF, REVOCATION_KINDS, Checks, asks_names, checks_of
from softstate.testing.simulation.schedule import draw_schedule, run_schedule

PENDING_OF_A_LOST_NAME = 1107
"""A change waits for an application that is told first that the name is denied by which it wanted it."""


NAMES = (12, 13)
"""Worlds whose callout is asked about names."""


@pytest.mark.parametrize("seed", [*range(12), *NAMES, PENDING_OF_A_LOST_NAME])
def test_a_random_schedule_breaks_no_promise(seed: int) -> None:
    outcome = run_schedule(seed, draw_schedule(seed, permissions=True), permissions=True)
    assert outcome.error is None, f"seed {seed}: {outcome.error}"
    assert outcome.steps > 1_000


def test_every_kind_of_fault_is_drawn() -> None:
    drawn: dict[Checks, set[str]] = {checks: set() for checks in KINDS_OF}
    for seed in range(100):
        drawn[checks_of(seed)].update(fault.kind for fault in draw_schedule(seed, permissions=True))
    for checks, kinds in KINDS_OF.items():
        assert set(kinds) <= drawn[checks]
        assert "rewind" in drawn[checks]
    assert set(REVOCATION_KINDS) <= drawn["issuer"]


def test_each_way_to_check_credentials_is_among_the_first_seeds() -> None:
    assert {checks_of(seed) for seed in range(12)} == set(KINDS_OF)
    assert all(checks_of(seed) == "callout" and asks_names(seed) for seed in NAMES)
