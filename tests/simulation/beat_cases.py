"""Edge cases of beats: in each, a single rule keeps a beat from proving what is not so (P-BEAT).

`run` runs one with an oracle. `test_beat_mutants.py` checks that the product passes, and that one without the rule
fails. All follow node ``n1`` with beats each second, and renewals too rare to show anything first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from softstate.server import ServerConfig
from softstate.server.storage.level import LEVEL_S_MAX
from softstate.testing import SimClient, World
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.network.frame_tap import Frame
from softstate.testing.oracle.oracle import Bounds, Oracle
from softstate.testing.simulation.checked_run import run_checked

BeatCase = Callable[[World], Awaitable[None]]


def run(case: BeatCase) -> tuple[World, Oracle]:
    """Run a case with an oracle. Raises `PromiseBroken`."""
    return run_checked(1, case, sample_every_s=0.1, **OPTIONS.get(case, {}))


async def _live(world: World, *names: str, name: str = "a", nodes: tuple[str, ...] = ("n1",)) -> SimClient:
    client = await world.client(name, *names, nodes=nodes)
    await world.until(lambda: client.mode == "live")
    return client


async def _next_beat(world: World, receiver: str = "a") -> None:
    """Return as soon as a beat is written."""
    written = trio.Event()
    world.faults.frames(FrameRule("observe", "beat", receiver=receiver, hit=lambda _frame: written.set()))
    await written.wait()


async def _commit_after_the_head_was_read(world: World, node: str) -> None:
    """Commit once a node has read the head for the next slot of beats, of which it learns three seconds later."""
    world.faults.call_slow(node, "feed", 3.0, 3.0)
    read = trio.Event()
    world.nodes[node].at_point("head.after", read.set)
    await read.wait()
    await world.sleep(0.005)
    world.faults.commit("t/x", 1)
    await world.sleep(5.0)


def _block_polls(world: World, client: str) -> None:
    for node in world.nodes:
        world.faults.block(client, node, "http")


async def head_read_slowly(world: World) -> None:
    """Let others commit while a node reads the head, and learns late of what they have committed."""
    await _live(world, "t/")
    world.faults.call_slow("n1", "feed", 1.7, 1.7)
    world.faults.call_slow("n1", "head", 0.8, 0.8)
    for number in range(60):
        world.faults.commit(f"t/{number % 3}", number)
        await world.sleep(0.1)


async def congested(world: World) -> None:
    """Change topics, old and new ones, before and after a beat waits on a connection that takes nothing."""
    await _live(world, "t/")
    world.network.set_window("n1", "a", 1_000)
    await _next_beat(world)
    world.faults.stop_reading("a")
    for number in range(43):
        world.faults.commit(f"t/{number // 2}", [number, "." * 300])
        await world.sleep(0.05)
    world.faults.resume_reading("a")
    await world.sleep(5.0)


async def clocks_apart(world: World) -> None:
    """Let the node's clock run fast, the client's slowly, each by as much as it may; and commit after a head read."""
    await _live(world, "t/")
    world.faults.clock_rate("n1", 1.01)
    world.faults.clock_rate("a", 0.99)
    await _next_beat(world)
    await _commit_after_the_head_was_read(world, "n1")


async def renewed_after_the_last_level(world: World) -> None:
    """Cut a node off its store for a minute, in which others commit; its clock is told by each renewal."""
    await _live(world, "t/")
    world.faults.commit("t/x", 1)
    await _next_beat(world)
    world.faults.store_down("n1")
    world.faults.commit("t/x", 2)
    await world.sleep(70.0)


async def name_forgotten(world: World) -> None:
    """Let a node forget the names of a lease, and change their topics."""
    await _live(world, "t/")
    world.faults.forget_names("n1")
    world.faults.commit("t/x", 1)
    await world.sleep(5.0)


async def subscribed_to_a_forgotten_lease(world: World) -> None:
    """Let a node forget a lease, and change its topics, before the client subscribes to another name."""
    follower = await _live(world, "t/")
    world.faults.amnesia("n1")
    world.faults.commit("t/x", 1)
    follower.subscribe("u/")
    await world.sleep(5.0)


async def asleep_past_its_lease(world: World) -> None:
    """Suspend a client until its lease is over; then change its topics."""
    await _live(world, "t/")
    world.faults.freeze("a")
    await world.sleep(7.0)
    world.faults.commit("t/x", 1)
    await world.sleep(2.0)
    world.faults.thaw("a")
    await world.sleep(5.0)


async def dropped(world: World) -> None:
    """Let too many pushes wait, with a beat among them."""
    await _live(world, "t/")
    world.network.set_window("n1", "a", 1_000)
    await _next_beat(world)
    world.faults.stop_reading("a")
    for number in range(8):
        world.faults.commit(f"t/{number}", "." * 300)
    await world.sleep(1.1)
    for number in range(20):
        world.faults.commit(f"u/{number}", number)
        world.faults.commit(f"t/u/{number}", number)
    await world.sleep(0.2)
    world.faults.resume_reading("a")
    await world.sleep(5.0)


async def resumed_with_a_name_less(world: World) -> None:
    """Let a node forget a name while its client is away, and learn so late of a commit that renewals have to wait."""
    await _live(world, "v/", name="b")
    follower = await _live(world, "t/", "u/")
    _block_polls(world, "a")
    world.faults.block("a", "n1", "websocket")
    world.faults.reset("a", "n1")
    world.faults.forget_names("n1")
    world.faults.commit("t/x", 1)
    await world.sleep(1.5)
    world.faults.call_slow("n1", "feed", 7.0, 7.0)
    world.faults.commit("v/x", 1)
    world.faults.restore_routes("a", "n1")
    _block_polls(world, "a")
    await world.until(lambda: follower.mode == "live")
    await world.sleep(5.0)


async def moved_to_a_clock_ahead(world: World) -> None:
    """End a node; the clock of the next one is ahead a little, and others commit after it has read the head."""
    world.faults.clock_jump("n2", 0.15)
    follower = await _live(world, "t/", nodes=("n1", "n2"))
    for _ in range(6):
        await _next_beat(world)
    world.faults.crash("n1")
    await world.until(lambda: follower.mode != "live")
    await world.until(lambda: follower.mode == "live")
    await _commit_after_the_head_was_read(world, "n2")


async def suspended_until_renewed(world: World) -> None:
    """Suspend a node right after it has read the head, until its client renews; others commit meanwhile."""
    await _live(world, "t/")
    await world.sleep(2.0)
    world.faults.call_slow("n1", "feed", 2.0, 2.0)
    renewed = trio.Event()
    await _next_beat(world)
    world.faults.freeze("n1")
    world.faults.commit("t/x", 1)
    world.faults.frames(FrameRule("observe", "renew", sender="a", hit=lambda _frame: renewed.set()))
    await renewed.wait()
    world.faults.thaw("n1")
    await world.sleep(5.0)


async def rewound(world: World) -> None:
    """Restore a backup; from then on the node learns late of what others commit."""
    follower = await _live(world, "t/")
    world.faults.backup("before")
    for number in range(5):
        world.faults.commit(f"t/{number}", "lost")
    await world.sleep(2.0)
    world.faults.rewind("before")
    await world.until(lambda: follower.mode != "live")
    world.faults.call_slow("n1", "feed", 5.0, 5.0)
    world.faults.commit("u/x", 1)
    await world.until(lambda: follower.mode == "live")
    for number in range(20):
        world.faults.commit("t/x", number)
        await world.sleep(0.5)


async def renewed_from_a_level(world: World) -> None:
    """Renew leases until one is answered from a level that is nearly too old, and commit after the next head read."""
    for number in range(4):
        await _live(world, "t/", name=f"a{number}")
    world.faults.call_slow("n1", "head", 0.1, 0.1)
    answered = trio.Event()

    def look(frame: Frame) -> None:
        if frame.message is not None and frame.message.get("lag_ms", 0) >= 0.8 * LEVEL_S_MAX * 1000:
            answered.set()

    world.faults.frames(FrameRule("observe", "renewed", times=None, hit=look))
    await answered.wait()
    await _commit_after_the_head_was_read(world, "n1")


async def listed_in_pages(world: World) -> None:
    """List more than a page holds, with seconds between the pages."""
    for number in range(40):
        world.faults.commit(f"t/{number}", "." * 60_000)
    world.faults.call_slow("n1", "read", 2.0, 2.0)
    _block_polls(world, "a")
    await _live(world, "t/")
    await world.sleep(2.0)


async def subscribed_while_beats_go_on(world: World) -> None:
    """Subscribe to a name whose answer takes seconds to read, with a change behind the read and ahead of a beat."""
    follower = await _live(world, "t/")
    world.faults.commit("u/x", 1)
    await _next_beat(world)
    world.faults.call_slow("n1", "read", 3.2, 3.2)
    follower.subscribe("u/")
    await world.sleep(1.7)
    world.faults.commit("u/x", 2)
    await world.sleep(5.0)


async def subscribed_again(world: World) -> None:
    """Let a node forget a lease, and change its topics; the answer to the client, which begins another, takes long."""
    await _live(world, "t/")
    _block_polls(world, "a")
    world.faults.amnesia("n1")
    world.faults.commit("t/x", 1)
    world.faults.call_slow("n1", "read", 4.0, 4.0)
    await world.sleep(10.0)


SHORT: dict[str, Any] = {"config": ServerConfig(ttl_ms=6_000), "bounds": Bounds(ttl_s=6.0, renew_s=2.0)}
"""The shortest leases for which a node grants a beat each second."""

OPTIONS: dict[BeatCase, dict[str, Any]] = {
    asleep_past_its_lease: SHORT,
    renewed_from_a_level: SHORT,
    dropped: {"config": ServerConfig(pending_max=16), "bounds": Bounds(pending_max=16)},
}
