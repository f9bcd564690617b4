"""Fault schedule of limits: clients that run into them go on, lose nothing, and are all level in the end.

The oracle checks every promise with every message, L at the end: who was refused has come again when it was told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import pytest

from softstate.lease import Lease, LeaseTable
from softstate.lease.principals import Principals
from softstate.lease.weight import MEMORY_RETRY_MS
from softstate.server import ServerConfig
from softstate.server.auth.gate import NodeGate
from softstate.server.memory import watch
from softstate.server.memory.pressure import Pressure
from softstate.testing import SimClient, World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import MessageWritten, PublishAcknowledged, PublishStarted
from tests.kit.permissions_rig import commits, fresh, repaired
from tests.kit.simulation_rig import RARE_MS, count_of

TOKEN_S = 3_600.0
BOUNDS = Bounds(service_s=90.0)
"""With time for those who wait for another's session to end, and for the longest backoff behind that."""

NAMES = ("t/", "single")


async def clients_of(world: World, subject: str, count: int) -> list[SimClient]:
    """Start clients that present tokens of one subject."""
    return [
        await world.client(f"{subject}{number}", *NAMES, beat_ms=RARE_MS, subject=subject) for number in range(count)
    ]


def refused(world: World, *receivers: SimClient) -> dict[str, int]:
    """Count the refusals that clients were sent, by the limit."""
    found: dict[str, int] = {}
    names = {client.name for client in receivers}
    for event in world.trace.of(MessageWritten):
        if event.receiver in names and event.message.get("code") == "overloaded":
            why = event.message.get("why", "none")
            found[why] = found.get(why, 0) + 1
    return found


def test_l1_one_identity_meets_every_limit_and_nobody_else_notices() -> None:
    """Six clients of one subject where three may have a session, which publish and poll all that they can."""
    config = ServerConfig(sessions_per_identity_max=3, publishes_per_s=4.0, polls_per_s=0.5, poll_every_ms=5_000)

    async def scenario(world: World) -> None:
        innocents = [(await clients_of(world, name, 1))[0] for name in ("ann", "bob", "cid")]
        await world.until(lambda: all(client.mode == "live" for client in innocents))
        hogs = await clients_of(world, "hog", 6)
        await world.until(lambda: sum(client.mode == "live" for client in hogs) == 3)
        for number in range(60):
            for client in hogs:
                client.publish(f"t/{client.name}", number)
            if number % 6 == 0:
                for client in innocents:
                    client.publish(f"t/{client.name}", number)
            await world.sleep(0.5)
        await commits(world, 60.0)
        assert sum(client.mode == "live" for client in hogs) == 3
        assert all(client.running for client in hogs)
        await world.until(fresh(*innocents, *hogs), BOUNDS.converge_s)
        limits = refused(world, *hogs)
        assert min(limits["sessions_per_identity_max"], limits["publishes_per_s"], limits["polls_per_s"]) >= 3, limits
        assert refused(world, *innocents) == {}
        for client in innocents:
            counts = count_of(client, "connects"), count_of(client, "polls"), repaired(client)
            assert (client.mode, *counts) == ("live", 1, 0, 0)
        # A session ends, and one of those who wait has it.
        live = next(client for client in hogs if client.mode == "live")
        await live.aclose()
        await world.until(lambda: sum(client.running and client.mode == "live" for client in hogs) == 3, 90.0)

    world, _ = run_checked(1, scenario, nodes=1, token_s=TOKEN_S, config=config, bounds=BOUNDS)
    assert len([*world.trace.of(PublishAcknowledged)]) == len([*world.trace.of(PublishStarted)]) == 6 * 60 + 3 * 10


def worst_wait_s(world: World, *clients: SimClient) -> float:
    """Return the longest time that a publish of these clients has waited for its answer."""
    names = {client.name for client in clients}
    began = {(event.client, event.number): event.at_s for event in world.trace.of(PublishStarted)}
    ends = [event for event in world.trace.of(PublishAcknowledged) if event.client in names]
    waited: list[float] = [event.at_s - began.pop((event.client, event.number)) for event in ends]
    waited += [world.now - at_s for (client, _), at_s in began.items() if client in names]
    return max(waited)


def test_l6_one_identity_floods_a_node_and_fifty_others_do_not_notice() -> None:
    """No more than 64 publishes may wait for a commit here, and a subject without a limit takes all these places."""
    config = ServerConfig(publishes_per_s=40.0, publishes_waiting_max=64)

    async def scenario(world: World) -> None:
        innocents = [(await clients_of(world, f"i{number}", 1))[0] for number in range(50)]
        await world.until(lambda: all(client.mode == "live" for client in innocents))
        hogs = [await world.client(f"hog{number}", "h/", beat_ms=RARE_MS, subject="hog") for number in range(4)]
        await world.until(lambda: all(client.mode == "live" for client in hogs))
        world.faults.call_slow("n1", "publish", 0.2, 0.3)
        for number in range(6):
            for client in hogs:
                for topic in range(25):
                    client.publish(f"h/{client.name}/{topic}", number)
            for client in innocents[number % 10 :: 10]:
                client.publish("single", number)
            await world.sleep(0.5)
        assert worst_wait_s(world, *innocents) < 1.0
        for client in innocents:
            counts = count_of(client, "connects"), count_of(client, "polls"), repaired(client)
            assert (client.mode, *counts) == ("live", 1, 0, 0)
            assert client.age() < 10
        assert refused(world, *innocents) == {}
        assert refused(world, *hogs).get("publishes_per_s", 0) > 10

    run_checked(6, scenario, nodes=1, token_s=TOKEN_S, config=config, bounds=BOUNDS)


def test_l2_those_who_come_back_after_a_crash_of_theirs_are_not_taken_for_too_many() -> None:
    """Sessions of before wait for their end; new ones of the same subject take their place, names included."""
    config = ServerConfig(sessions_per_identity_max=4, subscriptions_max=10, subscriptions_per_identity_max=10)

    async def scenario(world: World) -> None:
        first = await clients_of(world, "hog", 4)
        await world.until(lambda: all(client.mode == "live" for client in first))
        for client in first:
            client.end("killed")
        await world.sleep(1.0)
        second = [await world.client(f"again{number}", *NAMES, beat_ms=RARE_MS, subject="hog") for number in range(4)]
        await world.until(lambda: all(client.mode == "live" for client in second), 5.0)
        assert refused(world, *second) == {}
        # Without power none says goodbye: the node takes them to be there until their time is over.
        for client in second:
            client.end("power")
        await world.sleep(1.0)
        third = [await world.client(f"late{number}", *NAMES, beat_ms=RARE_MS, subject="hog") for number in range(4)]
        await world.until(fresh(*third), BOUNDS.converge_s)
        assert set(refused(world, *third)) == {"sessions_per_identity_max"}
        await world.until(lambda: all(client.mode == "live" for client in third), 150.0)

    run_checked(2, scenario, nodes=1, token_s=TOKEN_S, config=config, bounds=BOUNDS)


def test_l3_names_too_many_are_polled_for_until_there_is_room() -> None:
    config = ServerConfig(subscriptions_max=10, subscriptions_per_identity_max=10)

    async def scenario(world: World) -> None:
        a, b = await clients_of(world, "hog", 2)
        await world.until(lambda: a.mode == b.mode == "live")
        handle = a.subscribe(*(f"t/{number}" for number in range(5)))
        await world.until(lambda: a.age(handle) < 30)
        wide = b.subscribe(*(f"t/{number}" for number in range(8)))
        await commits(world, 120.0, "t/7", "single")
        assert refused(world, b)["subscriptions_per_identity_max"] >= 2
        assert b.mode != "live"
        await world.until(lambda: b.age(wide) < 30, BOUNDS.converge_s)
        assert "t/7" in b.known(wide)
        await a.aclose()
        await world.until(lambda: b.mode == "live", BOUNDS.converge_s)

    run_checked(3, scenario, nodes=1, token_s=TOKEN_S, config=config, bounds=BOUNDS)


def test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices() -> None:
    """The memory is what the node holds by its own estimate: 100 kB, which five clients with 40 names each overfill."""
    config = ServerConfig(memory_max=100_000, poll_every_ms=5_000)

    async def scenario(world: World) -> None:
        innocents = [(await clients_of(world, f"i{number}", 1))[0] for number in range(8)]
        await world.until(lambda: all(client.mode == "live" for client in innocents))
        hogs = []
        for number in range(5):
            names = [f"t/{number}/{topic}" for topic in range(40)]
            hogs.append(await world.client(f"hog{number}", *names, beat_ms=RARE_MS, subject="hog", allowed=["t/"]))
        await commits(world, 90.0, "t/0/1", "t/1/1", "t/2/1", "t/3/1", "t/4/1", "single")
        revoked = [event for event in world.trace.of(MessageWritten) if event.op == "revoked"]
        assert {event.message["reason"] for event in revoked} == {"overloaded"}
        assert min(event.message["retry_ms"] for event in revoked) == MEMORY_RETRY_MS
        assert {event.receiver for event in revoked} < {client.name for client in hogs}
        assert set(refused(world, *hogs)) == {"memory_max"}
        assert {client.mode for client in hogs} >= {"live"}
        assert any(client.mode != "live" for client in hogs)
        await world.until(lambda: all(client.age() < 10 for client in hogs), BOUNDS.converge_s)
        for client in innocents:
            assert (client.mode, count_of(client, "connects"), count_of(client, "polls")) == ("live", 1, 0)
        assert refused(world, *innocents) == {}
        node = world.nodes["n1"].node
        assert node is not None
        assert node.memory.pressure.used < 100_000
        for client in [client for client in hogs if client.mode == "live"]:
            await client.aclose()
        await world.until(lambda: all(client.mode == "live" for client in hogs if client.running), BOUNDS.converge_s)

    run_checked(4, scenario, nodes=1, token_s=TOKEN_S, config=config, bounds=BOUNDS)


def test_l5_a_herd_of_strangers_fills_the_memory_and_polls() -> None:
    """Nobody is to blame: each holds as much as any other, and some of them poll."""
    config = ServerConfig(memory_max=40_000, poll_every_ms=5_000)

    async def scenario(world: World) -> None:
        clients = [(await clients_of(world, f"c{number}", 1))[0] for number in range(20)]
        await commits(world, 60.0)
        live = [client for client in clients if client.mode == "live"]
        assert 3 <= len(live) < 20
        await world.until(lambda: all(client.age() < 20 for client in clients), BOUNDS.converge_s)
        world.faults.crash("n1")
        await world.sleep(2.0)
        await world.faults.restart("n1")
        await commits(world, 60.0)
        await world.until(lambda: all(client.age() < 20 for client in clients), BOUNDS.converge_s)

    run_checked(5, scenario, nodes=1, token_s=TOKEN_S, config=config, bounds=BOUNDS)


# Mutants ------------------------------------------------------------------------------------------------------------


def dead_sessions_count(patch: pytest.MonkeyPatch) -> None:
    """A principal at its limit keeps its detached sessions."""
    patch.setattr("softstate.lease.table.LeaseTable._detached_of", lambda self, principal: None)


def limits_are_not_enforced(patch: pytest.MonkeyPatch) -> None:
    """A principal may have any number of sessions."""
    patch.setattr(Principals, "may_begin", lambda self, digest: True)


def publishes_are_not_limited(patch: pytest.MonkeyPatch) -> None:
    """A node takes all publishes that come."""
    patch.setattr(NodeGate, "check_publish", lambda self, identity, address, topic, size: None)


def refused_publishes_fail(patch: pytest.MonkeyPatch) -> None:
    """A client takes `overloaded` for the end of a publish."""
    patch.setattr("softstate.client.machine.publish_queue.RETRIED", frozenset({"unavailable", "behind"}))


def anybody_is_shed(patch: pytest.MonkeyPatch) -> None:
    """Leases end in the order in which they came."""

    def first(leases: Sequence[Lease], _counts: object, excess: float) -> Iterator[Sequence[Lease]]:
        yield leases[: math.ceil(excess / 1_000)]

    patch.setattr(watch, "victims", first)


def memory_is_not_refused(patch: pytest.MonkeyPatch) -> None:
    """A node that is full takes new sessions and names."""
    patch.setattr(LeaseTable, "_check_memory", lambda self, size: None)


def leases_are_not_shed(patch: pytest.MonkeyPatch) -> None:
    """A node that is full takes no more, and ends nothing."""
    patch.setattr(Pressure, "excess", lambda self, held: 0.0)


@pytest.mark.parametrize(
    ("mutate", "world"),
    [
        (anybody_is_shed, test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices),
        (memory_is_not_refused, test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices),
        (leases_are_not_shed, test_l4_a_node_without_memory_sheds_the_largest_identity_and_nobody_else_notices),
        (dead_sessions_count, test_l2_those_who_come_back_after_a_crash_of_theirs_are_not_taken_for_too_many),
        (limits_are_not_enforced, test_l1_one_identity_meets_every_limit_and_nobody_else_notices),
        (publishes_are_not_limited, test_l6_one_identity_floods_a_node_and_fifty_others_do_not_notice),
        (refused_publishes_fail, test_l1_one_identity_meets_every_limit_and_nobody_else_notices),
    ],
)
def test_a_mutant_is_noticed(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None], world: Callable[[], None]
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        world()
