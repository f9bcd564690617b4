"""Fault schedules A2, A3 and A7 with the real thing: signed tokens, keys that are fetched, and a policy file.

The oracle checks S12 to S16 with every message, within the time in which nodes read a file or fetch keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from softstate.auth.keyring import Keyring
from softstate.server.auth.keeper import PolicyKeeper
from softstate.testing import SimClient, World
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.random_permissions import flood
from softstate.testing.simulation.signed_issuer import (
    COOL_S,
    FRESH_S,
    KEYS_S,
    RULES_S,
    STALE_S,
    KeysFault,
    SignedIssuer,
)
from softstate.testing.trace import ClientEnded, MessageWritten, NamesDenied
from tests.kit.permissions_rig import commits, fresh, repaired, start
from tests.kit.simulation_rig import count_of

BOUNDS = Bounds(service_s=75.0, rules_s=RULES_S, keys_s=KEYS_S)
TOKEN_S = 120.0
OUTAGE_S, LONG_S, WELL_S = 400.0, 1_200.0, 300.0


def unnoticed(*clients: SimClient) -> bool:
    return all((client.mode, count_of(client, "connects"), repaired(client)) == ("live", 1, 0) for client in clients)


def issuer_of(world: World) -> SignedIssuer:
    assert isinstance(world.issuer, SignedIssuer)
    return world.issuer


def run(seed: int, scenario: Callable[[World], Awaitable[None]], folder: Path) -> World:
    world, oracle = run_checked(seed, scenario, token_s=TOKEN_S, policy_folder=folder, bounds=BOUNDS)
    assert oracle.permissions.judged > 50
    return world


def test_a2_a_key_is_rotated_and_its_tokens_are_good_at_once(tmp_path: Path) -> None:
    """S14, S17: a node that does not know the key of a token has the keys fetched, no sooner than it may."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        issuer = issuer_of(world)
        for _ in range(3):
            world.faults.rotate_keys()
            await commits(world, 1.5 * TOKEN_S)
            assert all(client.age() < 30 for client in clients)
        assert unnoticed(*clients[:2])
        assert issuer.asked <= 2 * (4.5 * TOKEN_S / FRESH_S + 3 * 3)

    run(2, scenario, tmp_path)


def test_a2_a_key_is_removed_and_its_tokens_are_dead_within_a_fetch_and_a_renewal(tmp_path: Path) -> None:
    """S12, S14, S17: and others are presented in place."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.remove_keys()
        removed_at = world.now
        await commits(world, FRESH_S + 25.0)
        for client in clients[:2]:
            refused = [
                event.at_s
                for event in world.trace.of(MessageWritten)
                if (event.op, event.sender) == ("auth", client.name) and event.at_s > removed_at
            ]
            assert refused, "it has presented another token"
        await world.until(fresh(*clients), BOUNDS.converge_s)
        assert unnoticed(*clients[:2])

    run(3, scenario, tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("fault", "outage_s"), [("hangs", OUTAGE_S), ("down", LONG_S), ("hangs", LONG_S), ("broken", LONG_S)]
)
def test_a3_strangers_flood_a_node_while_no_keys_can_be_fetched(
    fault: KeysFault, outage_s: float, tmp_path: Path
) -> None:
    """S14, S17: for longer than keys are fresh nobody notices; the issuer is asked no more often than it may be."""

    async def scenario(world: World) -> None:
        issuer = issuer_of(world)
        issuer.stale_s = 3_600.0
        issuer.write()
        clients = await start(world)
        before, scope = issuer.asked, trio.CancelScope()
        world.nursery.start_soon(flood, world, "n1", scope, 1.0)
        world.faults.keys(fault)
        await commits(world, outage_s)
        assert unnoticed(*clients[:2])
        assert all(client.age() < 30 for client in clients)
        world.faults.keys(None)
        before = issuer.asked
        await commits(world, WELL_S)
        scope.cancel()
        # One node looks for keys that nobody has; the other asks now and then.
        assert WELL_S / COOL_S / 2 < issuer.asked - before <= WELL_S / COOL_S + WELL_S / FRESH_S + 4
        assert unnoticed(*clients[:2])

    run(4, scenario, tmp_path)


def test_a3_keys_that_are_too_old_end_all_and_everybody_comes_back(tmp_path: Path) -> None:
    """S12, S14: no token is good without keys; no client stops."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.keys("down")
        await commits(world, STALE_S + 90.0)
        assert all(client.mode != "live" for client in clients)
        assert all(client.age() > 30 for client in clients)
        world.faults.keys(None)
        await world.until(fresh(*clients), BOUNDS.converge_s)

    world = run(5, scenario, tmp_path)
    assert not [event for event in world.trace.of(ClientEnded) if event.how == "stopped"]


def test_a7_a_policy_file_is_narrowed_then_spoilt_then_put_right(tmp_path: Path) -> None:
    """S12, S13, S17: what cannot be read changes nothing, and no connection ends."""

    async def scenario(world: World) -> None:
        clients = await start(world)
        world.faults.spoil_policy()
        await commits(world, 60.0)
        assert unnoticed(*clients[:2])
        assert not world.trace.of(NamesDenied)
        for client in clients:
            world.faults.policy(client.name, "single")
        await commits(world, RULES_S + 40.0)
        assert {event.client for event in world.trace.of(NamesDenied)} == {"a", "b", "poll"}
        assert all(set(client.known()) == {"single"} for client in clients)
        world.faults.policy("a", "single", "t/")
        await world.sleep(RULES_S)
        handle = clients[0].subscribe("t/")
        await commits(world, 30.0)
        assert clients[0].age(handle) < 60
        assert unnoticed(*clients[:2])

    run(7, scenario, tmp_path)


# Mutants ------------------------------------------------------------------------------------------------------------


def keys_are_fetched_for_each_stranger(patch: pytest.MonkeyPatch) -> None:
    """A key that is not there asks for a fetch, though there has just been one."""

    def began(self: Keyring, now: float) -> None:
        _began(self, now)
        self._began_at = now - COOL_S + 0.5

    _began = Keyring.began
    patch.setattr(Keyring, "began", began)


def a_failed_fetch_takes_the_keys(patch: pytest.MonkeyPatch) -> None:
    """A fetch that fails leaves no keys."""

    def failed(self: Keyring, why: str) -> None:
        _failed(self, why)
        self._keys = ()

    _failed = Keyring.failed
    patch.setattr(Keyring, "failed", failed)


def keys_are_good_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Keys are good without a fetch for as long as it takes."""
    patch.setattr(Keyring, "_is_stale", lambda self, now: False)


def removed_keys_stay(patch: pytest.MonkeyPatch) -> None:
    """Keys of a fetch join those that are there."""

    def got(self: Keyring, keys: object, now: float) -> bool:
        before = self.keys
        _got(self, keys, now)  # type: ignore[arg-type]
        self._keys = (*before, *(key for key in self._keys if key not in before))
        return False

    _got = Keyring.got
    patch.setattr(Keyring, "got", got)


def keys_are_fetched_now_and_then_only(patch: pytest.MonkeyPatch) -> None:
    """A key that is not there asks for no fetch."""
    patch.setattr(PolicyKeeper, "_wake", lambda self: None)
    patch.setattr(Keyring, "find", _found(Keyring.find))


def _found(find: Callable[..., object]) -> Callable[..., object]:
    def found(self: Keyring, *args: object) -> object:
        due_at = self._due_at
        key = find(self, *args)
        self._due_at = due_at
        return key

    return found


def policy_files_are_read_once(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the policy file again."""

    async def look(self: PolicyKeeper) -> None:
        await trio.sleep_forever()

    patch.setattr(PolicyKeeper, "_look", look)


Schedule = Callable[[Path], None]

a3: Callable[..., None] = test_a3_strangers_flood_a_node_while_no_keys_can_be_fetched


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("mutate", "schedule"),
    [
        (keys_are_fetched_for_each_stranger, partial(a3, "down", 90.0)),
        (a_failed_fetch_takes_the_keys, partial(a3, "down", 90.0)),
        (keys_are_good_for_ever, test_a3_keys_that_are_too_old_end_all_and_everybody_comes_back),
        (removed_keys_stay, test_a2_a_key_is_removed_and_its_tokens_are_dead_within_a_fetch_and_a_renewal),
        (keys_are_fetched_now_and_then_only, test_a2_a_key_is_rotated_and_its_tokens_are_good_at_once),
        (policy_files_are_read_once, test_a7_a_policy_file_is_narrowed_then_spoilt_then_put_right),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_mutant_is_noticed(
    mutate: Callable[[pytest.MonkeyPatch], None], schedule: Schedule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mutate(monkeypatch)
    monkeypatch.setattr("tests.simulation.test_schedule_keys.WELL_S", 90.0)
    with pytest.raises(AssertionError):
        schedule(tmp_path)
