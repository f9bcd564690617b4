"""The exhaustive check can fail: each clause of PROTOCOL.md that a mutant takes out breaks a promise in a small world.

A mutant is caught when a search that finds nothing without it finds a counterexample with it. Beside each stands such a
search. With ``-rP`` the traces are shown; each is one of the shortest.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.exhaustive.mutants import (
    Mutation,
    agreement_is_a_flag,
    anything_usable,
    beats_go_first,
    beats_of_any_history,
    beats_survive_a_drop,
    certified_applied,
    connections_survive_a_rewind,
    denied_goes_last,
    digest_ignored,
    hub_not_awaited,
    joined_by_the_read_before,
    leases_begin_again,
    left_connection_heard,
    level_not_reached,
    newer_beats_take_the_place,
    no_lineage_check,
    no_sweep,
    nothing_held,
    older_applied,
    read_before_entry,
    renewed_goes_first,
    replay_begins_late,
    reset_keeps_versions,
    resumption_is_agreement,
    void_answers_believed,
)
from tests.exhaustive.oracle import Counterexample
from tests.exhaustive.search import Search, explore
from tests.exhaustive.state import Bounds

STATES_MAX = 60_000

TWO = (("a", False), ("a", False))
GONE = (("a", False), ("a", True))
LIVE = Bounds(names=(("a",),), commits=TWO, warm=True, ticks=1, split_reads=False)
COLD = Bounds(names=(("a",),), commits=TWO, ticks=0)
REWOUND = Bounds(
    names=(("/",),), commits=(("a", False), ("b", False)), first=1, warm=True, rewinds=1, ticks=1, split_reads=False
)

BEATEN = replace(LIVE, ticks=0, beats=1)

MUTANTS: list[tuple[Mutation, Bounds]] = [
    (renewed_goes_first, replace(LIVE, conflates=True)),
    (read_before_entry, replace(COLD, ticks=1)),
    (nothing_held, replace(COLD, ticks=1)),
    (joined_by_the_read_before, replace(COLD, ticks=1)),
    (void_answers_believed, replace(REWOUND, cuts=1)),
    (no_lineage_check, REWOUND),
    (anything_usable, replace(COLD, first=1, rewinds=1, ticks=1)),
    (older_applied, replace(COLD, ticks=1)),
    (certified_applied, replace(COLD, names=(("/",),), commits=GONE, ticks=1)),
    (no_sweep, REWOUND),
    (left_connection_heard, replace(LIVE, ticks=2, rewinds=1, late=True)),
    (digest_ignored, replace(LIVE, forgets=1)),
    (replay_begins_late, replace(LIVE, cuts=1)),
    (connections_survive_a_rewind, REWOUND),
    (hub_not_awaited, LIVE),
    (reset_keeps_versions, REWOUND),
    (denied_goes_last, replace(LIVE, conflates=True, later="b", denied="a")),
    (beats_go_first, replace(BEATEN, conflates=True)),
    (newer_beats_take_the_place, replace(BEATEN, conflates=True, beats=2)),
    (beats_survive_a_drop, replace(BEATEN, conflates=True, expiries=1)),
    (level_not_reached, BEATEN),
    (agreement_is_a_flag, replace(BEATEN, forgets=1)),
    (leases_begin_again, replace(BEATEN, forgets=1, later="b")),
    (resumption_is_agreement, replace(BEATEN, forgets=1, cuts=1)),
]

NEW_HISTORY_READ = Bounds(
    names=(("a",),), commits=(("a", False),) * 3, first=1, warm=True, ticks=0, split_reads=False, rewinds=1, cuts=1,
    beats=1, unnoticed=True, later="b",
)  # fmt: skip
UNTIL_THE_BEAT = (
    "commit a", "hub", "head is read for the level", "level", "0 gets Notify", "0 wants b", "cut 0", "0 gets end",
    "0 connects", "rewind to 1, unnoticed", "node hears Hello of 0", "node hears Subscribe of 0", "answer 0.2",
    "0 gets Welcome", "0 gets Error", "node hears Subscribe of 0", "answer 0.2", "0 gets Subscribed", "commit a",
    "beat for 0",
)  # fmt: skip
"""A node reads of a new history, which it has not noticed, for a client that comes back. Its level is of the old one,
and of a revision at which the new one holds a change that the client has not seen."""


@pytest.mark.parametrize(("mutation", "bounds"), MUTANTS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_mutant_is_caught(mutation: Mutation, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    with pytest.raises(Counterexample) as caught:
        explore(bounds, STATES_MAX)
    print(f"{mutation.__name__}: {caught.value}")
    print("  " + " → ".join(caught.value.trace))


def test_a_beat_of_a_history_that_is_over_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    Search(NEW_HISTORY_READ, 0).follow(UNTIL_THE_BEAT)
    beats_of_any_history(monkeypatch)
    with pytest.raises(Counterexample, match="S7"):
        Search(NEW_HISTORY_READ, 0).follow([*UNTIL_THE_BEAT, "0 gets Beat"])
