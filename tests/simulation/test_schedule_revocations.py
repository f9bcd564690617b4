"""Fault schedule of revocations through the store: at whichever moment one comes, nothing behind it is told.

The oracle checks S12 and S15 with every message; S17 is that no client counts a repair where nothing else is wrong.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from softstate.errors import Unauthenticated
from softstate.model import PAGE_RECORDS_MAX
from softstate.testing import SimClient, World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.trace import ClientEnded, MessageWritten
from tests.kit.permissions_rig import commits, fresh, repaired, start
from tests.kit.simulation_rig import RARE_MS, count_of

TOKEN_S = 600.0

BOUNDS = Bounds(service_s=75.0)
"""With time for a fetch whose backoff has grown, a minute at most."""


def told(world: World, op: str, *receivers: str, since: float = 0.0) -> list[MessageWritten]:
    """Return the messages of an operation that were written to some hosts."""
    return [
        event
        for event in world.trace.of(MessageWritten)
        if event.op == op and event.receiver in receivers and event.at_s >= since
    ]


def revoke(world: World, *clients: SimClient, through: str | None = None) -> None:
    """Revoke clients, and commit to what they follow in the same instant: each change comes with a revocation."""
    for client in clients:
        world.faults.revoke(client.name, through=through)
        world.faults.commit("t/0", f"behind the revocation of {client.name}")


def in_force(world: World, node: str) -> int:
    """Return how many revocations a node knows."""
    running = world.nodes[node].node
    assert running is not None
    return len(running.gate.authority.revocations)


def presented(world: World) -> list[str]:
    """Return the token that each client has presented last, in the order of their names."""
    events = [event for event in world.trace.of(MessageWritten) if event.op in ("hello", "request")]
    return [token for _, token in sorted({event.sender: event.message["token"] for event in events}.items())]


def good(world: World, token: str) -> int:
    """Return how many nodes take a token."""
    taken = 0
    for place in world.nodes.values():
        assert place.node is not None
        with suppress(Unauthenticated):
            place.node.gate.present(token, place.clock.now())
            taken += 1
    return taken


@pytest.mark.parametrize("through", ["n1", "n2", None])
def test_a1_subjects_are_revoked_while_they_are_live(through: str | None) -> None:
    """S12, S14, S17: on the node that hears of it first, and on another; new tokens are presented in place."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        await commits(world, 10.0)
        revoked_at = world.now
        revoke(world, *clients, through=through)
        await commits(world, 40.0)
        await world.until(fresh(*clients))
        for client in clients[:2]:
            assert (client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0)
            (revoked,) = told(world, "revoked", client.name)
            assert revoked.message["reason"] == "denied"
            assert revoked.at_s - revoked_at < 1.0
            assert told(world, "authenticated", client.name)
        assert {event.message["status"] for event in told(world, "answer", "poll")} == {200, 401}
        assert [in_force(world, node) for node in world.nodes] == [3, 3]

    world, oracle = run_checked(1, scenario, token_s=TOKEN_S)
    assert oracle.revocations.judged
    assert not [event for event in world.trace.of(ClientEnded) if event.how == "stopped"]


def test_a1_a_subject_is_revoked_while_pushes_wait_for_it() -> None:
    """S12: what waits was committed before; nothing joins it, and nothing takes its place."""

    async def scenario(world: World) -> None:
        a, *_ = await start(world, nodes=["n1"])
        world.faults.stop_reading("a")
        for number in range(200):
            world.faults.commit(f"t/{number}", "x" * 2_000)
        await world.sleep(0.5)
        revoke(world, a)
        await commits(world, 5.0)
        world.faults.resume_reading("a")
        await commits(world, 40.0)
        await world.until(fresh(a))
        assert a.mode == "live"

    run_checked(2, scenario, token_s=TOKEN_S)


@pytest.mark.parametrize("behind_s", [0.0, 0.02, 0.3, 0.8])
def test_a1_a_subject_is_revoked_while_pages_are_read_for_it(behind_s: float) -> None:
    """S12: of a subscribe, and of a poll."""

    async def scenario(world: World) -> None:
        for number in range(2 * PAGE_RECORDS_MAX):
            world.faults.commit(f"t/{number}", number)
        world.faults.call_slow("n1", "read", 0.5, 0.5)
        clients = [
            await world.client("a", "t/", nodes=["n1"], beat_ms=RARE_MS),
            await world.client("poll", "t/", nodes=["n1"], push=False),
        ]
        await world.sleep(behind_s)
        revoke(world, *clients)
        for number in range(0, 2 * PAGE_RECORDS_MAX, 100):
            world.faults.commit(f"t/{number}", "new")
        await commits(world, 30.0)
        world.faults.call_slow("n1", "read", 0, 0)
        await world.until(fresh(*clients))
        assert all(len(client.known()) >= 2 * PAGE_RECORDS_MAX for client in clients)

    run_checked(3, scenario, nodes=1, token_s=TOKEN_S)


def test_a1_a_subject_is_revoked_while_its_session_is_resumed() -> None:
    """S12: at each moment of it once."""

    async def scenario(world: World) -> None:
        a, *_ = await start(world, nodes=["n1"])
        world.faults.call_slow("n1", "read", 0.2, 0.2)
        for turn in range(8):
            await world.until(lambda: a.mode == "live")
            resumed = len(told(world, "welcome", "a"))
            world.faults.reset("a", "n1")
            world.faults.commit("t/1", turn)
            if turn % 2:
                await world.until(lambda: a.mode != "live" or len(told(world, "welcome", "a")) > resumed)  # noqa: B023
            await world.sleep(0.06 * turn)
            revoke(world, a)
            await commits(world, 10.0)
        world.faults.call_slow("n1", "read", 0, 0)
        await world.until(fresh(a))

    world, _ = run_checked(4, scenario, nodes=1, token_s=TOKEN_S)
    assert [event for event in told(world, "welcome", "a") if event.message.get("resumed")]


def test_a1_one_token_is_revoked_and_no_other() -> None:
    """S12, S17: its subject goes on with another, and `b` notices nothing."""

    async def scenario(world: World) -> None:
        a, b, _ = await start(world)
        (hello,) = [event for event in world.trace.of(MessageWritten) if (event.op, event.sender) == ("hello", "a")]
        world.faults.revoke("a", hello.message["token"])
        world.faults.commit("t/0", "behind it")
        await commits(world, 40.0)
        for client in (a, b):
            assert (client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0)
        assert len(told(world, "revoked", "a")) == 1
        assert not told(world, "revoked", "b")

    run_checked(5, scenario, token_s=TOKEN_S)


@pytest.mark.parametrize("ahead_s", [0.5, 30.0])
def test_a_subject_signs_in_again_though_clocks_differ(ahead_s: float) -> None:
    """S14: tokens that were made behind the revocation seem to be older; later ones do not, and no client stops."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        for client in clients:
            world.faults.revoke(client.name, ahead_s=ahead_s)
        await commits(world, ahead_s + 60.0)
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert [client.mode for client in clients] == ["live", "live", "polling"]

    run_checked(10, scenario, token_s=TOKEN_S, bounds=BOUNDS)


@pytest.mark.parametrize("fault", ["store down", "feed stuck"])
def test_a5_a_subject_is_revoked_while_one_node_cannot_hear_of_it(fault: str) -> None:
    """S12: nothing leaks from it once the time is over for which it trusts itself; then it refuses, and recovers."""

    async def scenario(world: World) -> None:
        clients = await start(world, nodes=["n1"])

        def switch(*, on: bool) -> None:
            if fault == "store down":
                world.faults.store_down("n1", down=on)
            else:
                world.faults.feed_stuck("n1", on=on)

        switch(on=True)
        await world.sleep(1.0)
        revoked_at = world.now
        revoke(world, *clients)
        await commits(world, 60.0)
        assert in_force(world, "n1") == 0
        refused = [event.message for event in told(world, "answer", "poll", since=revoked_at + 6.0)]
        assert refused
        assert {(message["status"], message.get("code")) for message in refused} == {(503, "unavailable")}
        assert not told(world, "revoked", "a", "b")
        switch(on=False)
        await commits(world, 40.0)
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert in_force(world, "n1") == 3
        assert [client.mode for client in clients] == ["live", "live", "polling"]

    run_checked(6, scenario, token_s=TOKEN_S, bounds=BOUNDS)


def test_a11_the_store_is_rewound_past_a_revocation() -> None:
    """The revocation is gone with the history that held it, on every node; tokens that it revoked are good again."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        first = presented(world)
        world.faults.revoke("poll")
        await commits(world, 20.0)
        world.faults.backup("between")
        revoke(world, *clients[:2])
        await commits(world, 30.0)
        assert [in_force(world, node) for node in world.nodes] == [3, 3]
        assert [good(world, token) for token in first] == [0, 0, 0]
        world.faults.rewind("between", advance=3)
        await commits(world, 60.0)
        assert [in_force(world, node) for node in world.nodes] == [1, 1]
        assert [good(world, token) for token in first] == [2, 2, 0]
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert [client.mode for client in clients] == ["live", "live", "polling"]

    run_checked(7, scenario, token_s=TOKEN_S, bounds=BOUNDS)


def test_a_node_that_was_started_behind_a_revocation_refuses_the_token() -> None:
    """S12, S15: it reads what is revoked before it listens."""

    async def scenario(world: World) -> None:
        clients = await start(world, nodes=["n1"])
        world.faults.crash("n1")
        await world.sleep(1.0)
        revoke(world, *clients)
        await world.sleep(10.0)
        world.faults.provider("stale")
        await world.faults.restart("n1")
        assert in_force(world, "n1") == 3
        started_at = world.now
        await commits(world, 60.0)
        assert not told(world, "welcome", "a", "b", since=started_at)
        assert {event.message["status"] for event in told(world, "answer", "poll", since=started_at)} == {401}
        world.faults.provider(None)
        await world.until(fresh(*clients), BOUNDS.converge_s)

    run_checked(8, scenario, nodes=1, token_s=TOKEN_S, bounds=BOUNDS)


def test_a_revocation_is_undone() -> None:
    """S14: the same tokens are good again, on every node; and one that was away all the while goes on with its own."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        first = presented(world)
        for node in world.nodes:
            world.faults.partition("b", node)
        revoke(world, *clients, through="n2")
        await commits(world, 20.0)
        assert [good(world, token) for token in first] == [0, 0, 0]
        for client in clients:
            world.faults.undo_revoke(client.name, through="n1")
        await commits(world, 10.0)
        assert [in_force(world, node) for node in world.nodes] == [0, 0]
        assert [good(world, token) for token in first] == [2, 2, 2]
        for node in world.nodes:
            world.faults.restore_routes("b", node)
        await commits(world, 60.0)
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert [client.mode for client in clients] == ["live", "live", "polling"]

    run_checked(9, scenario, token_s=TOKEN_S, bounds=BOUNDS)
