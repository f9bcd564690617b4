"""Streams in simulated worlds: no age is too young, also behind a relay that holds bytes back (P-SSE-3, S5)."""

from __future__ import annotations

from typing import Any

import pytest

from softstate.server import ServerConfig
from softstate.testing import PromiseBroken, World
from softstate.testing.event_reader import StreamReader
from softstate.testing.network.holding_relay import HoldingRelay
from softstate.testing.simulation import schedule as schedules
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.schedule import draw_schedule, run_schedule
from softstate.testing.trace import AgeSampled, ChangeDelivered, ResetDelivered
from tests.kit.simulation_rig import churn

DAMAGED, FORGOTTEN, CUT_OFF = 17, 25, 50
"""Seeds of random schedules: a record is damaged; a lease of a stream loses names; a stream ends behind a reset."""

HOLD_S = 9.0
"""The longest time for which the relay holds back what a node sends."""


async def relay(world: World, node: str = "n1") -> HoldingRelay:
    held = HoldingRelay(world.network, "proxy", node, world.seeds.random("relay"), HOLD_S)
    world.nursery.start_soon(held.run)
    await world.settled()
    return held


def ages(world: World, name: str) -> list[float]:
    return [sample.age_s for sample in world.trace.of(AgeSampled) if sample.client == name]


async def held_back(world: World) -> None:
    proxy = await relay(world)
    listener = await world.listener("slow", "t/", "single", urls=[proxy.url])
    await world.listener("direct", "t/", "single", nodes=["n1"])
    await world.client("p")
    await churn(world, 300, 1.7)
    assert proxy.bursts > 30
    assert listener.streams >= 3, "streams end, and go on"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_relay_that_holds_bytes_back_makes_ages_large_and_none_too_young(seed: int) -> None:
    world, _ = run_checked(seed, held_back, nodes=1)
    slow, direct = sorted(ages(world, "slow")), sorted(ages(world, "direct"))
    assert slow[len(slow) // 2] > direct[len(direct) // 2] + HOLD_S / 4
    assert direct[len(direct) // 2] < 4
    assert {event.topic for event in world.trace.of(ChangeDelivered) if event.client == "slow"}


def test_the_time_since_the_last_event_would_be_an_age_that_is_too_young(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = StreamReader._synced

    def naive(self: StreamReader, told: dict[str, Any], position: str, now: float) -> None:
        synced(self, told, position, now)
        self._asof = now

    monkeypatch.setattr(StreamReader, "_synced", naive)
    with pytest.raises(PromiseBroken) as broken:
        run_checked(1, held_back, nodes=1)
    assert {each.promise for each in broken.value.violations} == {"S5"}


@pytest.mark.parametrize("seed", [3, 4])
def test_streams_go_on_at_another_node_when_one_crashes(seed: int) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listener("a", "t/", "single")
        await world.client("p")
        await churn(world, 40, 2.0)
        for node in ("n1", "n2", "n1"):
            world.faults.crash(node)
            await churn(world, 30, 2.0)
            await world.faults.restart(node)
            await churn(world, 30, 2.0)
        assert listener.streams > 2
        assert listener.reader.resets == 0

    world, _ = run_checked(seed, scenario, nodes=2)
    assert not [event for event in world.trace.of(ResetDelivered) if event.client == "a"]


def test_a_restored_store_is_told_before_anything_of_its_history() -> None:
    async def scenario(world: World) -> None:
        listener = await world.listener("a", "t/", "single")
        await world.client("p")
        await churn(world, 20, 1.0)
        world.faults.backup("early")
        await churn(world, 20, 1.0)
        world.faults.rewind("early", advance=2)
        await churn(world, 60, 1.0)
        assert listener.reader.resets >= 1

    run_checked(5, scenario, nodes=2)


def test_streams_that_end_often_lose_nothing() -> None:
    async def scenario(world: World) -> None:
        listener = await world.listener("a", "t/", "single")
        await world.client("p")
        await churn(world, 200, 0.7)
        assert listener.streams > 15

    run_checked(6, scenario, nodes=2, config=ServerConfig(stream_s=8.0))


@pytest.mark.parametrize(("listening", "node"), [(1.01, 0.99), (0.99, 1.01)])
def test_both_clocks_may_be_wrong_by_one_per_cent(listening: float, node: float) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listener("a", "t/", "single", nodes=["n1"])
        listener.clock.set_rate(listening)
        world.faults.clock_rate("n1", node)
        await world.client("p")
        await churn(world, 300, 3.0)

    run_checked(7, scenario, nodes=1)


@pytest.mark.parametrize("seed", [0, 1, DAMAGED, FORGOTTEN, CUT_OFF])
def test_in_random_schedules_no_listener_is_told_an_age_that_is_too_young(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = schedules._play

    async def with_listeners(world: World, pace: Any, schedule: Any) -> None:
        proxy = await relay(world)
        await world.listener("direct", "t/", "single")
        await world.listener("relayed", "t/", "single", urls=[proxy.url, world.nodes["n2"].url])
        await play(world, pace, schedule)

    monkeypatch.setattr(schedules, "_play", with_listeners)
    outcome = run_schedule(seed, draw_schedule(seed))
    assert outcome.error is None, f"seed {seed}: {outcome.error}"
