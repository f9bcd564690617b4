"""The exhaustive check can fail: each clause of PROTOCOL.md that a mutant takes out breaks a promise in a small world.

A mutant is caught when a search that finds nothing without it finds a counterexample with it. Beside each stands such a
search. With ``-rP`` the traces are shown; each is one of the shortest.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.exhaustive.mutants import (
    Mutation,
    anything_usable,
    certified_applied,
    connections_survive_a_rewind,
    digest_ignored,
    hub_not_awaited,
    joined_by_the_read_before,
    left_connection_heard,
    no_lineage_check,
    no_sweep,
    nothing_held,
    older_applied,
    read_before_entry,
    renewed_goes_first,
    replay_begins_late,
    reset_keeps_versions,
    void_answers_believed,
)
from tests.exhaustive.oracle import Counterexample
from tests.exhaustive.search import explore
from tests.exhaustive.state import Bounds

STATES_MAX = 60_000

TWO = (("a", False), ("a", False))
GONE = (("a", False), ("a", True))
LIVE = Bounds(names=(("a",),), commits=TWO, warm=True, ticks=1, split_reads=False)
COLD = Bounds(names=(("a",),), commits=TWO, ticks=0)
REWOUND = Bounds(
    names=(("/",),), commits=(("a", False), ("b", False)), first=1, warm=True, rewinds=1, ticks=1, split_reads=False
)

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
]


@pytest.mark.parametrize(("mutation", "bounds"), MUTANTS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_mutant_is_caught(mutation: Mutation, bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    with pytest.raises(Counterexample) as caught:
        explore(bounds, STATES_MAX)
    print(f"{mutation.__name__}: {caught.value}")
    print("  " + " → ".join(caught.value.trace))
