"""Fault schedule, rows N: partitions, half-open connections, and single messages lost, doubled, late or out of order.

N9 (proxies that cut idle connections, a cache in front of polls) is in `test_schedule_proxies`.
"""

from __future__ import annotations

import pytest
import trio

from softstate.testing import FrameRule, World
from softstate.testing.network.frame_rules import FrameFault
from softstate.testing.network.frame_tap import Kind
from softstate.testing.oracle.oracle import PromiseBroken
from softstate.testing.simulation.checked_run import run_checked
from tests.kit.simulation_rig import churn, count_of, start_clients, wait_until_live

TO_NODE = ("hello", "subscribe", "renew", "publish")
TO_CLIENT = ("welcome", "subscribed", "notify", "renewed", "published")


@pytest.mark.parametrize("state", ["live", "syncing", "polling"])
@pytest.mark.parametrize("cut", ["N1 to the node", "N2 from the node", "N3 both ways", "N4 node and store"])
def test_a_partition(cut: str, state: str) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        if state != "live":  # caught while it comes back
            rule = FrameRule("delay", "welcome" if state == "polling" else "subscribed", receiver="a", delay_s=2.0)
            world.faults.frames(rule)
            world.faults.amnesia("n1")
            world.faults.reset("a", "n1")
            await world.until(lambda: world.clients["a"].mode == state, 30)
        match cut[:2]:
            case "N1":
                world.faults.stall("a", "n1")
            case "N2":
                world.faults.stall("n1", "a")
            case "N3":
                world.faults.partition("a", "n1")
            case _:
                world.faults.store_down("n1")
        await churn(world, 60)
        if cut[:2] != "N4":
            assert world.clients["a"].mode in ("polling", "offline", "connecting")
            # A node that hears nothing goes on with beats, until the client misses the answer to a renewal.
            assert world.clients["a"].age() > (25 if cut[:2] == "N1" else 50)
        assert world.clients["b"].mode == "live" or (cut[:2] == "N4" and state != "live")
        world.faults.restore_routes("a", "n1")
        world.faults.store_down("n1", down=False)
        # While the store is down no welcome comes, and the first one after it is the one that is late: its `subscribed`
        # overtakes it, which no TCP connection does, and the client tries again after a timeout and a backoff.
        await wait_until_live(world, within_s=45 if state != "polling" else 90)

    run_checked(11, scenario, nodes=1)


def test_n1_to_n3_are_survived_over_another_node() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.partition("a", "n1")
        await churn(world, 90)
        assert world.clients["a"].mode == "live"

    run_checked(12, scenario)


def test_n5_a_half_open_connection_is_noticed() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.half_open("a", "n1")
        began = world.now
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn, world, 60)
            await world.until(lambda: world.clients["a"].mode != "live", 60)
            assert world.now - began <= 1.2 * 20 + 5
            await wait_until_live(world)

    run_checked(13, scenario, nodes=1)


@pytest.mark.parametrize("op", [*TO_NODE, *TO_CLIENT])
@pytest.mark.parametrize("fault", ["drop", "duplicate", "delay", "cut"])
def test_n6_n7_one_message_of_each_type_is_lost_doubled_very_late_or_cut(fault: FrameFault, op: str) -> None:
    async def scenario(world: World) -> None:
        rule = FrameRule(fault, op, delay_s=70.0)
        world.faults.frames(rule)
        for name in ("a", "b"):
            await world.client(name, "t/", "single")
        await world.client("p")
        await churn(world, 100)
        assert rule.hits == 1
        await wait_until_live(world)

    run_checked(14, scenario, nodes=1)


@pytest.mark.parametrize("fault", ["drop", "duplicate"])
def test_n6_n7_many_messages_are_lost_or_doubled(fault: FrameFault) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.frames(FrameRule(fault, share=0.2, times=None, delay_s=3.0))
        await churn(world, 120, 0.5)

    world, _ = run_checked(15, scenario, nodes=1)
    assert world.faults.injected


@pytest.mark.parametrize("seed", range(15, 20))
def test_n7_many_messages_out_of_order_take_no_client_back(seed: int) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.frames(FrameRule("delay", share=0.2, times=None, delay_s=3.0))
        await churn(world, 120, 0.5)

    # No TCP connection does this. A client finds a missing push by counts, and these fail here: a late push makes up
    # for another one that is late. So ages may be wrong (S5), and a change that such a certificate covers stays missing
    # (L), but no client may go back.
    promises: set[str] = set()
    try:
        run_checked(seed, scenario, nodes=1, to_the_end=True)
    except PromiseBroken as broken:
        promises = {violation.promise for violation in broken.violations}
    assert promises <= {"S5", "B", "L"}


def test_n7_a_connection_that_was_left_speaks_late() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.slow("n1", "a", 20, 40)
        await churn(world, 20)
        world.faults.slow("n1", "a", 0.001, 0.002)
        await churn(world, 60)

    world, _ = run_checked(16, scenario, nodes=1)
    assert len(world.trace.events) > 100


@pytest.mark.parametrize("how", ["swallow", "reset"])
def test_n8_websocket_is_blocked_and_http_works(how: str) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.block("a", "n1", "websocket", how)  # type: ignore[arg-type]
        await churn(world, 100)
        assert world.clients["a"].mode == "polling"
        assert world.clients["a"].age() < 1.2 * 15 + 1
        assert set(world.clients["a"].known()) == set(world.clients["poll"].known())

    run_checked(17, scenario, nodes=1)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_n8_one_kind_is_blocked_from_the_beginning(kind: Kind) -> None:
    async def scenario(world: World) -> None:
        for name in ("a", "p"):
            world.faults.block(name, "n1", kind)
        client = await world.client("a", "t/", "single")
        await world.client("p")
        await churn(world, 60)
        await world.until(lambda: client.mode == ("live" if kind == "http" else "polling"), 60)
        assert (count_of(client, "polls") > 0) == (kind == "websocket")

    run_checked(18, scenario, nodes=1)
