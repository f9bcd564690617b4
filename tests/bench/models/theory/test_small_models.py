"""The small models: known values, and limits that need no calculation."""

from __future__ import annotations

import math

import pytest

from bench.models.theory import announce, copies, herd_law, lease_term
from bench.models.theory.announce import Announcing


@pytest.mark.parametrize(
    ("given", "consistency", "share"),
    [
        (Announcing(0.1, 0.1, 0.8), 0.712, 0.890),
        (Announcing(0.2, 0.05, 0.9), 0.8445, 0.9383),
        (Announcing(0.05, 0.2, 0.7), 0.5542, 0.7917),
    ],
)
def test_announcing_has_its_known_values(given: Announcing, consistency: float, share: float) -> None:
    assert announce.consistency(given) == pytest.approx(consistency, abs=1e-3)
    assert announce.held_share(given) == pytest.approx(share, abs=1e-3)
    closed = (1 - given.loss) * (1 - given.death) / (1 - given.loss * (1 - given.death))
    assert announce.held_share(given) == pytest.approx(closed)


def test_a_lease_of_ten_seconds_leaves_a_tenth_of_the_load() -> None:
    """The measurement of the V system: 10 % at 10 s, which fits 0.86 reads a second."""
    assert lease_term.relative_load(0.86, 10.0) == pytest.approx(0.104, abs=1e-3)
    none, ten = (lease_term.consistency_load(100, 0.86, 0.04, 1, term) for term in (0.0, 10.0))
    assert ten / none == pytest.approx(0.104, abs=1e-3)


def test_a_lease_is_worthwhile_only_if_reads_outweigh_approvals() -> None:
    term_s = lease_term.worthwhile_term_s(0.86, 0.04, 10)
    equal = lease_term.consistency_load(1, 0.86, 0.04, 10, term_s)
    assert equal == pytest.approx(lease_term.consistency_load(1, 0.86, 0.04, 10, 0.0))
    assert lease_term.worthwhile_term_s(0.1, 0.1, 2) == math.inf


@pytest.mark.parametrize(("stale_s", "crossover"), [(1.0, 0.95), (5.0, 0.15), (10.0, 0.05), (20.0, 0.0), (40.0, 0.0)])
def test_the_crossover_of_lease_and_poll(stale_s: float, crossover: float) -> None:
    assert lease_term.crossover_per_s(stale_s, 20.0) == pytest.approx(crossover)
    if crossover:
        lease = lease_term.lease_cost_per_s(20.0, crossover)
        assert lease == pytest.approx(lease_term.poll_cost_per_s(stale_s))


def test_copies_have_their_known_values() -> None:
    assert copies.polled(1 / 20, 5.0) == pytest.approx(0.1152, abs=1e-4)
    assert copies.polled(1 / 20, 20.0) == pytest.approx(0.3679, abs=1e-4)
    assert copies.repaired(1 / 20, 0.05, 0.1, 20.0) == pytest.approx(3.92e-2, rel=2e-3)
    assert copies.repaired(1 / 20, 0.05, 1.0, 20.0) == pytest.approx(0.3679, rel=0.01)
    assert copies.outage(1 / 20, 20.0) == copies.polled(1 / 20, 20.0)


def test_copies_at_their_limits() -> None:
    assert copies.repaired(0.05, 0.03, 0.0, 20.0) == pytest.approx(copies.pushed(0.05, 0.03))
    assert copies.unrepaired(0.05, 0.03, 0.0) == pytest.approx(copies.pushed(0.05, 0.03))
    assert copies.unrepaired(0.05, 0.0, 0.1) == pytest.approx(0.1)
    assert copies.polled_with_jitter(0.05, 20.0, 0.0) == pytest.approx(copies.polled(0.05, 20.0))
    assert copies.polled_with_jitter(0.05, 20.0, 0.2) > copies.polled(0.05, 20.0)


def test_a_forgotten_subscription_is_old_from_the_next_change_on() -> None:
    assert copies.forgotten(1e6, 0.01, 20.0) == pytest.approx(0.1, rel=1e-3)  # half of a renewal, at once
    assert copies.forgotten(1e-6, 0.01, 20.0) == pytest.approx(0.0, abs=1e-4)
    assert copies.forgotten_for_good(1e6, 0.01, 100.0) == pytest.approx(copies.outage(0.01, 100.0), rel=1e-3)
    assert copies.forgotten_for_good(0.2, 0.005, 1e7) == pytest.approx(1.0, abs=1e-3)


def test_the_collapse_law() -> None:
    assert herd_law.frontier_s(5.0, herd_law.mean_backoff_s(30.0)) == 25.0
    assert herd_law.least_s(50_000, 1_000.0) == 50.0
    assert herd_law.spread_share(20.0, 66.7) == pytest.approx(0.3, abs=1e-3)


def test_a_silent_node_is_dialled_once_a_cycle() -> None:
    slope = herd_law.silent_share(1e-6, 30.0, 5.0) / 1e-6
    assert 1_000 * slope == pytest.approx(herd_law.silent_peak_per_s(1_000, 30.0, 5.0), rel=1e-3)
    assert herd_law.silent_share(35.0, 30.0, 5.0) == pytest.approx(1.0)
    assert herd_law.silent_share(10.0, 30.0, 1e-9) == pytest.approx(herd_law.residual_share(10.0, 30.0))


def test_polls_that_find_the_node_delay_half_of_a_herd_by_a_first_backoff() -> None:
    dialled, back = herd_law.silent_share(5.0, 30.0, 5.0), herd_law.silent_back_share(5.0, 30.0, 5.0, 1.0)
    assert dialled - back == pytest.approx(0.5 / 20 / 2, rel=0.05)
    assert herd_law.silent_back_share(5.0, 30.0, 5.0, 0.0) == pytest.approx(dialled)


def test_the_fullest_period_of_an_even_stream_grows_with_their_number() -> None:
    assert herd_law.fullest_share(1, 100.0) == pytest.approx(1 + 0.233, abs=1e-3)
    assert herd_law.fullest_share(100, 100.0) == pytest.approx(1 + 0.372, abs=1e-3)
    assert herd_law.fullest_share(100, 1e6) < 1.01


def test_the_residual_law_of_backoff() -> None:
    for share, part in ((0.5, 0.293), (0.9, 0.684), (0.99, 0.9)):
        assert herd_law.residual_share(part * 30.0, 30.0) == pytest.approx(share, abs=1e-3)
    assert herd_law.residual_share(31.0, 30.0) == 1.0
    slope = herd_law.residual_share(1e-6, 30.0) / 1e-6
    assert 1_000 * slope == pytest.approx(herd_law.residual_peak_per_s(1_000, 30.0), rel=1e-3)
