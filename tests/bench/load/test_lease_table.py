"""The two lives that are compared: they hold and lose the same."""

from __future__ import annotations

import pytest

from bench.load.lease_table import CANDIDATES, LASTS_S, TTL_S, Candidate, live, weigh


@pytest.mark.parametrize("name", CANDIDATES)
def test_what_was_renewed_outlives_what_was_not(name: str) -> None:
    candidate: Candidate = CANDIDATES[name](3)
    holders = candidate.grant(["a", "b", "c"], [0.0, 1.0, 2.0])
    candidate.renew(holders[:1], TTL_S)
    assert candidate.expire(LASTS_S, LASTS_S + 2.5) == 2
    assert candidate.expire(LASTS_S + 2.5, TTL_S + LASTS_S + 1) == 1


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("count", [1, 7, 500])
def test_a_whole_life_and_its_weight(name: str, count: int) -> None:
    steps = live(name, count, 2)
    assert steps.keys() == {"grant_s", "renew_s", "pass_s", "expire_s"}
    assert all(seconds >= 0 for seconds in steps.values())
    assert weigh(name, count)["bytes"] > 0
