"""Beats are proven rule by rule: each mutant breaks a promise in the world named here, which keeps all of them without.

Not here, since no simulated world shows that they are needed by themselves:

- Answers from a level tell its age (P-REN-12): `level_without_age` in `test_mutants.py`, without any beat.
- A rewind clears the level (P-BEAT-2): no node tells it to sessions of another history either, and no client takes it;
  `levels_outlive_a_rewind` takes out all three. In a simulated world the first alone is enough, too: its store tells a
  node of a rewind in the next call.
- No beat is sent between a drop and the next agreement: the lease is over then, and the client knows.
- Answers to what was sent ahead of a reset are void: certificates go wrong without any beat.
- Names that are denied (P-AUTH-5): `denied_comes_last` in `test_permission_mutants.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.testing.oracle.oracle import PromiseBroken
from tests.exhaustive.mutants import agreement_is_a_flag, leases_begin_again, resumption_is_agreement
from tests.simulation import beat_cases, beat_mutants as mutants

Mutate = Callable[[pytest.MonkeyPatch], None]

CAUGHT: list[tuple[str, Mutate, beat_cases.BeatCase, str]] = [
    ("P-BEAT-2", mutants.clock_read_behind_the_head, beat_cases.head_read_slowly, "S5"),
    ("P-BEAT-2", mutants.head_told_at_once, beat_cases.head_read_slowly, "S7"),
    ("P-BEAT-4", mutants.beats_go_first, beat_cases.congested, "S7"),
    ("P-BEAT-6", mutants.clocks_taken_for_exact, beat_cases.clocks_apart, "S5"),
    ("P-BEAT-6", mutants.earlier_readings_shrunk, beat_cases.renewed_after_the_last_level, "S5"),
    ("P-BEAT-3", mutants.answers_tell_the_clock_of_the_level, beat_cases.renewed_from_a_level, "S5"),
    ("P-BEAT-3", mutants.answers_tell_a_time_of_before, beat_cases.renewed_from_a_level, "S5"),
    ("P-BEAT-2", agreement_is_a_flag, beat_cases.name_forgotten, "S7"),
    ("P-SUB-14", leases_begin_again, beat_cases.subscribed_to_a_forgotten_lease, "S7"),
    ("P-BEAT-2", mutants.beats_outlive_leases, beat_cases.asleep_past_its_lease, "S7"),
    ("P-BEAT-4", mutants.beats_survive_a_drop, beat_cases.dropped, "S7"),
    ("P-BEAT-4", mutants.newer_beats_take_the_place, beat_cases.congested, "S7"),
    ("P-BEAT-5", resumption_is_agreement, beat_cases.resumed_with_a_name_less, "S5"),
    ("P-BEAT-6", mutants.anchors_outlive_connections, beat_cases.moved_to_a_clock_ahead, "S5"),
    ("P-BEAT-5", mutants.pages_certify, beat_cases.listed_in_pages, "S5"),
    ("P-BEAT-5", mutants.beats_certify_all_names, beat_cases.subscribed_while_beats_go_on, "S5"),
    ("P-BEAT-5", mutants.one_beat_for_a_connection, beat_cases.subscribed_while_beats_go_on, "S5"),
    ("P-BEAT-5", mutants.certificates_outlive_a_replacement, beat_cases.subscribed_again, "S5"),
    ("P-BEAT-3", mutants.clock_stands_still_in_suspend, beat_cases.suspended_until_renewed, "S5"),
    ("P-BEAT-5", mutants.levels_outlive_a_rewind, beat_cases.rewound, "S7"),
]


@pytest.mark.parametrize("case", dict.fromkeys(case for _, _, case, _ in CAUGHT))
def test_a_case_breaks_no_promise(case: beat_cases.BeatCase) -> None:
    _, oracle = beat_cases.run(case)
    assert oracle.wire.beats > 10


@pytest.mark.parametrize(
    ("rule", "mutate", "case", "promise"), CAUGHT, ids=lambda given: getattr(given, "__name__", str(given))
)
def test_a_mutant_is_caught(
    rule: str, mutate: Mutate, case: beat_cases.BeatCase, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(PromiseBroken) as broken:
        beat_cases.run(case)
    assert broken.value.violations[0].promise == promise, f"{rule} is missing"
