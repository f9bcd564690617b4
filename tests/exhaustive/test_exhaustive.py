"""Exhaustive search: every order of messages, commits, faults and timers in small worlds of the real machines.

Each world has a client or two, one node and its successor, at most three commits and a rewind (`Bounds`). Client and
session machines, lease table and paging are the product's; hub, outbox, store and network are modelled (`node.py`,
`step.py`). At every step the oracle checks S1, S2, S5, S7, S8 and S9; from every state, the world has to converge
without further faults. Worlds that CI can visit whole must be exhausted; the others are cut off, and random walks go
deeper than breadth gets in time.

After a change of a machine, or of the protocol:

1. ``pytest tests/exhaustive -rP`` (minutes). It shows the counts of each search. They are the same in every run, so
   a change that is meant to keep behaviour keeps them, state by state.
2. A `Counterexample` names the promise, and its `trace` has the steps: ``0 gets Renewed`` is client 0 reading a
   message, ``read for 0.1`` a store read begun for the first connection of client 0. It is one of the shortest.
3. A new rule: take it out in `mutants.py`, and add it with the smallest bounds that catch it to
   ``test_exhaustive_mutants.py``. If no search catches it, either the rule or a step of the small world is missing.
4. A new field of a machine: read `copies.py`. ``test_copies.py`` compares machines that were taken for equal.
5. A larger search by hand:
   ``python -c "from tests.exhaustive.search import *; print(explore(Bounds(rewinds=1, cuts=1), 1_000_000))"``
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.exhaustive.search import Search, explore
from tests.exhaustive.state import Bounds

A = ("a", False)
B = ("b", False)
GONE = ("a", True)

COLD = Bounds(names=(("a",),), commits=(A, GONE), ticks=1)
WARM = Bounds(names=(("/",),), commits=(A, B), first=1, warm=True, split_reads=False)
TWO = Bounds(names=(("/",), ("a",)), commits=(A, B, GONE), first=1, warm=True, ticks=0, split_reads=False)

WHOLE = {
    "a topic, from the start": COLD,
    "a prefix, from the start": replace(COLD, names=(("/",),), commits=(A, B)),
    "a topic and a prefix over it": replace(COLD, names=(("a", "/"),), commits=(A, GONE), split_reads=False),
    "congested, with timers": replace(WARM, commits=(A, B, GONE), ticks=2, conflates=True),
    "leases that end": replace(WARM, ticks=1, expiries=1, conflates=True),
    "amnesia": replace(WARM, ticks=1, forgets=1),
    "a lost connection": replace(WARM, ticks=0, cuts=1),
    "a crash": replace(WARM, ticks=0, crashes=1),
    "a rewind": replace(WARM, ticks=0, rewinds=1),
    "a rewind of three": replace(WARM, commits=(A, B, GONE), first=2, ticks=0, rewinds=1),
    "beats, congested": replace(WARM, commits=(A, B, GONE), ticks=1, conflates=True, beats=2),
    "beats and leases that end": replace(WARM, ticks=0, expiries=1, conflates=True, beats=1),
    "beats and amnesia": replace(WARM, ticks=0, forgets=1, beats=1),
    "beats and a lost connection": replace(WARM, ticks=0, cuts=1, beats=1),
    "beats and a rewind that is not noticed": replace(WARM, ticks=0, rewinds=1, beats=1, unnoticed=True),
    "beats and a name more": replace(WARM, names=(("a",),), later="b", ticks=0, conflates=True, beats=1),
    "a name that is denied": replace(WARM, names=(("a",),), later="b", ticks=1, conflates=True, denied="a"),
    "beats and a name that is denied": replace(
        WARM, names=(("a",),), later="b", ticks=0, conflates=True, beats=1, denied="a"
    ),
    "two clients, congested, with timers": replace(TWO, conflates=True, ticks=1),
    "two clients, with timers": replace(TWO, ticks=1),
}

PART = {
    "a rewind at the start": replace(COLD, first=1, rewinds=1, crashes=1),
    "two clients and a rewind": replace(TWO, rewinds=1),
    "two clients, from the start": replace(COLD, names=(("/",), ("a",)), ticks=1),
    "a rewind, a crash, a cut": replace(WARM, ticks=1, rewinds=1, crashes=1, cuts=1, late=True),
}

STATES_MAX = 30_000
CUT_OFF_AT = 8_000

WALKED = Bounds(
    names=(("/",), ("a", "b")), commits=(A, B, GONE), ticks=4, cuts=1, rewinds=1, crashes=1, expiries=1, forgets=1,
    late=True, in_flight_max=99,
)  # fmt: skip


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", WHOLE)
def test_a_small_world_is_visited_whole(name: str) -> None:
    report = explore(WHOLE[name], STATES_MAX)
    print(f"{name}: {report}")
    assert report.exhausted


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", PART)
def test_a_larger_world_is_visited_in_part(name: str) -> None:
    report = explore(PART[name], CUT_OFF_AT)
    print(f"{name}: {report}")
    assert report.transitions > CUT_OFF_AT


@pytest.mark.parametrize("part", [0.0, 0.5])
@pytest.mark.parametrize("conflates", [False, True])
def test_walks_at_random_converge(conflates: bool, part: float) -> None:
    report = Search(replace(WALKED, conflates=conflates, part=part), 0).walk(seed=1, walks=60, steps_max=60)
    print(f"walks: {report}")
    assert report.transitions > 0
