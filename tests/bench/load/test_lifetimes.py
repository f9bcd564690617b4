"""Lifetimes: their mean, their tail, and what is left of them."""

from __future__ import annotations

from random import Random

import pytest

from bench.load.lifetimes import LIFETIME_MEANS_MAX, lifetime_s, mean_lifetime_s, residual_s

SHARES = [(number + 0.5) / 20_000 for number in range(20_000)]


def test_lifetimes_have_their_mean_and_their_tail() -> None:
    random = Random(1)
    drawn = sorted(lifetime_s(random.random(), 3.0) for _ in range(100_000))
    assert drawn[0] >= 1.0
    assert drawn[-1] == LIFETIME_MEANS_MAX * 3.0
    assert drawn[50_000] < 1.7  # most are short
    assert sum(drawn) / len(drawn) == pytest.approx(mean_lifetime_s(3.0), rel=0.01)
    assert 2.2 < mean_lifetime_s(3.0) < 3.0  # the cut-off lowers the mean


def test_what_is_left_of_lives_is_as_renewal_theory_says() -> None:
    lives, left = ([draw(share, 3.0) for share in SHARES] for draw in (lifetime_s, residual_s))
    assert left == sorted(left)
    assert 0.0 < left[0] < 0.001
    assert left[-1] <= LIFETIME_MEANS_MAX * 3.0
    mean_of_squares = sum(life * life for life in lives) / len(lives)
    assert sum(left) / len(left) == pytest.approx(mean_of_squares / (2 * mean_lifetime_s(3.0)), rel=0.01)
