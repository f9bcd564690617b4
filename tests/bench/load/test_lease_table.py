"""The two candidates that are compared: they hold and expire the same."""

from __future__ import annotations

import pytest

from bench.load.lease_table import CANDIDATES, LASTS_S, TTL_S, Candidate, live, weigh


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_renewed_lease_outlives_the_others(name: str) -> None:
    candidate: Candidate = CANDIDATES[name](3)
    holders = candidate.grant(["a", "b", "c"], [0.0, 1.0, 2.0])
    candidate.renew(holders[:1], TTL_S)
    assert candidate.expire(LASTS_S, LASTS_S + 2.5) == 2
    assert candidate.expire(LASTS_S + 2.5, TTL_S + LASTS_S + 1) == 1


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("count", [1, 7, 500])
def test_all_steps_and_the_bytes_of_a_lease(name: str, count: int) -> None:
    steps = live(name, count, 2)
    assert steps.keys() == {"grant_s", "renew_s", "pass_s", "expire_s"}
    assert all(seconds >= 0 for seconds in steps.values())
    assert weigh(name, count)["bytes"] > 0
