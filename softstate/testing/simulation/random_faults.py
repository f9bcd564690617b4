"""Kinds of random faults for `softstate.testing.simulation.schedule`.

Each function injects a fault, and returns a function that ends it, or None if the fault ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

import trio

from softstate.auth.revocations import REVOKED
from softstate.testing.network.frame_rules import FrameFault, FrameRule
from softstate.testing.simulation.world import World

NODES = ("n1", "n2")
CLIENTS = ("cbor", "json", "poll")
OPS = ("hello", "welcome", "subscribe", "subscribed", "notify", "renew", "renewed", "publish", "published")
FRAME_FAULTS: tuple[FrameFault, ...] = ("drop", "duplicate", "delay", "cut")
POINTS = (
    "publish.before_commit", "publish.after_commit", "publish.after", "read.before", "read.after", "head.before",
    "head.after", "feed.before", "feed.after", "reopen.before", "reopen.after",
)  # fmt: skip

End: TypeAlias = Callable[[], object] | None


def _pair(random: Random) -> tuple[str, str]:
    return random.choice(CLIENTS), random.choice(NODES)


def _crash(world: World, random: Random) -> End:
    world.faults.crash(random.choice(NODES), random.choice(("killed", "power")))
    return None


def _crash_at(world: World, random: Random) -> End:
    world.faults.crash_at(random.choice(NODES), random.choice(POINTS), after=random.randint(1, 3))
    return None


def _freeze(world: World, random: Random) -> End:
    host = random.choice((*NODES, *CLIENTS))
    world.faults.freeze(host)
    return lambda: world.faults.thaw(host)


def _freeze_client(world: World, random: Random) -> End:
    host = random.choice(CLIENTS)
    world.faults.freeze(host)
    return lambda: world.faults.thaw(host)


def _amnesia(world: World, random: Random) -> End:
    world.faults.amnesia(random.choice(NODES), random.choice((0.5, 1.0)))
    return None


def _stall(world: World, random: Random) -> End:
    client, node = _pair(random)
    world.faults.stall(*random.choice(((client, node), (node, client))))
    return lambda: world.faults.restore_routes(client, node)


def _partition(world: World, random: Random) -> End:
    client, node = _pair(random)
    world.faults.partition(client, node)
    return lambda: world.faults.restore_routes(client, node)


def _half_open(world: World, random: Random) -> End:
    world.faults.half_open(*_pair(random))
    return None


def _reset(world: World, random: Random) -> End:
    world.faults.reset(*_pair(random))
    return None


def _block(world: World, random: Random) -> End:
    client, node = _pair(random)
    world.faults.block(client, node, random.choice(("websocket", "http")), random.choice(("swallow", "reset")))
    return lambda: world.faults.restore_routes(client, node)


def _slow(world: World, random: Random) -> End:
    client, node = _pair(random)
    most_s = random.choice((0.5, 3.0, 10.0))
    world.faults.slow(*random.choice(((client, node), (node, client))), most_s / 10, most_s)
    return lambda: world.faults.restore_routes(client, node)


def _split(world: World, random: Random) -> End:
    client, node = _pair(random)
    world.faults.split(*random.choice(((client, node), (node, client))), random.choice((1, 7, 100)))
    return lambda: world.faults.restore_routes(client, node)


def _frames(world: World, random: Random) -> End:
    fault = random.choice(FRAME_FAULTS)
    op, times, delay_s = random.choice((None, *OPS)), random.randint(1, 3), random.choice((1.0, 10.0, 100.0))
    if fault == "duplicate" and op in (None, "notify"):
        op = "beat"  # one push more would make up, in `sent`, for one that another fault has delayed or dropped
    rule = world.faults.frames(FrameRule(fault, op, times=times, share=random.choice((0.3, 1.0)), delay_s=delay_s))

    def end() -> None:
        if rule in world.network.rules:
            world.network.rules.remove(rule)

    return end


def _read_slowly(world: World, random: Random) -> End:
    host = random.choice(CLIENTS)
    if random.random() < 0.5:
        world.faults.stop_reading(host)
    else:
        world.faults.read_slowly(host, random.choice((0.1, 1.0)))
    return lambda: world.faults.resume_reading(host)


def _store_down(world: World, random: Random) -> End:
    node = random.choice((None, *NODES))
    world.faults.store_down(node)
    return lambda: world.faults.store_down(node, down=False)


def _store_slow(world: World, random: Random) -> End:
    most_s = random.choice((0.2, 2.0, 10.0))
    world.faults.store_slow(most_s / 10, most_s)
    return lambda: world.faults.store_slow(0, 0)


def _call_slow(world: World, random: Random) -> End:
    node, call = random.choice(NODES), random.choice(("feed", "feed", "read", "head"))
    most_s = random.choice((0.2, 2.0, 10.0))
    world.faults.call_slow(node, call, most_s / 2, most_s)
    return lambda: world.faults.call_slow(node, call, 0, 0)


def _lose_and_cut(world: World, random: Random) -> End:
    # A push is lost, others arrive, and the session is resumed before a renewal shows it: only the replay repairs it.
    client, cut_s = random.choice(CLIENTS), random.uniform(0.05, 1.0)

    async def cut() -> None:
        await trio.sleep(cut_s)
        for node in NODES:
            world.faults.reset(client, node)

    rule = FrameRule("drop", "notify", receiver=client, hit=lambda _frame: world.nursery.start_soon(cut))
    world.faults.frames(rule)

    def end() -> None:
        if rule in world.network.rules:
            world.network.rules.remove(rule)

    return end


def _amnesia_of_names(world: World, random: Random) -> End:
    world.faults.forget_names(random.choice(NODES), random.choice((0.3, 1.0)))
    return None


def _store_hang(world: World, _random: Random) -> End:
    world.faults.store_hang()
    return lambda: world.faults.store_hang(on=False)


def _store_read_only(world: World, _random: Random) -> End:
    world.faults.store_read_only()
    return lambda: world.faults.store_read_only(on=False)


def _lose_reply(world: World, random: Random) -> End:
    world.faults.lose_reply(random.choice(NODES), random.randint(1, 2))
    return None


def _rewind(world: World, random: Random) -> End:
    world.faults.backup("drawn")
    advance = random.choice((0, 0, 3, 30))
    return lambda: world.faults.rewind("drawn", advance=advance)


def _wipe(world: World, _random: Random) -> End:
    world.faults.wipe()
    return None


def _compact(world: World, _random: Random) -> End:
    world.faults.note("compact")
    world.disk.image.compact(world.disk.image.head, 0)
    return None


def _damage(world: World, random: Random) -> End:
    image = world.disk.image
    # A revocation that cannot be read is in force for good, and no publish of another value mends that.
    alive = sorted(
        topic
        for topic, version in image.latest.items()
        if image.records[version].cbor is not None and not topic.startswith(REVOKED)
    )
    topics = random.sample(alive, min(len(alive), random.choice((1, 1, 3))))
    world.faults.damage(*topics)
    return lambda: world.faults.mend(*topics)


def _clock_rate(world: World, random: Random) -> End:
    host = random.choice((*NODES, *CLIENTS))
    world.faults.clock_rate(host, random.choice((0.99, 1.01, 0.9, 1.1)))
    return lambda: world.faults.clock_rate(host, 1.0)


def _clock_jump(world: World, random: Random) -> End:
    world.faults.clock_jump(random.choice(CLIENTS), random.choice((5.0, 3_600.0)))
    return None


KINDS: dict[str, tuple[int, Callable[[World, Random], End]]] = {
    "crash": (3, _crash), "crash_at": (3, _crash_at), "freeze": (2, _freeze), "freeze_client": (1, _freeze_client),
    "amnesia": (2, _amnesia), "stall": (2, _stall), "partition": (2, _partition), "half_open": (2, _half_open),
    "reset": (2, _reset), "block": (1, _block), "slow": (2, _slow), "split": (1, _split), "frames": (5, _frames),
    "read_slowly": (1, _read_slowly), "store_down": (2, _store_down), "store_slow": (1, _store_slow),
    "store_hang": (1, _store_hang), "call_slow": (4, _call_slow), "lose_and_cut": (3, _lose_and_cut),
    "amnesia_of_names": (2, _amnesia_of_names), "lose_reply": (2, _lose_reply), "rewind": (3, _rewind),
    "store_read_only": (1, _store_read_only), "wipe": (1, _wipe), "compact": (2, _compact),
    "clock_rate": (1, _clock_rate), "clock_jump": (1, _clock_jump),
    "damage": (2, _damage),
}  # fmt: skip
"""The kinds, each with its weight."""
