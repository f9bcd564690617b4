"""Fault schedule, rows C: a node crashes at each crash point, forgets its leases, or is one of two."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import trio

from softstate.testing import FrameRule, World
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import ChangeCommitted, MessageWritten, NodeEnded, PublishAcknowledged, ResetDelivered
from tests.kit.simulation_rig import churn, count_of, start_clients, wait_until_live

BY_POINT = {
    "C1 before the commit": "publish.before_commit",
    "C2 after the commit, before the acknowledgement": "publish.after_commit",
    "C3 after the store's answer, before any answer or push": "publish.after",
    "C5 after the lease's entry, before the read": "read.before",
    "C6 after the read, before subscribed": "read.after",
    "C7 between renew and renewed, before the head is read": "head.before",
    "C7 between renew and renewed, after the head was read": "head.after",
}

BY_MESSAGE = {
    "C3 after the pushes, at the acknowledgement": ("published", 0),
    "C4 at the first push of a fan-out": ("notify", 0),
    "C4 in the middle of a fan-out": ("notify", 1),
    "C7 at renewed": ("renewed", 0),
}


async def crash_and_come_back(world: World, node: str = "n1") -> None:
    place = world.nodes[node]
    await world.until(lambda: not place.up, 60)
    await world.sleep(1)
    await world.faults.restart(node)
    await wait_until_live(world)


@pytest.mark.parametrize("how", ["killed", "power"])
@pytest.mark.parametrize("row", BY_POINT)
def test_a_crash_at_a_point_of_the_store(row: str, how: Literal["killed", "power"]) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.crash_at("n1", BY_POINT[row], how=how)
        world.clients["p"].publish("t/0", "at the crash")
        world.clients["a"].subscribe("new", "t/0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn, world, 40)
            await crash_and_come_back(world)

    world, oracle = run_checked(1, scenario, nodes=1)
    assert [ended.how for ended in world.trace.of(NodeEnded)] == [how]
    assert oracle.publishes.acknowledged > 5


@pytest.mark.parametrize("row", BY_MESSAGE)
def test_a_crash_as_a_message_is_written(row: str) -> None:
    op, skip = BY_MESSAGE[row]

    async def scenario(world: World) -> None:
        await start_clients(world)
        rule = FrameRule("drop", op, sender="n1", skip=skip, hit=lambda _frame: world.faults.crash("n1"))
        world.faults.frames(rule)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn, world, 40)
            await crash_and_come_back(world)
        assert rule.hits == 1

    run_checked(2, scenario, nodes=1)


def test_c8_a_crash_between_two_pages_of_an_answer() -> None:
    async def scenario(world: World) -> None:
        await world.client("p")
        for number in range(40):
            world.faults.commit(f"big/{number}", "x" * 60_000)
        rule = FrameRule("drop", "subscribed", skip=1, hit=lambda _frame: world.faults.crash("n1"))
        world.faults.frames(rule)
        client = await world.client("a", "big/")
        await world.until(lambda: not world.nodes["n1"].up, 60)
        await world.faults.restart("n1")
        await wait_until_live(world, "a")
        assert len(client.known()) == 40

    world, _ = run_checked(3, scenario, nodes=1)
    assert any(written.message.get("more") for written in world.trace.of(MessageWritten) if written.op == "subscribed")


@pytest.mark.parametrize("point", ["reopen.before", "reopen.after"])
def test_c9_a_crash_as_a_new_lineage_is_committed(point: str) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.backup("b")
        await churn(world, 10)
        world.faults.crash_at("n1", point)
        world.faults.rewind("b")
        await crash_and_come_back(world)
        await churn(world, 10)

    world, _ = run_checked(4, scenario, nodes=1)
    assert {"a", "b"} <= {seen.client for seen in world.trace.of(ResetDelivered)}


def test_c10_a_crash_loop() -> None:
    cycles = 20

    async def scenario(world: World) -> None:
        await start_clients(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn, world, 40)
            for _ in range(cycles):
                await world.sleep(1)
                world.faults.crash("n1")
                await world.sleep(0.3)
                await world.faults.restart("n1")
        await wait_until_live(world)
        # Attempts are bounded: a few for each crash, as backoff and spread allow, never a storm.
        assert all(count_of(world.clients[name], "connects") <= 4 * cycles for name in "ab")

    world, oracle = run_checked(5, scenario, nodes=1)
    assert len(world.trace.of(NodeEnded)) == cycles
    assert oracle.publishes.acknowledged > 5


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_c11_amnesia_at_any_step(share: float) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn, world, 90)
            for _ in range(30):
                await world.sleep(world.seeds.random(f"{world.now}").uniform(0.1, 6))
                world.faults.amnesia("n1", share)
        await wait_until_live(world)
        assert count_of(world.clients["a"], "repairs_no_lease") + count_of(world.clients["b"], "repairs_no_lease") > 0

    run_checked(6, scenario, nodes=1)


def test_c12_two_nodes_of_which_one_no_longer_follows_the_store() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        node = world.nodes["n2"].node
        world.faults.store_down("n2")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn, world, 60)
            for turn in range(6):
                for name in ("a", "b"):
                    world.faults.reset(name, ("n1", "n2")[turn % 2])
                world.faults.ignore_new("a", ("n1", "n2")[turn % 2])
                await world.sleep(10)
                world.faults.restore_routes("a", ("n1", "n2")[turn % 2])
        assert node is world.nodes["n2"].node

    world, _ = run_checked(7, scenario)
    assert len({written.receiver for written in world.trace.of(MessageWritten) if written.op == "hello"}) == 2


def test_publishes_at_every_crash_point_are_committed_once() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        for number, point in enumerate(("publish.before_commit", "publish.after_commit", "publish.after")):
            world.faults.crash_at("n1", point)
            number = world.clients["p"].publish("single", number)
            await crash_and_come_back(world)
            await world.until(lambda: any(a.number == number for a in world.trace.of(PublishAcknowledged)))  # noqa: B023

    world, _ = run_checked(8, scenario, nodes=1)
    values: list[Any] = [committed.value for committed in world.trace.of(ChangeCommitted)]
    assert values == [0, 1, 2]
