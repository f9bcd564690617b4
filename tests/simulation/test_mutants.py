"""The simulator can fail: each rule of the design, taken out by a patch, breaks a promise in a world named here.

Beside each rule stands where it was caught first: the seed of a random schedule, or the world of `corners`, and how
many steps (events of the trace) that took, from the first to the end of the run. Seeds depend on how Trio schedules:
with another version of it, the next seeds are tried too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from softstate.testing import World
from softstate.testing.checked import run_checked
from softstate.testing.oracle import PromiseBroken
from softstate.testing.schedule import drawn, run_schedule
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
from tests.simulation import corners, mutants

SEEDS_MAX: Final = 25

Mutate = Callable[[pytest.MonkeyPatch], None]

IN_RANDOM_WORLDS: Final[list[tuple[Mutate, int, str]]] = [
    (mutants.age_counts_from_the_answer, 0, "S5"),  # 3,393 steps
    (mutants.tombstones_forgotten, 0, "S5"),  # 3,389
    (mutants.pushes_lost_and_counted, 0, "S7"),  # 3,411
    (mutants.notified_before_commit, 0, "S2"),  # 3,813
    (no_lineage_check, 1, "S9"),  # 4,056
    (reset_keeps_versions, 1, "S5"),  # 4,031
    (digest_ignored, 1, "S7"),  # 4,011
    (mutants.own_commits_close_gaps, 1, "S7"),  # 3,979
    (mutants.hub_not_awaited, 4, "S5"),  # 3,018
    (mutants.connections_survive_a_rewind, 4, "S9"),  # 2,978
    (older_applied, 5, "S1"),  # 3,669
    (certified_applied, 5, "S1"),  # 3,669
    (no_sweep, 5, "S5"),  # 3,727
    (mutants.replacement_goes_last, 15, "S7"),  # 7,594
    (read_before_entry, 19, "S7"),  # 6,640
    (nothing_held, 19, "S7"),  # 6,640
    (mutants.renewed_goes_first, 19, "S7"),  # 6,664
    (mutants.reads_joined_under_way, 121, "S5"),  # 7,395
]

IN_CORNERS: Final[list[tuple[Mutate, Callable[[World], Awaitable[None]], str]]] = [
    (replay_begins_late, corners.lost_then_cut, "S5"),  # 288
    (anything_usable, corners.rewound_while_suspect, "S5"),  # 302
    (mutants.left_connection_heard, corners.rewound_and_left, "S5"),  # 325
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
    mutate: Mutate, corner: Callable[[World], Awaitable[None]], promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(PromiseBroken, match=f"{promise} broken"):
        run_checked(1, corner)
