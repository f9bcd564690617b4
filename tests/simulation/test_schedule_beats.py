"""Fault schedule with a beat each second: clocks, the store, and hosts that are suspended.

`test_schedule_rest.py` has the same faults, and more, with rare beats.
"""

from __future__ import annotations

from typing import Literal

import pytest

from softstate.testing import SimClient, World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import ModeChanged
from tests.kit.simulation_rig import count_of

LIVE_WITHIN_S = Bounds().converge_s


CODECS: dict[str, Literal["cbor", "json"]] = {"a": "cbor", "b": "json"}


async def _followers(world: World) -> list[SimClient]:
    followers = [await world.client(name, "t/", nodes=["n1"], codec=codec) for name, codec in CODECS.items()]
    await world.until(lambda: all(follower.mode == "live" for follower in followers))
    return followers


async def _commit(world: World, for_s: float, every_s: float) -> None:
    random = world.seeds.random(f"commits {world.now}")
    ends = world.now + for_s
    number = 0
    while world.now < ends:
        await world.sleep(random.uniform(0.0, 2.0) * every_s)
        number += 1
        world.faults.commit(f"t/{random.randrange(5)}", number, deleted=random.random() < 0.2)


@pytest.mark.parametrize(("node", "client"), [(1.01, 0.99), (0.99, 1.01)])
def test_k1_ages_hold_while_two_clocks_move_apart_for_ten_minutes(node: float, client: float) -> None:
    async def scenario(world: World) -> None:
        follower, other = await _followers(world)
        world.faults.clock_rate("n1", node)
        world.faults.clock_rate("a", client)
        world.faults.call_slow("n1", "feed", 0.5, 0.5)
        await _commit(world, 600.0, 0.5)
        assert count_of(follower, "beats") > 500
        assert follower.mode == other.mode == "live"
        assert count_of(follower, "polls") == count_of(other, "polls") == 0

    world, oracle = run_checked(41, scenario, nodes=1, sample_every_s=0.25)
    assert oracle.wire.beats > 1_000
    assert 0.0 <= oracle.clients.margin_s < 1.0
    assert _modes(world, "a") in (["live"], ["syncing", "live"])  # by whether it was subscribed before the welcome


def test_d1_beats_go_on_while_the_store_is_down_and_nobody_polls() -> None:
    async def scenario(world: World) -> None:
        followers = await _followers(world)
        await _commit(world, 10.0, 0.5)
        world.faults.store_down()
        before = count_of(followers[0], "beats")
        await _commit(world, 60.0, 1.0)
        assert count_of(followers[0], "beats") - before > 55
        for follower in followers:
            assert follower.age() > 55.0
            assert count_of(follower, "polls") == 0
        world.faults.store_down(down=False)
        await world.until(lambda: all(follower.age() < 2.0 for follower in followers), 10.0)

    world, oracle = run_checked(42, scenario, nodes=1, sample_every_s=0.25)
    assert oracle.wire.beats > 100
    for client in CODECS:
        assert "suspect" not in _modes(world, client)
        assert _modes(world, client)[-1] == "live"


@pytest.mark.parametrize(
    ("host", "for_s"), [("n1", 1.0), ("n1", 10.0), ("n1", 100.0), ("a", 1.0), ("a", 10.0), ("a", 600.0)]
)
def test_k2_ages_count_a_suspend_and_clients_are_live_again(host: str, for_s: float) -> None:
    async def scenario(world: World) -> None:
        followers = await _followers(world)
        await _commit(world, 5.0, 0.3)
        world.faults.freeze(host)
        await _commit(world, for_s, max(for_s / 40, 0.1))
        world.faults.thaw(host)
        assert followers[0].age() >= 0.95 * for_s - 1.0
        world.faults.commit("t/x", "last")
        await world.until(
            lambda: all(follower.mode == "live" and follower.age() < 3.0 for follower in followers), LIVE_WITHIN_S
        )
        await _commit(world, 10.0, 0.3)

    _, oracle = run_checked(43, scenario, nodes=1, sample_every_s=0.1)
    assert oracle.wire.beats > 30


def _modes(world: World, client: str) -> list[str]:
    return [changed.mode for changed in world.trace.of(ModeChanged) if changed.client == client]
