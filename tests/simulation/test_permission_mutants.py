"""A mutant for each rule of permissions, and what breaks in one world without it.

The world narrows rules, lets one client read slowly, has tokens end while no others are to be had, and removes keys.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.testing import World
from softstate.testing.oracle.oracle import Bounds, PromiseBroken
from softstate.testing.simulation.checked_run import run_checked
from tests.kit import session_mutants
from tests.kit.permissions_rig import commits, fresh, start
from tests.kit.simulation_rig import RARE_MS, count_of
from tests.simulation import permission_mutants as mutants

TOKEN_S = 90.0
BOUNDS = Bounds(service_s=75.0)

Mutate = Callable[[pytest.MonkeyPatch], None]

CAUGHT: list[tuple[Mutate, str]] = [
    (session_mutants.names_are_not_judged, "S13"),
    (mutants.polls_are_not_judged, "S13"),
    (mutants.nobody_looks_at_credentials_again, "S12"),
    (session_mutants.rules_are_not_compared, "S12"),
    (session_mutants.leases_are_not_judged_again, "S12"),
    (mutants.denied_comes_last, "S7"),
    (mutants.pushes_of_lost_names_stay, "S12"),
    (mutants.discarded_pushes_are_counted, "S17"),
    (mutants.bad_tokens_are_anonymous, "S12"),  # nor has what anybody may do an end
    (mutants.denied_is_ignored, "S17"),
    (mutants.tokens_are_fetched_when_refused_only, "S17"),
    (mutants.new_tokens_are_not_presented, "S17"),
    (mutants.provider_is_asked_once, "L"),
]


async def scenario(world: World) -> None:
    random = world.seeds.random("commits")

    async def commits(for_s: float, *topics: str, every_s: float = 2.0) -> None:
        ends = world.now + for_s
        while world.now < ends:
            await world.sleep(random.uniform(0.1, 2.0) * every_s)
            world.faults.commit(random.choice(topics), "x" * 2_000)

    a = await world.client("a", "t/", "single", nodes=["n1"], beat_ms=1_000)
    b = await world.client("b", "t/", "u/", "single", nodes=["n1"], allowed=["t/", "single"], beat_ms=RARE_MS)
    poll = await world.client("poll", "t/", "u/", nodes=["n1"], push=False, allowed=["t/"])
    await commits(20.0, "t/1", "u/1", "single")
    assert "u/1" not in b.known()
    # Another token in place, and nothing else.
    await commits(TOKEN_S, "t/1", "single")
    for client in (a, b):
        assert (count_of(client, "connects"), count_of(client, "polls")) == (1, 0), "S17"
    # A prefix is lost while pushes of it wait: `a` renews, since it hears nothing.
    world.faults.stop_reading("a")
    for number in range(200):
        world.faults.commit(f"t/{number}", "x" * 2_000)
    await world.sleep(0.1)
    for client in (a, b, poll):
        world.faults.policy(client.name, "single")
    await commits(3.0, "single", "t/1", every_s=0.5)
    world.faults.resume_reading("a")
    await commits(100.0, "t/1", "t/2", "single")
    for client in (a, b):
        repairs = [count_of(client, name) for name in ("repairs_mismatch", "repairs_sent_unequal")]
        assert repairs == [0, 0], "S17"
    # Tokens end, and there are no others for a while.
    world.faults.provider("hangs")
    await commits(2 * TOKEN_S, "single", "t/1", every_s=1.0)
    world.faults.provider(None)
    await commits(60.0, "single")
    world.faults.provider("hangs")
    world.faults.crash("n1")
    await world.sleep(TOKEN_S + 15.0)
    await world.faults.restart("n1")
    await commits(30.0, "single")
    world.faults.provider(None)
    world.faults.remove_keys()
    await commits(30.0, "single")


UNHEEDED: list[Mutate] = [
    mutants.revocations_are_heeded_last,
    mutants.leases_of_a_subject_are_not_found,
    mutants.revocations_are_not_read_at_the_start,
    mutants.nodes_trust_themselves_for_ever,
    mutants.tokens_that_were_good_stay_so,
]
"""Mutants of revocations through the store: all break S12."""


async def revocations(world: World) -> None:
    """Revoke subjects that are live, that cannot hear of it, and that are away with their node."""
    clients = await start(world, nodes=["n1"])

    async def revoke(for_s: float) -> None:
        for client in clients:
            world.faults.revoke(client.name)
            world.faults.commit("t/0", "behind it")
        await commits(world, for_s)

    await commits(world, 5.0)
    await revoke(30.0)
    world.faults.feed_stuck("n1")
    await revoke(30.0)
    world.faults.feed_stuck("n1", on=False)
    await world.until(fresh(*clients), BOUNDS.converge_s)
    world.faults.crash("n1")
    await world.sleep(1.0)
    await revoke(10.0)
    await world.faults.restart("n1")
    await commits(world, 30.0)


def test_the_world_is_in_order() -> None:
    _, oracle = run_checked(1, scenario, nodes=1, token_s=TOKEN_S, bounds=BOUNDS)
    assert oracle.permissions.judged > 100


def test_the_world_of_revocations_is_in_order() -> None:
    _, oracle = run_checked(1, revocations, nodes=1, token_s=600.0, bounds=BOUNDS)
    assert oracle.revocations.judged


@pytest.mark.parametrize("mutate", UNHEEDED, ids=lambda each: each.__name__)
def test_a_mutant_of_revocations_breaks_s12(monkeypatch: pytest.MonkeyPatch, mutate: Mutate) -> None:
    mutate(monkeypatch)
    with pytest.raises(PromiseBroken) as caught:
        run_checked(1, revocations, nodes=1, token_s=600.0, bounds=BOUNDS)
    assert {violation.promise for violation in caught.value.violations} & {"S12", "S15"}


@pytest.mark.parametrize(("mutate", "promise"), CAUGHT, ids=lambda each: getattr(each, "__name__", each))
def test_a_mutant_breaks_a_promise(monkeypatch: pytest.MonkeyPatch, mutate: Mutate, promise: str) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError) as caught:
        run_checked(1, scenario, nodes=1, token_s=TOKEN_S, bounds=BOUNDS)
    if isinstance(caught.value, PromiseBroken):
        assert promise in {violation.promise for violation in caught.value.violations}
    else:
        assert str(caught.value).splitlines()[0] == promise
