"""Fault schedule A6 for names: a callout that is asked about each name, is down, says no, and allows something else."""

from __future__ import annotations

from softstate.testing import World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.callout import NAMES_ANSWER_S, NAMES_STALE_S, NAMES_TTL_S
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import ClientEnded, NamesDenied
from tests.kit.permissions_rig import commits, fresh, start
from tests.simulation.test_schedule_callout import BOUNDS, refused, revoked, unnoticed

NAMES_BOUNDS = Bounds(service_s=BOUNDS.service_s, rules_s=NAMES_ANSWER_S, keys_s=NAMES_ANSWER_S)


def test_a6_names_that_leases_hold_are_asked_about_once_in_their_time() -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        await commits(world, 5 * NAMES_TTL_S)
        assert unnoticed(*clients[:2])
        assert world.callout is not None
        # Both names of a client in one question; of the one that polls, whenever it polls next.
        assert 2 * 5 <= world.callout.asked_names <= 3 * 7

    world, _ = run_checked(81, scenario, callout="names", bounds=NAMES_BOUNDS)
    assert (revoked(world), refused(world)) == ([], [])
    assert not world.trace.of(NamesDenied)


def test_a6_nobody_notices_that_names_cannot_be_asked_about_for_less_than_answers_hold() -> None:
    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.callout("down")
        await commits(world, NAMES_TTL_S + NAMES_STALE_S - 20.0)
        assert unnoticed(*clients[:2])
        assert all(client.age() < 60 for client in clients)
        world.faults.callout(None)
        await commits(world, 40.0)
        assert unnoticed(*clients[:2])

    world, _ = run_checked(82, scenario, callout="names", bounds=NAMES_BOUNDS)
    assert (revoked(world), refused(world)) == ([], [])


def test_a6_who_asks_for_a_name_while_it_is_down_waits_and_is_not_denied() -> None:
    """S14: a client that is known, and another name; it has it once the callout is back."""

    async def scenario(world: World) -> None:
        clients = await start(world, "single")
        assert world.callout is not None
        for client in clients:
            world.callout.allow(client.name, "single", "t/")
        world.faults.callout("down")
        handles = [client.subscribe("t/") for client in clients]
        await commits(world, 30.0)
        assert all(client.age(handle) == float("inf") for client, handle in zip(clients, handles, strict=True))
        world.faults.callout(None)
        await world.until(fresh(*clients), BOUNDS.converge_s)
        await commits(world, 30.0)
        assert all(client.age(handle) < 60 for client, handle in zip(clients, handles, strict=True))

    world, _ = run_checked(83, scenario, callout="names", bounds=NAMES_BOUNDS)
    assert set(refused(world)) == {"unavailable"}
    assert not world.trace.of(NamesDenied)
    assert not [event for event in world.trace.of(ClientEnded) if event.how == "stopped"]


def test_a6_a_name_that_is_not_allowed_any_more_is_lost_at_once_and_another_stays() -> None:
    """S12, S17: within the time of an answer; nothing is repaired."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        assert world.callout is not None
        for client in clients:
            world.callout.allow(client.name, "single")
        await commits(world, NAMES_TTL_S + 5.0)
        left = [(event.client, event.names) for event in world.trace.of(NamesDenied)]
        assert sorted(left) == [(client.name, ("single",)) for client in clients]
        assert unnoticed(*clients[:2])
        await commits(world, 30.0)
        for client in clients:
            assert set(client.known()) == {"single"}

    run_checked(
        84, scenario, callout="names", bounds=Bounds(service_s=75.0, rules_s=NAMES_TTL_S + 5.0, keys_s=NAMES_ANSWER_S)
    )


def test_a6_names_of_which_nobody_can_tell_for_too_long_end_their_leases_as_overloaded() -> None:
    """S12, S14: once the callout has been down for as long as answers hold; everybody comes back."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.callout("down")
        await commits(world, NAMES_TTL_S + NAMES_STALE_S + 100.0)
        assert all(client.age() > 60 for client in clients)
        world.faults.callout(None)
        await world.until(fresh(*clients), BOUNDS.converge_s)

    world, _ = run_checked(85, scenario, callout="names", bounds=NAMES_BOUNDS)
    assert {reason for reason, _ in revoked(world)} == {"overloaded"}
    assert not world.trace.of(NamesDenied)
