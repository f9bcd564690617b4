"""The five variants over a lossy channel, in small: repeatable, and near their models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.models.measured.signalling import Tuning, measure
from bench.models.theory.signalling import Signalling, Variant, deterministic

SHORT = Signalling(lifetime_s=100.0)


def test_the_same_seed_is_the_same_run() -> None:
    first, again, other = (measure("SS+RTR", SHORT, 40, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.sessions == 40


@pytest.mark.parametrize("variant", ["SS", "SS+RTR", "HS"])
def test_a_small_run_is_near_its_model(variant: Variant) -> None:
    measured, model = measure(variant, SHORT, 120, 1), deterministic(variant, SHORT)
    assert measured.inconsistency.value == pytest.approx(model.inconsistency, rel=0.15)
    assert measured.messages_per_s.value == pytest.approx(model.messages_per_s, rel=0.05)


def test_without_loss_nothing_is_missing_for_longer_than_the_delay() -> None:
    given = replace(SHORT, loss=0.0)
    soft, hard = measure("SS", given, 80, 1), measure("HS", given, 80, 1)
    assert soft.missing.value < 0.003
    assert soft.orphan.value == pytest.approx(0.11, rel=0.1)  # 12.6 s after 100 s
    assert hard.orphan.value < 0.001


def test_hard_state_that_gives_up_leaves_orphans_until_the_detector_comes() -> None:
    given = replace(SHORT, loss=0.5)
    tireless = measure("HS", given, 40, 1)
    tired = measure("HS", given, 40, 1, Tuning(tries_max=2, detector_s=50.0))
    assert tired.orphan.value > 10 * tireless.orphan.value
