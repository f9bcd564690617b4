"""Waits for URLs that refuse connections: an even stream of clients when a node comes back."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from softstate.client.machine.backoff import Advice, Rotation
from softstate.client.machine.reach import Reach
from tests.kit.client_network import Network, killed_node_rig
from tests.kit.machine_rig import URL, Rig


def _gaps(spread_s: float, absence_s: float, *, placed: bool) -> list[float]:
    gaps = []
    for seed in range(300):
        reach = Reach(Random(seed))
        if absence_s:
            reach.refused(URL, 100.0 - absence_s, Advice(), spread_s, placed=placed)
        reach.refused(URL, 100.0, Advice(), spread_s, placed=placed)
        gaps.append(reach.allowed_at(URL) - 100.0)
    return gaps


def test_a_dial_in_its_place_of_the_spread_is_repeated_one_spread_later() -> None:
    assert set(_gaps(8.0, 0.0, placed=True)) == {8.0}


def test_a_first_dial_that_was_not_spread_is_repeated_within_the_whole_spread() -> None:
    gaps = _gaps(8.0, 0.0, placed=False)
    assert min(gaps) < 0.8
    assert 7.2 < max(gaps) <= 8.0
    assert set(_gaps(8.0, 3.0, placed=False)) == {8.0}, "by then it has a place"


@pytest.mark.parametrize(("absence_s", "bound_s"), [(0.0, 0.5), (4.0, 2.0), (40.0, 20.0), (600.0, 30.0)])
def test_where_the_spread_is_short_a_wait_is_at_most_half_of_the_absence(absence_s: float, bound_s: float) -> None:
    gaps = _gaps(0.1, absence_s, placed=True)
    assert min(gaps) < 0.1 + 0.05 * bound_s
    assert 0.9 * bound_s < max(gaps) <= bound_s


@pytest.mark.parametrize("down_s", [0.0, 1.5, 4.0, 9.0, 60.0])
def test_however_long_a_node_was_away_its_clients_arrive_in_an_even_stream(down_s: float) -> None:
    """N clients with the spread S that fills half of a node: N / S arrivals a second, and all within S."""
    count, spread_s = 1_500, 4.0
    arrivals: Counter[int] = Counter()
    for seed in range(count):
        rig = killed_node_rig(seed, spread_s)
        died = rig.now
        network = Network(rig, URL)
        network.run(down_s)
        network.down.clear()
        network.run(60.0, until="live")
        arrivals[int((rig.now - died - down_s) * 2)] += 1
    # Half seconds. After a minute the bound of a backoff, 30 s, is wider than the spread.
    even = count * 0.5 / spread_s
    assert max(arrivals.values()) <= 1.25 * even, arrivals
    if down_s <= 9.0:
        assert max(arrivals) * 0.5 <= 1.2 * spread_s, arrivals


def test_dials_and_polls_of_a_herd_after_two_seconds_stay_below_two_a_client() -> None:
    knocks = 0
    for seed in range(300):
        rig = killed_node_rig(seed, spread_s=2.0)
        network = Network(rig, URL)
        network.run(2.0)
        network.down.clear()
        network.run(60.0, until="live")
        knocks += len(network.knocks)
    assert knocks / 300 <= 2.0, knocks / 300


def test_a_first_node_that_is_not_up_yet_is_found_soon() -> None:
    for seed in range(50):
        rig = Rig("a", seed=seed).open()
        network = Network(rig, URL)
        network.run(0.3)
        network.down.clear()
        network.run(5.0, until="live")
        assert rig.now - 1_000.3 <= 1.0


def test_what_is_not_planned_is_not_planned() -> None:
    reach = Reach(Random(1))
    assert reach.allowed_at(URL) == -math.inf
    assert Rotation([URL], Random(1), reach).probe_at is None
    assert not reach.reached(URL)
    reach.probe(URL, 50.0)
    assert not reach.refuses(URL)
