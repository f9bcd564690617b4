"""Edge cases that random schedules rarely reach: in each, a single rule keeps a promise from breaking.

`run` runs one with an oracle. `test_edge_cases.py` checks that the product passes, `test_mutants.py` that a product
without the rule fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from softstate.server import ServerConfig
from softstate.testing import World
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.oracle.oracle import Bounds, Oracle
from softstate.testing.simulation.checked_run import run_checked

EdgeCase = Callable[[World], Awaitable[None]]


def run(edge_case: EdgeCase) -> tuple[World, Oracle]:
    """Run an edge case with an oracle. Raises `PromiseBroken`."""
    return run_checked(1, edge_case, **(SHORT if edge_case in SHORT_LEASED else OFTEN if edge_case in POLLING else {}))


async def changed_while_read(world: World) -> None:
    """Change a topic after the store read for a subscription, and before its answer."""
    follower = await world.client("a", "u/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.faults.call_slow("n1", "read", 1.0, 1.0)
    follower.subscribe("t/x")
    await world.sleep(0.75)
    world.faults.commit("t/x", 1)
    await world.sleep(10.0)


async def changed_while_greeted(world: World) -> None:
    """Change a topic after the store read for a client that has just come, and before its answer; no poll helps it."""
    world.faults.commit("t/old", 0)
    world.faults.call_slow("n1", "read", 1.0, 1.0)
    for node in world.nodes:
        world.faults.block("a", node, "http")
    await world.client("a", "t/", nodes=["n1"])
    await world.sleep(0.75)
    world.faults.commit("t/x", 1)
    await world.sleep(10.0)


async def renewed_while_the_hub_lags(world: World) -> None:
    """Renew many leases at once with a node that reads the feed and the head more slowly than others commit."""
    followers = [await world.client(f"a{number}", "t/", nodes=["n1"]) for number in range(8)]
    await world.until(lambda: all(follower.mode == "live" for follower in followers))
    world.faults.call_slow("n1", "feed", 1.3, 1.3)
    world.faults.call_slow("n1", "head", 0.9, 0.9)
    for number in range(100):
        world.faults.commit(f"t/{number}", number)
        await world.sleep(0.1)


async def renewed_from_the_level(world: World) -> None:
    """Renew many leases, a few times for each read of the head, with a node that learns late of others' commits."""
    followers = [await world.client(f"a{number}", "t/", nodes=["n1"]) for number in range(12)]
    await world.until(lambda: all(follower.mode == "live" for follower in followers))
    world.faults.call_slow("n1", "feed", 0.15, 0.15)
    for number in range(100):
        world.faults.commit(f"t/{number}", number)
        await world.sleep(0.1)


async def polled_from_memory(world: World) -> None:
    """Poll for a few topics, many times for each read of the store, with a node that learns late of others' commits."""
    topics = [f"t/{number}" for number in range(3)]
    for topic in topics:
        world.faults.commit(topic, 0)
    for number in range(12):
        await world.client(f"a{number}", *topics, nodes=["n1"], push=False)
    await world.sleep(1.0)
    world.faults.call_slow("n1", "feed", 0.15, 0.15)
    for number in range(100):
        world.faults.commit(topics[number % 3], number)
        await world.sleep(0.05 if number % 2 else 0.75)


async def polled_while_changes_pass(world: World) -> None:
    """Let changes pass between a slow read for a poll and its answer; polls of others keep the node's level young."""
    for number in range(12):
        await world.client(f"a{number}", "t/quiet", nodes=["n1"], push=False)
    await world.client("b", "t/x", "t/y", nodes=["n1"], push=False)
    await world.sleep(3.0)
    world.faults.call_slow("n1", "read", 0.4, 0.4)
    for number in range(12):
        for topic in ("t/x", "t/y", "t/x", "t/y"):
            world.faults.commit(topic, number)
            await world.sleep(0.15)
        await world.sleep(2.0)


async def renewed_while_congested(world: World) -> None:
    """Renew a lease whose connection is full of pushes, and change pending topics again."""
    follower = await world.client("a", "t/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.network.set_window("n1", "a", 1_000)
    world.faults.stop_reading("a")
    for number in range(36):
        world.faults.commit(f"t/{number % 10}", [number, "." * 300])
        await world.sleep(0.05)
    world.faults.resume_reading("a")
    await world.sleep(5.0)


async def names_forgotten(world: World) -> None:
    """Let a node forget the names of a lease, and change their topics."""
    follower = await world.client("a", "t/", nodes=["n1"])
    await world.until(lambda: follower.mode == "live")
    world.faults.forget_names("n1")
    for number in range(20):
        world.faults.commit(f"t/{number}", number)
        await world.sleep(0.5)


async def lost_then_cut(world: World) -> None:
    """Lose a push, let a later one arrive, and cut the connection before a renewal shows it; no poll gets through."""
    follower = await world.client("a", "t/", beat_ms=None)
    await world.until(lambda: follower.mode == "live")
    await world.sleep(30.0)  # by then a renewal has confirmed the names, so that the session can be resumed
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
    """Let pushes of a lost history arrive while their client suspects the node and has polled another one."""
    await _rewound_under_way(world, late_s=8.0)


async def rewound_and_left(world: World) -> None:
    """Let pushes of a lost history arrive long after their client has moved to another node."""
    await _rewound_under_way(world, late_s=20.0)


async def _rewound_under_way(world: World, late_s: float) -> None:
    follower = await world.client("a", "t/", nodes=("n1", "n2"), beat_ms=None)
    await world.until(lambda: follower.mode == "live")
    for number in range(5):
        world.faults.commit(f"t/{number}", "before")
    await world.sleep(1.0)
    renewed = trio.Event()
    world.faults.frames(FrameRule("observe", "renew", sender="a", hit=lambda _frame: renewed.set()))
    await renewed.wait()
    world.faults.slow("n1", "a", late_s, late_s)
    world.faults.backup("before")
    for number in range(8):
        world.faults.commit(f"t/{number}", "never was")
    await world.sleep(0.1)
    world.faults.freeze("n1")  # so that it sends no bye
    world.faults.rewind("before", advance=1)
    await world.sleep(late_s + 10.0)


async def rewound_to_where_the_hub_lags(world: World) -> None:
    """Answer a subscriber from a store ahead of the hub, then restore and advance a backup from between the two."""
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


async def published_again_after_a_rewind(world: World) -> None:
    """Publish twice with one key in a restored history, whose revisions the lost one had reached long before."""
    publisher = await world.client("p", "t/", nodes=["n1"])
    await world.until(lambda: publisher.mode == "live")
    world.faults.backup("early")
    for number in range(50):
        world.faults.commit(f"t/{number}", "lost")
    await world.sleep(ServerConfig().key_ms / 1000 + 60.0)
    world.faults.rewind("early")
    publisher.publish("t/keyed", "once", key="key")
    await world.sleep(1.0)
    # The node that looks at the head next finds it beyond all that it has seen of the lost history.
    for number in range(100):
        world.faults.commit(f"t/{number}", "new")
    await world.sleep(20.0)
    publisher.publish("t/keyed", "once", key="key")
    await world.sleep(5.0)


async def damaged_while_followed(world: World) -> None:
    """Damage records that a client has, lacks because its node lags, and asks for again; then publish them again."""
    follower = await world.client("a", "t/", nodes=["n1"], beat_ms=None)
    await world.until(lambda: follower.mode == "live")
    for number in range(8):
        world.faults.commit(f"t/{number}", number)
    await world.sleep(1.0)
    world.faults.call_slow("n1", "feed", 1.0, 1.0)
    world.faults.commit("t/late", 1)
    world.faults.damage("t/1", "t/late")
    await world.sleep(5.0)
    world.faults.call_slow("n1", "feed", 0, 0)
    await world.client("b", "t/", nodes=["n2"], codec="json")
    await world.client("poll", "t/", nodes=["n2"], push=False)
    await world.sleep(20.0)
    world.faults.commit("t/2", "while others are damaged")
    await world.sleep(5.0)
    world.faults.mend("t/1", "t/late")
    await world.sleep(20.0)


async def refused_after_an_answer_was_lost(world: World) -> None:
    """Publish to a node that commits, and ends before it answers; it comes back with a lower limit."""
    node = world.nodes["n1"]
    for number, push in enumerate((True, False)):
        publisher = await world.client(f"p{number}", "t/", nodes=["n1"], push=push)
        await world.sleep(5.0)
        world.faults.crash_at("n1", "publish.after_commit")
        publisher.publish(f"t/{number}", "." * 2_000)
        await world.sleep(1.0)
        limits, node.config = node.config, replace(node.config, value_bytes_max=1_000)
        await world.faults.restart("n1")
        await world.sleep(30.0)
        world.faults.crash("n1")
        node.config = limits
        await world.faults.restart("n1")
        await world.sleep(30.0)


SHORT_LEASED = (
    changed_while_read,
    changed_while_greeted,
    renewed_while_the_hub_lags,
    renewed_from_the_level,
    renewed_while_congested,
    names_forgotten,
    rewound_to_where_the_hub_lags,
)
SHORT: dict[str, Any] = {
    "config": ServerConfig(ttl_ms=3_000),
    "bounds": Bounds(ttl_s=3.0, renew_s=1.0),
    "sample_every_s": 0.1,
}
"""Options for these: a renewal every second, and ten samples a second."""

POLLING = (polled_from_memory, polled_while_changes_pass)
OFTEN: dict[str, Any] = {
    "config": ServerConfig(poll_every_ms=500, holds_max=1, held_names_max=1),
    "sample_every_s": 0.1,
}
"""Options for these: all clients but one, whose poll is held, poll twice a second, and are looked at ten times."""
