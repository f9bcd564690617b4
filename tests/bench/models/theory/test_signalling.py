"""The signalling models: known values of the chain, limits that need no calculation, and the solver."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.models.theory.signalling import (
    VARIANTS,
    Signalling,
    Variant,
    chain,
    deterministic,
    false_removal,
    stationary,
    transmissions,
)

DEFAULT = Signalling()


@pytest.mark.parametrize(
    ("variant", "default", "messages", "lossy", "short", "often"),
    [
        ("SS", 1.383e-2, 0.2505, 9.70e-2, 1.36e-1, 4.16e-3),
        ("SS+ER", 5.79e-3, 0.2510, 9.19e-2, 9.74e-3, 2.55e-3),
        ("SS+RT", 9.89e-3, 0.3019, 1.24e-2, 1.32e-1, 3.29e-3),
        ("SS+RTR", 1.652e-3, 0.3031, 4.22e-3, 2.26e-3, 1.64e-3),
        ("HS", 1.655e-3, 0.1031, 4.13e-3, 2.27e-3, 1.655e-3),
    ],
)
def test_the_chain_has_its_known_values(
    variant: Variant, default: float, messages: float, lossy: float, short: float, often: float
) -> None:
    assert chain(variant, DEFAULT).inconsistency == pytest.approx(default, rel=4e-3)
    assert chain(variant, DEFAULT).messages_per_s == pytest.approx(messages, rel=2e-3)
    assert chain(variant, replace(DEFAULT, loss=0.3)).inconsistency == pytest.approx(lossy, rel=4e-3)
    assert chain(variant, replace(DEFAULT, lifetime_s=100.0)).inconsistency == pytest.approx(short, rel=4e-3)
    assert chain(variant, DEFAULT.with_refresh(1.0)).inconsistency == pytest.approx(often, rel=4e-3)


def test_a_timeout_of_two_refreshes_is_the_best_for_pure_soft_state() -> None:
    found = {timeout: chain("SS", replace(DEFAULT, timeout_s=timeout)).inconsistency for timeout in (5.0, 10.0, 30.0)}
    assert found == {
        5.0: pytest.approx(2.42e-2, rel=5e-3),
        10.0: pytest.approx(1.13e-2, rel=5e-3),
        30.0: pytest.approx(2.19e-2, rel=5e-3),
    }


@pytest.mark.parametrize(
    ("variant", "inconsistency", "messages"),
    [
        ("SS", 1.315e-2, 0.226), ("SS+ER", 6.2e-3, 0.227), ("SS+RT", 8.7e-3, 0.289),
        ("SS+RTR", 1.64e-3, 0.290), ("HS", 1.64e-3, 0.114),
    ],
)  # fmt: skip
def test_constant_timers_have_the_values_that_were_simulated_for_them(
    variant: Variant, inconsistency: float, messages: float
) -> None:
    model = deterministic(variant, DEFAULT)
    assert model.inconsistency == pytest.approx(inconsistency, rel=0.025)
    assert model.messages_per_s == pytest.approx(messages, rel=0.01)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_loss_an_update_is_inconsistent_for_the_delay_alone(variant: Variant) -> None:
    model = deterministic(variant, replace(DEFAULT, loss=0.0))
    orphan_s = {"SS": 15 - 2.396 + 0.03, "SS+RT": 15 - 2.396 + 0.03}.get(variant, 0.03)
    expected = 1 - 1800 / (1800 + orphan_s) / (1 + 0.03 / (20 - 0.03)) * 1800 / 1800.03
    assert model.inconsistency == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize("loss", [0.02, 0.3, 0.6])
def test_without_delays_pure_soft_state_agrees_until_an_update_or_until_a_timeout_without_refreshes(
    loss: float,
) -> None:
    """Both agree from a message that arrives until the next update, as long as the last refreshes are not all lost."""
    model = deterministic("SS", replace(DEFAULT, loss=loss, delay_s=1e-6, lifetime_s=1e9))
    sent_per_s = (1 / 20) / (1 - math.exp(-5 / 20))
    agree_s = sum((loss * math.exp(-5 / 20)) ** refreshes for refreshes in range(3)) * 20 * (1 - math.exp(-5 / 20))
    assert 1 - model.inconsistency == pytest.approx((1 - loss) * sent_per_s * agree_s, rel=1e-4)


def test_a_retransmission_timer_of_four_delays_fires_too_early_for_nine_of_a_hundred() -> None:
    assert transmissions(replace(DEFAULT, loss=0.0)) == pytest.approx(1.0918, abs=1e-4)
    assert transmissions(replace(DEFAULT, loss=0.0, retransmit_s=3.0)) == pytest.approx(1.0)
    assert transmissions(replace(DEFAULT, loss=0.1, retransmit_s=3.0)) == pytest.approx(1 / 0.81)


def test_false_removal_needs_the_loss_of_all_refreshes_of_a_timeout() -> None:
    assert false_removal(DEFAULT) == pytest.approx(0.02**3 / 15)


def test_the_stationary_distribution_balances() -> None:
    assert stationary([[0, 1], [3, 0]]) == pytest.approx([0.75, 0.25])
    assert stationary([[0, 1, 0], [0, 0, 2], [4, 0, 0]]) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
