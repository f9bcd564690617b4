"""Kinds of random faults of permissions, for worlds whose nodes check credentials; as `random_faults`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Literal, TypeAlias

import trio

from softstate.client.requests.reply import HttpFailed
from softstate.client.shell.http import HttpClient
from softstate.client.url import parse_url
from softstate.errors import RequestError
from softstate.names import ALL
from softstate.testing.simulation.callout import ANSWER_S, TTL_S
from softstate.testing.simulation.random_faults import CLIENTS, NODES, End
from softstate.testing.simulation.signed_issuer import KEYS_S, RULES_S, SignedIssuer
from softstate.testing.simulation.world import World
from softstate.wire import JSON

NARROW = ((), ("single",), ("t/",), ("t/0", "single"), ("t/1/", "t/2/", "other/"))
"""Rights that are left to a client for a while."""


Checks: TypeAlias = Literal["issuer", "callout", "policy"]
"""How the nodes of a world check credentials: by a simulated issuer, by a callout, or by tokens with signatures, with
keys that they fetch and a policy file."""

CHECKS: tuple[Checks, ...] = ("issuer", "issuer", "callout", "policy")

KNOWN_S: dict[Checks, tuple[float, float]] = {
    "issuer": (0.0, 0.0), "callout": (ANSWER_S, ANSWER_S), "policy": (RULES_S, KEYS_S),
}  # fmt: skip
"""Time within which each node knows of other rules, and of tokens that are not good any more."""

ASKED_AGAIN_S: dict[Checks, float] = {"issuer": 0.0, "callout": TTL_S + 10.0, "policy": RULES_S}
"""Time after which an application asks again for what it may read again."""


def checks_of(seed: int) -> Checks:
    """Return how the nodes of a seed's world check credentials."""
    return CHECKS[seed // 2 % len(CHECKS)]


def asks_names(seed: int) -> bool:
    """Tell whether a callout is asked about names, too: in one of two of its worlds."""
    return seed // 8 % 2 == 1


def told_at_once(seed: int) -> bool:
    """Tell whether a simulated issuer has nodes judge sessions when rules change: in one of two of its worlds."""
    return seed // 2 % 2 == 1


def _checks(world: World) -> Checks:
    if world.callout is not None:
        return "callout"
    return "policy" if isinstance(world.issuer, SignedIssuer) else "issuer"


def _policy(world: World, random: Random) -> End:
    client = random.choice(CLIENTS)
    world.faults.policy(client, *random.choice(NARROW))
    wait_s = ASKED_AGAIN_S[_checks(world)]

    async def ask_later() -> None:
        await trio.sleep(wait_s)
        world.clients[client].ask_again()

    def end() -> None:
        world.faults.policy(client, ALL)
        world.clients[client].ask_again()
        if wait_s:
            world.nursery.start_soon(ask_later)

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


def _rotate_keys(world: World, _random: Random) -> End:
    world.faults.rotate_keys()
    return world.faults.remove_keys


def _revoke_token(world: World, random: Random) -> End:
    client, through = random.choice(CLIENTS), random.choice((None, *NODES))
    assert world.issuer is not None
    if (token := world.issuer.last.get(client)) is not None:
        world.faults.revoke(client, token, through=through)
    return None


def _callout(world: World, random: Random) -> End:
    world.faults.callout(random.choice(("down", "slow", "hangs", "broken")))
    return lambda: world.faults.callout(None)


def _log_out(world: World, random: Random) -> End:
    world.faults.log_out(random.choice(CLIENTS))
    return None


def _keys(world: World, random: Random) -> End:
    world.faults.keys(random.choice(("down", "slow", "hangs", "broken")))
    return lambda: world.faults.keys(None)


def _spoil_policy(world: World, _random: Random) -> End:
    issuer = world.issuer
    assert isinstance(issuer, SignedIssuer)
    world.faults.spoil_policy()
    return issuer.write


def _strangers(world: World, random: Random) -> End:
    """Have a host present tokens that nobody has issued, as fast as it is answered."""
    node = random.choice(NODES)
    world.faults.note("strangers", f"at {node}")
    scope = trio.CancelScope()
    world.nursery.start_soon(flood, world, node, scope)
    return scope.cancel


STRANGER = "stranger"
"""The host of `flood`."""


async def flood(world: World, node: str, scope: trio.CancelScope, every_s: float = 0.05) -> None:
    """Poll a node until the scope is cancelled, each time with another token: of a key that nobody has, or of nobody.

    Raises AssertionError if one of them is taken.
    """
    issuer, url, number = world.issuer, parse_url(world.nodes[node].url), 0
    http = HttpClient(world.network.opener(STRANGER), JSON)
    with scope:
        while True:
            number += 1
            invented = f"invented-{number}"
            http.cell.token = issuer.forge("poll", invented) if isinstance(issuer, SignedIssuer) else invented
            with suppress(HttpFailed, RequestError):
                reply = await http.request(url, "GET", "/v1/topics/single", timeout_s=5.0)
                assert reply.status in (401, 429, 503), f"a stranger was answered {reply.status}"
            await trio.sleep(every_s)


PERMISSION_KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "policy": (12, _policy), "provider": (6, _provider), "remove_keys": (6, _remove_keys), "wall_jump": (3, _wall_jump),
}  # fmt: skip
"""The kinds for a simulated issuer, each with its weight among those of `random_faults`."""

CALLOUT_KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "callout": (14, _callout), "log_out": (8, _log_out), "policy": (10, _policy), "feed_stuck": (2, _feed_stuck),
    "strangers": (4, _strangers),
}  # fmt: skip

POLICY_KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "policy": (12, _policy), "provider": (4, _provider), "rotate_keys": (6, _rotate_keys),
    "remove_keys": (4, _remove_keys), "keys": (8, _keys), "spoil_policy": (4, _spoil_policy),
    "wall_jump": (3, _wall_jump), "revoke": (4, _revoke), "revoke_token": (4, _revoke_token),
    "feed_stuck": (3, _feed_stuck), "strangers": (4, _strangers),
}  # fmt: skip

KINDS_OF: dict[Checks, dict[str, tuple[int, Callable[[World, Random], End]]]] = {
    "issuer": PERMISSION_KINDS, "callout": CALLOUT_KINDS, "policy": POLICY_KINDS,
}  # fmt: skip
"""The kinds of each way to check."""

REVOCATION_KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "revoke": (2, _revoke), "feed_stuck": (1, _feed_stuck),
}  # fmt: skip
"""Kinds of which a schedule has a few or none, drawn apart from all others: these stay what they were under a seed."""
