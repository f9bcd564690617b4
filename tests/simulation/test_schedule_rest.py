"""Fault schedule, rows K (clocks), D (the store) and Q (consumers).

Not here: D1 read-only and D4 visibility out of commit order (the memory disk commits in one step, which makes both
impossible; the stores' own tests and `check_store` are about that), Q3 (the digest's own tests), K4 (nothing in the
product reads a wall clock, as `tests/test_architecture.py` enforces), A1 (there is no authentication yet), and H with
10^4 clients and more (a real machine's matter: `softstate drill`, and the benches).
"""

from __future__ import annotations

import math

import pytest

from softstate.server import ServerConfig
from softstate.store.base import Publish
from softstate.testing import Bounds, World
from softstate.testing.checked import run_checked
from softstate.testing.trace import Acknowledged, Applied, Committed, Forgotten, NodeSampled, ResetSeen, Spoken
from tests.simulation.simulation_rig import churn, company, live_again


@pytest.mark.parametrize("rate", [0.9, 0.99, 1.01, 1.1])
@pytest.mark.parametrize("host", ["a", "n1"])
def test_k1_a_clock_runs_at_another_rate(host: str, rate: float) -> None:
    async def scenario(world: World) -> None:
        await company(world)
        world.faults.clock_rate(host, rate)
        await churn(world, 150, 2.0)
        await live_again(world)

    run_checked(21, scenario, nodes=1)


@pytest.mark.parametrize("for_s", [5.0, 40.0, 600.0])
def test_k2_a_client_sleeps(for_s: float) -> None:
    async def scenario(world: World) -> None:
        await company(world)
        world.faults.suspend("a")
        await churn(world, for_s, for_s / 20)
        world.faults.wake("a")
        assert world.clients["a"].age() >= for_s - 1
        await live_again(world)

    run_checked(22, scenario, nodes=1)


@pytest.mark.parametrize("host", ["a", "n1"])
def test_k3_a_process_is_stopped_for_two_leases(host: str) -> None:
    async def scenario(world: World) -> None:
        await company(world)
        world.faults.freeze(host)
        await churn(world, 120, 4.0)
        world.faults.thaw(host)
        await live_again(world)
        await churn(world, 20)

    run_checked(23, scenario, nodes=1)


def test_k4_a_clock_jumps_an_hour() -> None:
    async def scenario(world: World) -> None:
        await company(world)
        for host in ("a", "n1"):
            world.faults.clock_jump(host, 3_600)
            await churn(world, 60, 2.0)
            await live_again(world)

    run_checked(24, scenario, nodes=1)


@pytest.mark.parametrize("how", ["down", "slow", "hanging"])
def test_d1_the_store_is_down_or_slow_and_no_lease_is_lost(how: str) -> None:
    async def scenario(world: World) -> None:
        await company(world)
        if how == "down":
            world.faults.store_down()
        elif how == "slow":
            world.faults.store_slow(1, 2)
        else:
            world.faults.store_hang()
        await churn(world, 300, 5.0)
        held = {lease.client for lease in world.trace.of(NodeSampled)[-1].leases}
        assert {"a", "b"} <= held
        if how != "slow":
            assert min(world.clients[name].age() for name in ("a", "b", "poll")) > 280
            assert not world.trace.of(Acknowledged)
        await world.faults.heal()
        await world.until(lambda: max(world.clients[name].age() for name in ("a", "b", "poll")) < 30, 45)

    world, _ = run_checked(25, scenario, nodes=1)
    assert not [spoken for spoken in world.trace.of(Spoken) if spoken.op == "revoked"]


def test_d1_a_store_slower_than_a_call_may_be_breaks_no_promise() -> None:
    async def scenario(world: World) -> None:
        await company(world)
        world.faults.store_slow(3, 10)
        await churn(world, 200, 5.0)
        await world.faults.heal()
        await live_again(world)

    run_checked(25, scenario, nodes=1)


@pytest.mark.parametrize("expect", [None, 0])
def test_d2_a_commit_of_unknown_outcome_is_asked_again_and_made_once(expect: int | None) -> None:
    async def scenario(world: World) -> None:
        await company(world)
        for number in range(5):
            world.faults.lose_reply("n1")
            world.clients["p"].publish(f"t/{number}", number, expect=expect)
            await world.sleep(3)
        await world.until(lambda: len(world.trace.of(Acknowledged)) == 5, 60)

    world, _ = run_checked(26, scenario, nodes=1)
    assert [committed.value for committed in world.trace.of(Committed)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("advance", [0, 3, 100])
def test_d3_an_older_backup_is_restored(advance: int) -> None:
    async def scenario(world: World) -> None:
        await company(world)
        await churn(world, 10)
        world.faults.backup("b")
        await churn(world, 20)
        world.faults.rewind("b", advance=advance)
        await churn(world, 20)
        await live_again(world)

    world, _ = run_checked(27, scenario)
    assert {seen.client for seen in world.trace.of(ResetSeen)} == {"a", "b", "poll"}


def test_d3_the_store_is_wiped_again_and_again() -> None:
    async def scenario(world: World) -> None:
        await company(world)
        for _ in range(4):
            world.faults.wipe()
            await churn(world, 15)
        await live_again(world)

    run_checked(28, scenario)


def test_d5_tombstones_are_forgotten_while_a_client_is_away() -> None:
    async def scenario(world: World) -> None:
        await company(world)
        for number in range(10):
            world.faults.commit(f"t/{number}", number)
        await world.until(lambda: all(len(world.clients[name].known()) == 10 for name in ("a", "b", "poll")), 30)
        for name in ("a", "poll"):
            world.faults.partition(name, "n1")
        for number in range(5):
            world.clients["p"].delete(f"t/{number}")
        await world.sleep(10)
        world.faults.note("compact")
        world.disk.image.compact(world.disk.image.head, 0)
        await world.sleep(100)
        for name in ("a", "poll"):
            world.faults.connect_again(name, "n1")
        await world.sleep(60)
        for name in ("a", "poll"):
            assert sorted(t for t, change in world.clients[name].known().items() if not change.deleted) == [
                f"t/{number}" for number in range(5, 10)
            ]  # fmt: skip

    run_checked(29, scenario, nodes=1)


def test_d5_tombstones_are_forgotten_between_two_pages() -> None:
    async def scenario(world: World) -> None:
        await world.client("p")
        for number in range(60):
            world.faults.commit(f"t/{number}", "x" * 60_000)
        reads = 0

        def forget() -> None:
            nonlocal reads
            reads += 1
            for number in range(0, 60, 7):
                world.disk.commit(Publish(f"t/{number}", None))
            world.disk.image.compact(world.disk.image.head, 0)

        world.nodes["n1"].at_point("read.after", forget)
        client = await world.client("a", "t/")
        await world.until(lambda: client.mode == "live" and client.age() < math.inf, 60)
        await churn(world, 20)
        assert reads == 1
        assert world.trace.of(Forgotten)

    run_checked(30, scenario, nodes=1)


@pytest.mark.parametrize("pause_s", [None, 1.0])
def test_q1_a_consumer_stops_reading_or_reads_slowly(pause_s: float | None) -> None:
    config = ServerConfig(congested_s_max=5.0, pending_bytes_max=200_000)

    async def scenario(world: World) -> None:
        await company(world)
        if pause_s is None:
            world.faults.stop_reading("a")
        else:
            world.faults.read_slowly("a", pause_s)
        for number in range(400):
            world.faults.commit(f"t/{number % 30}", "x" * 5_000)
            await world.sleep(0.05)
            if number % 50 == 49:
                assert world.clients["b"].known()[f"t/{number % 30}"].version == world.disk.image.head
        assert world.clients["b"].mode == "live"
        await world.sleep(30)
        world.faults.read_again("a")
        await live_again(world)

    bounds = Bounds(pending_bytes_max=config.pending_bytes_max)
    world, oracle = run_checked(31, scenario, bounds=bounds, nodes=1, config=config)
    assert oracle.nodes.pending > 0
    if pause_s is None:
        assert any("a" not in [lease.client for lease in sample.leases] for sample in world.trace.of(NodeSampled)[6:])


def test_q2_many_updates_of_one_topic_reach_many_followers_as_the_newest_value() -> None:
    updates, followers = 2_000, 20

    async def scenario(world: World) -> None:
        clients = [await world.client(f"c{number}", "t") for number in range(followers)]
        await world.until(lambda: all(client.mode == "live" for client in clients), 30)
        for number in range(updates):
            world.faults.commit("t", number)
            if number % 10 == 9:
                await world.sleep(0.001)
        await world.until(lambda: all(client.known()["t"].value == updates - 1 for client in clients), 5)

    world, oracle = run_checked(32, scenario, nodes=1)
    assert oracle.nodes.pending <= 1
    assert len(world.trace.of(Applied)) >= followers
