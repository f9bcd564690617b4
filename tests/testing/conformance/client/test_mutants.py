"""The traces kill every mutant of the client's machine, and every broken row of its table."""

from __future__ import annotations

import pytest

from softstate.client.machine.table import ROWS, Row
from softstate.testing.conformance.client.trace import load_all
from tests.testing.conformance.client.mutants import MUTANTS, change_row, first_failure, rows_broken

TRACES = load_all()

OF_NODES = {
    "exhaustive.mutants": """renewed_goes_first read_before_entry joined_by_the_read_before nothing_held
        no_lineage_check digest_ignored connections_survive_a_rewind beats_go_first newer_beats_take_the_place
        beats_survive_a_drop level_not_reached agreement_is_a_flag leases_begin_again hub_not_awaited
        denied_goes_last""",
    "simulation.mutants": """tombstones_forgotten numbers_forgotten_in_flight pushes_lost_and_counted
        notified_before_commit renewed_goes_first replacement_goes_last reads_joined_under_way own_commits_close_gaps
        hub_moves_ahead hub_not_awaited level_without_age level_counts_from_its_end changes_not_noted learnt_too_late
        connections_survive_a_rewind damaged_passes_for_deleted damage_spoils_its_page ages_outlive_a_rewind
        only_the_hub_is_compared only_the_highest_is_compared""",
    "simulation.beat_mutants": """clock_read_behind_the_head head_told_at_once answers_tell_the_clock_of_the_level
        answers_tell_a_time_of_before clock_stands_still_in_suspend beats_go_first newer_beats_take_the_place
        beats_survive_a_drop asked_for_is_agreed_on""",
    "simulation.permission_mutants": """polls_are_not_judged denied_comes_last pushes_of_lost_names_stay
        discarded_pushes_are_counted bad_tokens_are_anonymous revocations_are_heeded_last
        leases_of_a_subject_are_not_found revocations_are_not_read_at_the_start
        nodes_trust_themselves_for_ever tokens_that_were_good_stay_so""",
}
"""Mutants that leave the client as it is."""

SPARED = {f"{module}:{name}" for module, names in OF_NODES.items() for name in names.split()}

EQUIVALENT = {
    "suspect/RENEWED_MATCH without reset_backoff": "it was live before, and nothing since has counted a failure"
}
"""Broken rows that do the same all the same, each with the reason."""

BROKEN = {name: (number, row) for name, number, row in rows_broken()}


@pytest.mark.parametrize("name", sorted(MUTANTS.keys() - SPARED))
def test_a_mutant_fails_in_some_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert first_failure(TRACES), "no trace shows that this rule is missing: write a scenario that does"


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - EQUIVALENT))
def test_a_broken_row_fails_in_some_trace_in_which_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number, row = BROKEN[name]
    modes, triggers, _, _ = ROWS[number]
    cells = {f"row:{mode}/{trigger.name}" for mode in modes for trigger in triggers}
    change_row(monkeypatch, number, row)
    assert first_failure([trace for trace in TRACES if not cells.isdisjoint(trace.header["covers"])])


def test_mutants_that_are_not_tried_exist() -> None:
    assert MUTANTS.keys() >= SPARED
    assert EQUIVALENT.keys() <= BROKEN.keys()


@pytest.mark.parametrize("name", sorted(SPARED))
def test_mutants_of_nodes_leave_the_client_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert first_failure(TRACES[:20]) is None, "it changes the client as well: take it off the list"


def test_the_machine_as_it_is_fails_in_none() -> None:
    assert first_failure(TRACES) is None
    number, row = BROKEN["closed/OPENED without poll_early"]
    assert row == Row("connecting", ROWS[number][3][:1])
