"""The simulator can fail: each rule that a patch takes out breaks a promise in a world named here.

Beside each rule stands where it is caught: the seed of a random schedule, with the number of steps (events of the
trace) until then, or the world of `corners`, of 300 to 7,400 steps. Seeds depend on every detail of what runs: after
a change of the product, or of Trio, the next seeds are tried too. (Under random schedules those of `corners` were
caught as well, within 25 to 120 seeds, but for the last four; `the_hub_alone_is_judged` under seeds 173 and 1073.)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.testing.oracle.oracle import PromiseBroken
from softstate.testing.simulation.schedule import drawn, run_schedule
from tests.exhaustive.test_exhaustive_mutants import (
    anything_usable,
    certified_applied,
    digest_ignored,
    no_lineage_check,
    no_sweep,
    nothing_held,
    older_applied,
    read_before_entry,
    replay_begins_late,
    reset_keeps_versions,
)
from tests.simulation import edge_cases as corners, mutants

SEEDS_MAX = 40

Mutate = Callable[[pytest.MonkeyPatch], None]

IN_RANDOM_WORLDS: list[tuple[Mutate, int, str]] = [
    (mutants.age_counts_from_the_answer, 0, "S5"),  # 477 steps
    (mutants.tombstones_forgotten, 0, "S5"),  # 479
    (mutants.pushes_lost_and_counted, 0, "S7"),  # 968
    (mutants.notified_before_commit, 0, "S2"),  # 1,475
    (no_lineage_check, 10, "S9"),  # 1,466
    (reset_keeps_versions, 4, "S5"),  # 1,798
    (older_applied, 19, "S1"),  # 1,070
    (certified_applied, 28, "S1"),  # 668
    (mutants.own_commits_close_gaps, 3, "S7"),  # 2,643
    (no_sweep, 2, "S5"),  # 1,590
    (mutants.connections_survive_a_rewind, 4, "S9"),  # 594
]

IN_CORNERS: list[tuple[Mutate, corners.Corner, str]] = [
    (read_before_entry, corners.changed_while_read, "S7"),
    (nothing_held, corners.changed_while_read, "S7"),
    (mutants.hub_not_awaited, corners.renewed_while_the_hub_lags, "S5"),
    (mutants.reads_joined_under_way, corners.renewed_while_the_hub_lags, "S5"),
    (mutants.renewed_goes_first, corners.renewed_while_congested, "S7"),
    (mutants.replacement_goes_last, corners.renewed_while_congested, "S7"),
    (digest_ignored, corners.names_forgotten, "S7"),
    (replay_begins_late, corners.lost_then_cut, "S5"),
    (anything_usable, corners.rewound_while_suspect, "S5"),
    (mutants.the_hub_alone_is_judged, corners.rewound_to_where_the_hub_lags, "S9"),
    (mutants.left_connection_heard, corners.rewound_and_left, "S5"),
]


@pytest.mark.parametrize(
    ("mutate", "seed", "promise"), IN_RANDOM_WORLDS, ids=lambda given: getattr(given, "__name__", "")
)
def test_a_mutant_is_caught_in_a_random_world(
    mutate: Mutate, seed: int, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    outcomes = (run_schedule(candidate, drawn(candidate)) for candidate in (seed, *range(SEEDS_MAX)))
    found = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    assert found is not None, f"{mutate.__name__} survived {SEEDS_MAX} seeds"
    assert f"{promise} broken" in found


@pytest.mark.parametrize(("mutate", "corner", "promise"), IN_CORNERS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_mutant_is_caught_in_a_corner(
    mutate: Mutate, corner: corners.Corner, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(PromiseBroken, match=f"{promise} broken"):
        corners.run(corner)
