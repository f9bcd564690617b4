"""Fault schedule A6: a callout that is down, slow or odd, that says no, and that grants something else."""

from __future__ import annotations

import pytest

from softstate.testing import SimClient, World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.callout import ANSWER_S, CalloutFault
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import ClientEnded, MessageWritten, NamesDenied
from tests.kit.permissions_rig import commits, fresh, repaired, start
from tests.kit.simulation_rig import count_of

BOUNDS = Bounds(service_s=75.0, rules_s=ANSWER_S, keys_s=ANSWER_S)
"""With time for a backoff that has grown, a minute at most."""

TTL_S, STALE_S = 60.0, 300.0


def revoked(world: World) -> list[tuple[str, int | None]]:
    """Return reason and `retry_ms` of each `revoked`."""
    found = [event.message for event in world.trace.of(MessageWritten) if event.op == "revoked"]
    return [(message["reason"], message.get("retry_ms")) for message in found]


def refused(world: World) -> list[str]:
    """Return the codes of the errors that nodes have sent over WebSocket."""
    return [event.message["code"] for event in world.trace.of(MessageWritten) if event.op == "error"]


def unnoticed(*clients: SimClient) -> bool:
    return all((client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0) for client in clients)


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_a6_each_client_costs_a_question_a_minute(minutes: int) -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        await commits(world, 60.0 * minutes)
        assert unnoticed(*clients[:2])
        assert world.callout is not None
        assert 2.75 * minutes <= world.callout.asked <= 4.25 * minutes
        assert world.callout.logins == 3

    world, _ = run_checked(61, scenario, callout=True, bounds=BOUNDS)
    assert revoked(world) == []


@pytest.mark.parametrize("fault", ["down", "hangs", "broken", "slow"])
def test_a6_nobody_notices_a_callout_that_fails_for_less_than_its_answers_hold(fault: CalloutFault) -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.callout(fault)
        await commits(world, TTL_S + STALE_S - 70.0)
        assert unnoticed(*clients[:2])
        assert all(client.age() < 60 for client in clients)
        world.faults.callout(None)
        await commits(world, 120.0)
        assert unnoticed(*clients[:2])

    world, _ = run_checked(62, scenario, callout=True, bounds=BOUNDS)
    assert revoked(world) == []
    assert refused(world) == []


@pytest.mark.parametrize("fault", ["down", "hangs", "broken"])
def test_a6_after_that_leases_are_revoked_as_overloaded_and_everybody_comes_back(fault: CalloutFault) -> None:
    """S14: nobody throws a token away, and nobody stops."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        assert world.callout is not None
        world.faults.callout(fault)
        await commits(world, TTL_S + STALE_S + 200.0)
        assert all(client.age() > 60 for client in clients)
        assert all(client.mode in ("polling", "offline", "connecting") for client in clients)
        assert world.callout.logins == 3
        world.faults.callout(None)
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert world.callout.logins == 3

    world, _ = run_checked(63, scenario, callout=True, bounds=BOUNDS)
    assert revoked(world) == [("overloaded", 1_000)] * 2
    assert "unauthenticated" not in refused(world)
    assert not [event for event in world.trace.of(ClientEnded) if event.how == "stopped"]


def test_a6_who_comes_while_it_is_down_waits_and_is_not_refused() -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.callout("down")
        late = [await world.client("late", "t/"), await world.client("later", "t/", push=False)]
        await commits(world, 120.0)
        assert all(client.age() == float("inf") and client.running for client in late)
        assert unnoticed(*clients[:2])
        world.faults.callout(None)
        await world.until(fresh(*clients, *late), BOUNDS.converge_s)

    world, _ = run_checked(64, scenario, callout=True, bounds=BOUNDS)
    assert refused(world) == []  # each attempt was answered ahead of its hello: over HTTP, with 503


def test_a6_down_and_then_no() -> None:
    """Leases end as denied at once when it is known, on every node; another login is taken in place."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        assert world.callout is not None
        world.faults.callout("down")
        await commits(world, 100.0)
        world.callout.log_out("a")
        await commits(world, 60.0)
        assert revoked(world) == []
        world.faults.callout(None)
        await commits(world, 30.0)
        assert revoked(world) == [("denied", 0)]
        assert world.callout.logins == 4
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert count_of(clients[0], "connects") == 1

    run_checked(65, scenario, callout=True, bounds=BOUNDS)


def test_a6_another_grant_counts_within_its_time_and_a_renewal() -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        assert world.callout is not None
        for client in clients:
            world.callout.allow(client.name, "single")
        await commits(world, TTL_S + 30.0)
        assert {event.client for event in world.trace.of(NamesDenied)} == {"a", "b", "poll"}
        assert unnoticed(*clients[:2])

    run_checked(66, scenario, callout=True, bounds=BOUNDS)


def test_a6_nodes_that_start_again_ask_again() -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        for name in ("n1", "n2"):
            world.faults.crash(name)
            await world.sleep(5.0)
            await world.nodes[name].start()
        await world.until(fresh(*clients), BOUNDS.converge_s)
        await commits(world, 120.0)

    run_checked(67, scenario, callout=True, bounds=BOUNDS)
