"""Fault schedule of permissions: tokens that end, providers that fail, rules and keys that change, wrong clocks.

The oracle checks S12 to S16 with every message; S17 is that no client counts a repair where nothing else is wrong.
"""

from __future__ import annotations

import pytest

from softstate.testing import World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.issuer import SimIssuer
from softstate.testing.trace import ClientEnded, MessageWritten, NamesDenied
from tests.kit.permissions_rig import commits, fresh, repaired, start
from tests.kit.simulation_rig import count_of

TOKEN_S = 120.0

BOUNDS = Bounds(service_s=75.0)
"""With time for a fetch whose backoff has grown, a minute at most."""


@pytest.mark.parametrize("for_s", [360.0, 900.0, 3_600.0])
def test_a0_tokens_are_replaced_in_place_and_nothing_is_noticed(for_s: float) -> None:
    """S17: no repair, no reconnect, no poll of a client that is pushed to."""

    async def scenario(world: World) -> None:
        pushed = (await start(world))[:2]
        await commits(world, for_s)
        for client in pushed:
            assert client.mode == "live"
            assert count_of(client, "connects") == 1
            assert count_of(client, "polls") == 0
            assert repaired(client) == 0
        assert world.issuer is not None
        assert 3 * for_s / 120 <= world.issuer.fetches <= 3 * for_s / 72

    world, oracle = run_checked(1, scenario, token_s=TOKEN_S)
    assert oracle.permissions.judged > for_s / 3.6
    assert [event for event in world.trace.of(MessageWritten) if event.op == "authenticated"]


def test_a2_a_key_is_rotated_and_then_removed() -> None:
    """S12, S14, S17: tokens of the key before stay good until it is removed; then others are presented in place."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        assert world.issuer is not None
        world.issuer.rotate()
        await commits(world, 60.0)
        assert [client.mode for client in clients] == ["live", "live", "polling"]
        world.faults.remove_keys()
        await commits(world, 90.0)
        await world.until(fresh(*clients))
        for client in clients[:2]:
            assert (client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0)

    run_checked(2, scenario, token_s=TOKEN_S)


@pytest.mark.parametrize("fault", ["partition", "freeze", "store down", "crash"])
def test_a4_a_token_ends_in_the_midst_of_a_fault(fault: str) -> None:
    """S14: late is an ordinary path."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        await world.sleep(30.0)
        match fault:
            case "partition":
                for node in world.nodes:
                    world.faults.partition("a", node)
                    world.faults.partition("poll", node)
            case "freeze":
                world.faults.freeze("a")
                world.faults.freeze("poll")
            case "store down":
                world.faults.store_down()
            case "crash":
                world.faults.crash("n1")
                world.faults.crash("n2")
        await commits(world, 2 * TOKEN_S)
        await world.faults.heal()
        await world.until(fresh(*clients), BOUNDS.converge_s)

    run_checked(3, scenario, token_s=TOKEN_S, bounds=BOUNDS)


@pytest.mark.parametrize("at_once", [False, True])
def test_a7_rules_are_narrowed_to_a_part_of_a_prefix(at_once: bool) -> None:
    """S12, S13, S17: the prefix is lost within a renewal, what is below it may be asked for, nothing is repaired."""

    async def scenario(world: World) -> None:
        assert isinstance(world.issuer, SimIssuer)
        world.issuer.at_once = at_once
        clients = await start(world, "t/", "single")
        world.faults.commit("t/secret", 1)
        world.faults.commit("t/open/1", 1)
        await world.sleep(20.0)
        assert all("t/secret" in client.known() for client in clients)
        for client in clients:
            world.faults.policy(client.name, "t/open/", "single")
        await world.sleep(1.0)
        assert {"a", "b"}.isdisjoint({event.client for event in world.trace.of(NamesDenied)}) is not at_once
        await world.sleep(29.0)
        assert {event.client for event in world.trace.of(NamesDenied)} == {"a", "b", "poll"}
        await commits(world, 60.0, "t/secret", "single")
        handles = [client.subscribe("t/open/") for client in clients]
        await commits(world, 60.0, "t/secret", "t/open/1", "single")
        await world.sleep(20.0)
        for client, handle in zip(clients, handles, strict=True):
            assert set(client.known(handle)) == {"t/open/1"}
            assert set(client.known()) == {"single"}
        for client in clients[:2]:
            assert (client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0)

    run_checked(7, scenario, token_s=TOKEN_S)


def test_a7_a_subscription_that_narrows_is_on_the_part_that_is_left() -> None:
    """S12, S13, S17: without an error, a repair or a reconnect, and what is known of that part is not told twice."""

    async def scenario(world: World) -> None:
        clients = await start(world, "single")
        for topic in ("t/secret", "t/open/1", "t/open/sub/2"):
            world.faults.commit(topic, 1)
        for client in clients:
            world.faults.policy(client.name, "single", "t/")
        handles = [client.subscribe("t/", narrow=True) for client in clients]
        await world.sleep(20.0)
        for names in (("t/open/", "t/other"), ("t/open/sub/", "single")):
            for client in clients:
                world.faults.policy(client.name, "single", *names)
            await commits(world, 60.0, "t/secret", "t/open/1", "t/open/sub/2", "t/other", "single")
            await world.sleep(20.0)
        for client, handle in zip(clients, handles, strict=True):
            assert set(client.known(handle)) == {"t/open/sub/2"}
            assert client.age(handle) < 60
        for client in clients[:2]:
            assert (client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0)
        assert not [event for event in world.trace.of(ClientEnded) if event.how == "stopped"]

    world, _ = run_checked(7, scenario, token_s=TOKEN_S)
    left = [event.names for event in world.trace.of(NamesDenied) if event.client == "a"]
    assert left == [("t/open/", "t/other"), ("t/open/sub/",)]


def test_a8_a_provider_gives_the_refused_token_then_hangs_then_fails_then_recovers() -> None:
    """S14: one fetch at a time, ever more rarely, and the client goes on."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        assert world.issuer is not None
        world.faults.remove_keys()
        for fault in ("stale", "hangs", "fails"):
            world.faults.provider(fault)
            before = world.issuer.fetches
            await commits(world, 180.0)
            assert world.issuer.fetches - before <= 3 * 40
            assert all(client.age() > 60 for client in clients)
        world.faults.provider(None)
        await world.until(fresh(*clients), BOUNDS.converge_s)

    world, _ = run_checked(8, scenario, token_s=TOKEN_S, bounds=BOUNDS)
    assert not [event for event in world.trace.of(ClientEnded) if event.how == "stopped"]


@pytest.mark.parametrize("by_s", [3_600.0, -3_600.0])
def test_a9_a_clock_for_people_is_set(by_s: float) -> None:
    """A step neither ends the tokens that a node has taken, nor makes those good that have ended there."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        for name in world.nodes:
            world.faults.wall_jump(name, by_s)
        connects = [count_of(client, "connects") for client in clients]
        await commits(world, 60.0)
        assert [count_of(client, "connects") for client in clients] == connects
        assert [client.mode for client in clients] == ["live", "live", "polling"]
        answers = [event.message for event in world.trace.of(MessageWritten) if event.op == "answer"]
        assert {message["status"] for message in answers} == {200}
        await world.faults.heal()
        await commits(world, 2 * TOKEN_S)
        await world.until(fresh(*clients), BOUNDS.converge_s)

    run_checked(9, scenario, token_s=TOKEN_S, bounds=BOUNDS)


def test_a10_a_herd_whose_tokens_end_in_the_same_second_fetches_others_over_time() -> None:
    async def scenario(world: World) -> None:
        herd = [await world.client(f"c{number}", "single", beat_ms=None) for number in range(100)]
        await world.until(lambda: all(client.mode == "live" for client in herd))
        assert world.issuer is not None
        await world.sleep(0.69 * TOKEN_S)
        assert world.issuer.fetches == len(herd)
        fetches = []
        for _ in range(20):
            before = world.issuer.fetches
            await world.sleep(1.0)
            fetches.append(world.issuer.fetches - before)
        assert sum(fetches) >= len(herd)
        assert max(fetches) <= 2.5 * len(herd) / (0.15 * TOKEN_S)
        assert all(client.mode == "live" for client in herd)

    run_checked(10, scenario, token_s=TOKEN_S)


def test_a_slow_consumer_gets_nothing_that_it_may_not_read_any_more() -> None:
    """Rule 14 of beats: what waits goes with the name, and `denied` is ahead of all the rest."""

    async def scenario(world: World) -> None:
        a, *_ = await start(world, "t/", "single")
        world.faults.read_slowly("a", 1.0)
        for number in range(200):
            world.faults.commit(f"t/{number}", "x" * 2_000)
        await world.sleep(0.5)
        world.faults.policy("a", "single")
        await commits(world, 60.0, "t/1", "single")
        world.faults.resume_reading("a")
        await commits(world, 60.0, "t/1", "single")
        assert set(a.known()) == {"single"}

    run_checked(11, scenario, nodes=1, token_s=TOKEN_S)
