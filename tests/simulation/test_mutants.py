"""The simulator can fail: when a patch takes a rule out of the product, a promise breaks in the world named here.

Each mutant is listed with the place that catches it: the seed of a random schedule, with the number of steps (events of
the trace) until then, or a world of `edge_cases`, of 300 to 7,400 steps. Seeds depend on every detail of the run: after
a change of the product, or of Trio, the next seeds are tried too. (Under random schedules those of `edge_cases` were
caught as well, within 25 to 120 seeds, except the last five; `only_the_hub_is_compared` under seeds 173 and 1073.)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.testing.oracle.oracle import PromiseBroken
from softstate.testing.simulation.schedule import draw_schedule, run_schedule
from tests.exhaustive.mutants import (
    anything_usable,
    certified_applied,
    digest_ignored,
    joined_by_the_read_before,
    no_lineage_check,
    no_sweep,
    nothing_held,
    older_applied,
    read_before_entry,
    replay_begins_late,
    reset_keeps_versions,
)
from tests.simulation import edge_cases, mutants

SEEDS_MAX = 40

Mutate = Callable[[pytest.MonkeyPatch], None]

IN_RANDOM_WORLDS: list[tuple[Mutate, int, str]] = [
    (mutants.age_counts_from_the_answer, 0, "S5"),  # 477 steps
    (mutants.tombstones_forgotten, 0, "S5"),  # 479
    (mutants.numbers_forgotten_in_flight, 2, "S4"),  # 370
    (mutants.pushes_lost_and_counted, 0, "S7"),  # 968
    (mutants.notified_before_commit, 1, "S2"),  # 473
    (no_lineage_check, 10, "S9"),  # 1,466
    (reset_keeps_versions, 767, "S5"),  # 761
    (older_applied, 19, "S1"),  # 183
    (certified_applied, 797, "S1"),  # 4,344
    (mutants.hub_moves_ahead, 5, "S7"),
    (mutants.own_commits_close_gaps, 3, "S5"),  # 1,936
    (no_sweep, 73, "S5"),
    (mutants.connections_survive_a_rewind, 10, "S9"),
    (mutants.only_the_highest_is_compared, 150_115, "S9"),
]

IN_EDGE_CASES: list[tuple[Mutate, edge_cases.EdgeCase, str]] = [
    (read_before_entry, edge_cases.changed_while_read, "S7"),
    (nothing_held, edge_cases.changed_while_read, "S7"),
    (nothing_held, edge_cases.changed_while_greeted, "S7"),
    (joined_by_the_read_before, edge_cases.changed_while_greeted, "S7"),
    (mutants.hub_not_awaited, edge_cases.renewed_while_the_hub_lags, "S5"),
    (mutants.reads_joined_under_way, edge_cases.renewed_while_the_hub_lags, "S5"),
    (mutants.level_without_age, edge_cases.renewed_from_the_level, "S5"),
    (mutants.level_without_age, edge_cases.polled_from_memory, "S5"),
    (mutants.changes_not_noted, edge_cases.polled_from_memory, "S5"),
    (mutants.learnt_too_late, edge_cases.polled_while_changes_pass, "S5"),
    (mutants.level_counts_from_its_end, edge_cases.renewed_from_the_level, "S5"),
    (mutants.renewed_goes_first, edge_cases.renewed_while_congested, "S7"),
    (mutants.replacement_goes_last, edge_cases.renewed_while_congested, "S7"),
    (digest_ignored, edge_cases.names_forgotten, "S7"),
    (replay_begins_late, edge_cases.lost_then_cut, "S5"),
    (anything_usable, edge_cases.rewound_while_suspect, "S5"),
    (mutants.only_the_hub_is_compared, edge_cases.rewound_to_where_the_hub_lags, "S9"),
    (mutants.damaged_passes_for_deleted, edge_cases.damaged_while_followed, "S2"),
    (mutants.damage_spoils_its_page, edge_cases.damaged_while_followed, "S18"),
    (mutants.ages_outlive_a_rewind, edge_cases.published_again_after_a_rewind, "S4"),
    (mutants.left_connection_heard, edge_cases.rewound_and_left, "S5"),
    (mutants.earlier_attempts_forgotten, edge_cases.refused_after_an_answer_was_lost, "S4"),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("mutate", "seed", "promise"), IN_RANDOM_WORLDS, ids=lambda given: getattr(given, "__name__", "")
)
def test_a_mutant_is_caught_in_a_random_world(
    mutate: Mutate, seed: int, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    outcomes = (run_schedule(candidate, draw_schedule(candidate)) for candidate in (seed, *range(SEEDS_MAX)))
    found = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    assert found is not None, f"{mutate.__name__} survived {SEEDS_MAX} seeds"
    assert f"{promise} broken" in found


@pytest.mark.parametrize(
    ("mutate", "edge_case", "promise"), IN_EDGE_CASES, ids=lambda given: getattr(given, "__name__", "")
)
def test_a_mutant_is_caught_in_an_edge_case(
    mutate: Mutate, edge_case: edge_cases.EdgeCase, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(PromiseBroken, match=f"{promise} broken"):
        edge_cases.run(edge_case)
