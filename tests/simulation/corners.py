"""Corners that random schedules seldom reach: worlds where one rule alone stands between a client and a lie."""

from __future__ import annotations

import trio

from softstate.testing import World
from softstate.testing.frame_rules import FrameRule


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
