"""Kinds of random faults of permissions, for worlds whose nodes check credentials; as `random_faults`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from softstate.names import ALL
from softstate.testing.simulation.random_faults import CLIENTS, NODES, End
from softstate.testing.simulation.world import World

NARROW = ((), ("single",), ("t/",), ("t/0", "single"), ("t/1/", "t/2/", "other/"))
"""Rights that are left to a client for a while."""


def _policy(world: World, random: Random) -> End:
    client = random.choice(CLIENTS)
    world.faults.policy(client, *random.choice(NARROW))

    def end() -> None:
        world.faults.policy(client, ALL)
        world.clients[client].ask_again()

    return end


def _provider(world: World, random: Random) -> End:
    world.faults.provider(random.choice(("fails", "hangs", "stale")))
    return lambda: world.faults.provider(None)


def _remove_keys(world: World, _random: Random) -> End:
    world.faults.remove_keys()
    return None


def _wall_jump(world: World, random: Random) -> End:
    node, by_s = random.choice(NODES), random.choice((-3_600.0, -10.0, 10.0, 3_600.0))
    world.faults.wall_jump(node, by_s)
    return lambda: world.faults.wall_jump(node, -by_s)


def _revoke(world: World, random: Random) -> End:
    client, through = random.choice(CLIENTS), random.choice((None, *NODES))
    world.faults.revoke(client, through=through)
    if random.random() < 0.5:
        return None  # its next token is good
    return lambda: world.faults.undo_revoke(client, through=through)


def _feed_stuck(world: World, random: Random) -> End:
    node = random.choice(NODES)
    world.faults.feed_stuck(node)
    return lambda: world.faults.feed_stuck(node, on=False)


PERMISSION_KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "policy": (12, _policy), "provider": (6, _provider), "remove_keys": (6, _remove_keys), "wall_jump": (3, _wall_jump),
}  # fmt: skip
"""The kinds, each with its weight among those of `random_faults`."""

REVOCATION_KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "revoke": (2, _revoke), "feed_stuck": (1, _feed_stuck),
}  # fmt: skip
"""Kinds of which a schedule has a few or none, drawn apart from all others: these stay what they were under a seed."""
