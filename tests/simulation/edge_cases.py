"""Corners that random schedules seldom reach: worlds where one rule alone stands between a client and a lie."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from softstate.server import ServerConfig
from softstate.testing import World
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.oracle.oracle import Bounds, Oracle
from softstate.testing.simulation.checked import run_checked

Corner = Callable[[World], Awaitable[None]]


def run(corner: Corner) -> tuple[World, Oracle]:
    """Run a corner's world, with an oracle. Raises `PromiseBroken`."""
    return run_checked(1, corner, **(SHORT if corner in SHORT_LEASED else {}))


async def changed_while_read(world: World) -> None:
    """Change a topic after the read for a subscription saw the store, and before its answer is there."""
    follower = await world.client("a", "u/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.faults.call_slow("n1", "read", 1.0, 1.0)
    follower.subscribe("t/x")
    await world.sleep(0.75)
    world.faults.commit("t/x", 1)
    await world.sleep(10.0)


async def renewed_while_the_hub_lags(world: World) -> None:
    """Renew many leases at once with a node that reads the feed, and the head, more slowly than others commit."""
    followers = [await world.client(f"a{number}", "t/", nodes=["n1"]) for number in range(8)]
    await world.until(lambda: all(follower.mode == "live" for follower in followers))
    world.faults.call_slow("n1", "feed", 1.3, 1.3)
    world.faults.call_slow("n1", "head", 0.9, 0.9)
    for number in range(100):
        world.faults.commit(f"t/{number}", number)
        await world.sleep(0.1)


async def renewed_while_congested(world: World) -> None:
    """Renew a lease whose connection is full of pushes, and change what waits there once more."""
    follower = await world.client("a", "t/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.network.narrow("n1", "a", 1_000)
    world.faults.stop_reading("a")
    for number in range(36):
        world.faults.commit(f"t/{number % 10}", [number, "." * 300])
        await world.sleep(0.05)
    world.faults.read_again("a")
    await world.sleep(5.0)


async def names_forgotten(world: World) -> None:
    """Let a node forget what a lease is about, and change it."""
    follower = await world.client("a", "t/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.faults.forget_names("n1")
    for number in range(20):
        world.faults.commit(f"t/{number}", number)
        await world.sleep(0.5)


async def lost_then_cut(world: World) -> None:
    """Lose a push, let a later one arrive, and cut the connection before any renewal can tell; no poll gets through."""
    follower = await world.client("a", "t/")
    await world.until(lambda: follower.mode == "live")
    await world.sleep(30.0)  # by then a renewal has agreed on the set, so that the session can be resumed
    for node in world.nodes:
        world.faults.block("a", node, "http")
    world.faults.frames(FrameRule("drop", "notify", receiver="a"))
    world.faults.commit("t/lost", 1)
    await world.sleep(0.5)
    world.faults.commit("t/later", 2)
    await world.sleep(0.5)
    for node in world.nodes:
        world.faults.reset("a", node)
    await world.sleep(10.0)


async def rewound_while_suspect(world: World) -> None:
    """Let pushes of a history that is no more arrive while their client doubts the node and has looked elsewhere."""
    await _rewound_under_way(world, late_s=8.0)


async def rewound_and_left(world: World) -> None:
    """Let pushes of a history that is no more arrive when their client has long gone to another node."""
    await _rewound_under_way(world, late_s=20.0)


async def _rewound_under_way(world: World, late_s: float) -> None:
    follower = await world.client("a", "t/", nodes=("n1", "n2"))
    await world.until(lambda: follower.mode == "live")
    for number in range(5):
        world.faults.commit(f"t/{number}", "before")
    await world.sleep(1.0)
    renewed = trio.Event()
    world.faults.frames(FrameRule("tell", "renew", sender="a", hit=lambda _frame: renewed.set()))
    await renewed.wait()
    world.faults.slow("n1", "a", late_s, late_s)
    world.faults.backup("before")
    for number in range(8):
        world.faults.commit(f"t/{number}", "never was")
    await world.sleep(0.1)
    world.faults.freeze("n1")  # so that it says no goodbye
    world.faults.rewind("before", advance=1)
    await world.sleep(late_s + 10.0)


async def rewound_to_where_the_hub_lags(world: World) -> None:
    """Answer a subscriber from a store that the hub lags, and restore a backup between the two that others advance."""
    follower = await world.client("a", "u/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.faults.call_slow("n1", "feed", 0.3, 0.3)
    world.faults.backup("between")
    for number in range(5):
        world.faults.commit(f"t/{number}", "lost")
    handle = follower.subscribe("t/")
    await world.until(lambda: "t/4" in follower.known(handle))
    world.faults.rewind("between", advance=20)
    world.faults.commit("t/5", "of another history")
    await world.sleep(20.0)


SHORT_LEASED = (
    changed_while_read,
    renewed_while_the_hub_lags,
    renewed_while_congested,
    names_forgotten,
    rewound_to_where_the_hub_lags,
)
SHORT: dict[str, Any] = {
    "config": ServerConfig(ttl_ms=3_000),
    "bounds": Bounds(ttl_s=3.0, renew_s=1.0),
    "sample_every_s": 0.1,
}
"""Leases for those: a renewal every second, and a look at everybody ten times as often."""
