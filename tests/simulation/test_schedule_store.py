"""Fault schedule, rows D1 (a store that can be read only) and D4 (visibility out of commit order)."""

from __future__ import annotations

import pytest

from softstate.testing import PromiseBroken, World
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import ChangeCommitted, MessageWritten, NodeSampled, PublishAcknowledged, PublishFailed
from tests.kit.simulation_rig import churn, start_clients, wait_until_live

FOLLOWING = ("a", "b", "poll")


def test_d1_the_store_is_read_only_and_nothing_but_publishing_stops() -> None:
    topics = [f"t/{number}" for number in range(5)]

    async def scenario(world: World) -> None:
        await start_clients(world)
        await churn(world, 20)
        acknowledged = len(world.trace.of(PublishAcknowledged))
        world.faults.store_read_only()
        numbers = [world.clients["p"].publish(topic, topic) for topic in topics]
        for _ in range(60):
            await world.sleep(5)
            assert [world.clients[name].mode for name in FOLLOWING] == ["live", "live", "polling"]
            assert max(world.clients[name].age() for name in FOLLOWING) < 30
        assert {"a", "b"} <= {lease.client for lease in world.trace.of(NodeSampled)[-1].leases}
        assert len(world.trace.of(PublishAcknowledged)) == acknowledged
        world.faults.store_read_only(on=False)
        await world.sleep(60)
        assert {found.number for found in world.trace.of(PublishAcknowledged)} >= set(numbers)
        assert not world.trace.of(PublishFailed)

    world, _ = run_checked(41, scenario, nodes=1)
    assert sorted(commit.topic for commit in world.trace.of(ChangeCommitted) if commit.value == commit.topic) == topics
    said = [written for written in world.trace.of(MessageWritten) if written.sender == "n1"]
    assert {written.message["code"] for written in said if written.op == "error"} == {"unavailable"}
    assert not [written for written in said if written.op == "revoked" or written.message.get("store") == "down"]


def test_d1_a_node_cannot_start_on_a_read_only_store_and_does_once_it_can_be_written() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        world.faults.store_read_only()
        world.faults.crash("n1")
        world.nursery.start_soon(world.faults.restart, "n1")
        await churn(world, 60)
        assert not world.nodes["n1"].up
        assert min(world.clients[name].age() for name in FOLLOWING) > 50
        world.faults.store_read_only(on=False)
        await wait_until_live(world)

    run_checked(42, scenario, nodes=1)


@pytest.mark.parametrize("writer", ["another node", "this node"])
def test_d4_a_store_that_shows_commits_out_of_order_is_detected(writer: str) -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        commit = world.faults.slow_transaction("t/slow", "began first")
        if writer == "this node":
            world.clients["p"].publish("t/fast", "began last, committed first")
        else:
            world.faults.commit("t/fast", "began last, committed first")
        await world.until(lambda: "t/fast" in world.clients["a"].known(), 5)
        assert commit() < world.clients["a"].known()["t/fast"].version
        await world.sleep(40)
        # The damage: the hub has passed that revision, so it pushes nothing, and renewals say nothing is missing.
        assert "t/slow" not in world.clients["a"].known()
        assert world.clients["a"].age() < 30

    with pytest.raises(PromiseBroken) as broken:
        run_checked(43, scenario, nodes=1, to_the_end=True)
    found = {(violation.promise, violation.party) for violation in broken.value.violations}
    assert {("S7", "n1→a"), ("S7", "n1→b")} <= found
    assert "S5" in {promise for promise, _ in found}


def test_d4_slow_transactions_break_nothing_if_later_ones_become_visible_later() -> None:
    async def scenario(world: World) -> None:
        await start_clients(world)
        for number in range(10):
            commit = world.faults.slow_transaction("t/slow", number)
            await world.sleep(world.seeds.random(f"{number}").uniform(0.1, 30))
            commit()
            world.faults.commit("t/fast", number)
        await world.sleep(1)
        known = world.clients["a"].known()
        assert [known[topic].value for topic in ("t/slow", "t/fast")] == [9, 9]

    run_checked(44, scenario, nodes=1)
