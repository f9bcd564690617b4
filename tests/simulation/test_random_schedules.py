"""Random schedules under fixed seeds, and the reduction of a failure. ``python -m bench simulate`` runs more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from softstate.testing.simulation import schedule as schedules
from softstate.testing.simulation.random_faults import KINDS
from softstate.testing.simulation.schedule import Outcome, ScheduledFault, draw_schedule, minimise, run_schedule

ENDED_WHILE_WRITING = 50097
"""A node ends at the moment in which one of its connections, which is over, is given something to write."""

SEEDS = (*range(24), ENDED_WHILE_WRITING)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_schedule_breaks_no_promise(seed: int) -> None:
    outcome = run_schedule(seed, draw_schedule(seed))
    assert outcome.error is None, f"seed {seed}: {outcome.error}"
    assert outcome.steps > 1_000


FAULTS = st.builds(
    ScheduledFault,
    at_s=st.floats(1.0, 40.0),
    kind=st.sampled_from(sorted(KINDS)),
    for_s=st.floats(0.05, 20.0),
    seed=st.integers(0, 2**32 - 1),
)


@pytest.mark.timeout(240)
@settings(max_examples=8, derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faults=st.lists(FAULTS, max_size=16))
def test_a_schedule_that_hypothesis_chooses_breaks_no_promise(seed: int, faults: list[ScheduledFault]) -> None:
    outcome = run_schedule(seed, sorted(faults, key=lambda fault: fault.at_s))
    assert outcome.error is None, outcome.error


def test_a_seed_draws_the_same_schedule_and_does_the_same_again() -> None:
    assert draw_schedule(3) == draw_schedule(3) != draw_schedule(4)
    assert run_schedule(3, draw_schedule(3)) == run_schedule(3, draw_schedule(3))


def test_every_kind_of_fault_is_drawn() -> None:
    assert {fault.kind for seed in range(200) for fault in draw_schedule(seed)} == set(KINDS)


def test_a_failure_is_reduced_to_the_faults_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [ScheduledFault(float(number), "crash", 1.0, number) for number in range(6)]

    def run(seed: int, schedule: list[ScheduledFault], *, permissions: bool = False) -> Outcome:
        failed = {1, 4} <= {fault.seed for fault in schedule}
        return Outcome(seed, tuple(schedule), error="as intended" if failed else None)

    monkeypatch.setattr(schedules, "run_schedule", run)
    assert [fault.seed for fault in minimise(run(1, faults))] == [1, 4]
