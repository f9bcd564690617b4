"""Random walks of a client, a node and its store: a matching `renewed` at R covers every change up to R (S7).

The walks are those of `tests.kit.session_walk`; its client believes what it is sent, and notes what is certified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from random import Random

import pytest

from softstate.errors import Rewound
from softstate.lease import Lease, LeaseTable
from softstate.model import Page, Query
from softstate.session import Effect, GapBuffer
from softstate.session.state import SessionCore
from softstate.session.table import TABLE
from softstate.session.termination import expire
from softstate.store.rules.history import Snapshot
from softstate.store.rules.paging import answer
from softstate.wire.messages import Reason
from tests.kit import session_rig
from tests.kit.session_walk import RandomWalk

SEEDS = 60
ROUNDS = 3
SEEDS_OF_COSTS = 30
STEPS = 300


def test_the_walks_match_resume_join_overflow_and_lose_their_lease() -> None:
    """Else the walks below would prove nothing."""
    seen: Counter[str] = Counter()
    for seed in range(30):
        walk = RandomWalk(Random(seed))
        walk.run(STEPS)
        seen += walk.rig.repairs
        seen["match"] += walk.client.matches
        seen["turns"] += walk.turns
        seen["early"] += walk.client.early_answers
    assert all(seen[kind] > 5 for kind in ("match", "resumed", "hold_overflow", "no_lease", "turns", "early"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_walk_certifies_nothing_that_is_missing(seed: int) -> None:
    for number in range(ROUNDS):
        RandomWalk(Random(seed * ROUNDS + number)).run(STEPS)


@pytest.mark.parametrize("page_cost", [1, 4])
def test_a_random_walk_of_pages_that_end_by_their_cost_certifies_nothing_that_is_missing(page_cost: int) -> None:
    for seed in range(SEEDS_OF_COSTS):
        # Without lineage rows: a position whose row is compacted is off the history, which this client does not expect.
        RandomWalk(Random(seed), page_cost, rows=False).run(STEPS)


@pytest.mark.parametrize("mutant", ["it is the last", "it reaches the head"])
def test_the_walks_find_a_page_that_hides_that_its_cost_ended_it(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = 0

    def hiding(query: Query, snapshot: Snapshot) -> Page | Rewound:
        nonlocal cut
        page = answer(query, snapshot)
        if not isinstance(page, Page) or page.upto is None:
            return page
        cut += 1
        if mutant == "it is the last":
            return replace(page, more=False, upto=None)
        return replace(page, upto=page.position.revision)

    monkeypatch.setattr(session_rig, "answer", hiding)
    with pytest.raises(AssertionError):
        for seed in range(200):
            RandomWalk(Random(seed), page_cost=2, rows=False).run(STEPS)
    assert cut > 0


# Mutants: each takes a rule of portions out, and some walk must notice ------------------------------------------------


def the_last_portion_is_left_out(patch: pytest.MonkeyPatch) -> None:
    """The read begins although the last names of a subscribe have not entered the lease."""

    def careless(
        names: Collection[str], size: int, act: Callable[[Collection[str]], object], _weight: int = 1
    ) -> Generator[int, None, None]:
        rest = list(names)
        while len(rest) > size:
            yield size
            act(rest[:size])
            del rest[:size]
        if len(names) <= size:
            act(names)

    patch.setattr("softstate.session.state.in_portions", careless)


def a_request_outlives_its_lease(patch: pytest.MonkeyPatch) -> None:
    """The rest of a subscribe is done though the lease that it began with is over."""

    def stubborn(session: SessionCore, reason: Reason, retry_ms: int | None) -> list[Effect]:
        pending = session.pending
        effects = expire(session, reason, retry_ms)
        session.pending = pending
        return effects

    for cell, rule in list(TABLE.items()):
        if rule.act is expire:
            patch.setitem(TABLE, cell, rule._replace(act=stubborn))


def a_lease_that_is_over_takes_names(patch: pytest.MonkeyPatch) -> None:
    """A lease keeps its deadline while its names are reaped, as if it lived."""

    def late(table: LeaseTable, lease: Lease) -> None:
        del table._leases[lease.token]
        table._reapable.append(lease)

    patch.setattr(LeaseTable, "_end", late)


def a_subscribe_forgets_the_answers_before(patch: pytest.MonkeyPatch) -> None:
    """A push goes out behind the answer that told it, if another subscribe came before the hub had reached that."""
    patch.setattr(GapBuffer, "_follow", lambda *_: None)


def a_subscribe_that_fails_forgets_the_answers_before(patch: pytest.MonkeyPatch) -> None:
    """The same, if the other subscribe fails."""
    patch.setattr(GapBuffer, "give_up", lambda _: None)


def names_that_left_are_kept(patch: pytest.MonkeyPatch) -> None:
    """A client that subscribes to other names again and again, while the hub is behind, makes a buffer grow."""
    patch.setattr(GapBuffer, "uncover", lambda *_: None)


@pytest.mark.parametrize(
    "mutant",
    [
        the_last_portion_is_left_out,
        a_request_outlives_its_lease,
        a_lease_that_is_over_takes_names,
        a_subscribe_forgets_the_answers_before,
        a_subscribe_that_fails_forgets_the_answers_before,
        names_that_left_are_kept,
    ],
)
def test_a_walk_notices_a_rule_that_is_missing(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    for seed in range(SEEDS):
        try:
            RandomWalk(Random(seed)).run(STEPS)
        except (AssertionError, KeyError):
            return
    raise AssertionError(f"no walk of {SEEDS} noticed: {mutant.__doc__}")
