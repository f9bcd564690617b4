"""The applications of a world under random faults: they publish, alone or in bursts, and change their subscriptions.

A seed runs at one of two paces, with a few kinds of faults or all, since different bugs need different worlds (Groce et
al., "Swarm Testing", ISSTA 2012). *Calm* is a small copy of production: a publish now and then, a store that answers at
once, and faults that last up to two minutes. *Busy* makes races likely: several publishes at the same instant, through
nodes and directly in the store; reads that take as long as a push; subscriptions that change all the time; short
leases; small buffers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import final

import trio

from softstate.model import Value
from softstate.server import ServerConfig
from softstate.testing.network.route import WINDOW_BYTES, uniform
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.simulation.random_faults import CLIENTS
from softstate.testing.simulation.world import World

FEW = ("single", *(f"t/{number}" for number in range(5)))
MANY = ("single", *(f"t/{part}/{number}" for part in range(3) for number in range(8)))
"""So many that the loss of a change is rarely hidden by the topic's next change before a sample."""

SPREAD_SHARE = 0.8
"""The share of changes that go to any topic; the rest go to the first, so that it changes while it is pending."""

NAMES = ("t/", "t/0/", "t/1/", "t/2/", "/", "other/", *MANY[:4])


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """Rates and durations of a world, in seconds; shares are of one.

    The schedule has `faults` faults of `kinds` kinds (None: any), which begin within `faults_s`, and each lasts about
    one of `lengths_s`. They come in groups of `together`, since most edge cases of the protocol need several at once.
    Every `publish_every_s`, up to `burst_max` changes are published at once: a share of `direct` as another program's
    commits, half of them with `pad_bytes` in addition. Every `subscribe_every_s` (0: never) a client subscribes to
    a name for up to `follow_s_max`, in addition to the names that all clients have `followed` from the beginning.
    `travel_s_max` and `store_s_max` are the longest time of bytes and of half a store call without faults (0: the
    defaults of a world), and `window_bytes` is the size of a socket's buffer. All hosts are sampled every
    `sample_every_s`.
    """

    name: str
    faults: int
    kinds: int | None
    together: int
    faults_s: float
    lengths_s: tuple[float, ...]
    ttl_ms: int
    publish_every_s: float
    topics: tuple[str, ...]
    followed: tuple[str, ...]
    burst_max: int = 1
    direct: float = 0.0
    pad_bytes: int = 0
    subscribe_every_s: float = 0.0
    follow_s_max: float = 0.0
    travel_s_max: float = 0.0
    store_s_max: float = 0.0
    window_bytes: int = WINDOW_BYTES
    sample_every_s: float = 1.0

    @property
    def ends_s(self) -> float:
        """The latest end of the last fault."""
        return self.faults_s + 1.5 * max(self.lengths_s)

    def config(self) -> ServerConfig:
        """Return the configuration of the nodes."""
        return ServerConfig(ttl_ms=self.ttl_ms)

    def bounds(self) -> Bounds:
        """Return the oracle's bounds at this pace."""
        # A renewal may start a repair, and the answer to the repair may be lost: one more round trip.
        round_trip_s = 2 * (self.travel_s_max + self.store_s_max)
        return Bounds(ttl_s=self.ttl_ms / 1000, renew_s=self.ttl_ms / 3000, slack_s=1.0 + round_trip_s)


CALM = Pace(
    "calm", faults=8, kinds=None, together=1, faults_s=150.0, lengths_s=(0.2, 3.0, 20.0, 90.0), ttl_ms=60_000,
    publish_every_s=2.0, topics=FEW, followed=("t/", "single"),
)  # fmt: skip
BUSY = Pace(
    "busy", faults=16, kinds=8, together=4, faults_s=30.0, lengths_s=(0.05, 0.5, 3.0, 12.0), ttl_ms=6_000,
    sample_every_s=0.5, publish_every_s=0.25, topics=MANY, followed=("single",), burst_max=5, direct=0.3,
    pad_bytes=1_000, subscribe_every_s=0.7, follow_s_max=8.0, travel_s_max=0.05, store_s_max=0.03,
    window_bytes=4_096,
)  # fmt: skip


def pace_of(seed: int) -> Pace:
    """Return the pace of a seed: calm if it is even, else a variant of busy."""
    if seed % 2 == 0:
        return CALM
    random = Random(f"pace {seed}")
    return replace(
        BUSY,
        subscribe_every_s=random.choice((0.5, 5.0)),
        travel_s_max=random.choice((0.002, 0.05, 0.3)),
        store_s_max=random.choice((0.0, 0.03, 0.3)),
    )


def set_delays(world: World, pace: Pace) -> None:
    """Set the delays and buffers that are normal at this pace."""
    if pace.travel_s_max:
        for client in CLIENTS:
            for node in world.nodes:
                world.network.set_delay(client, node, uniform(0.0, pace.travel_s_max))
                world.network.set_delay(node, client, uniform(0.0, pace.travel_s_max))
    for client in CLIENTS:
        for node in world.nodes:
            world.network.set_window(node, client, pace.window_bytes)
    if pace.store_s_max:
        world.disk.delay = uniform(0.0, pace.store_s_max)


async def publish(world: World, pace: Pace) -> None:
    """Publish until the last fault is over."""
    random = world.seeds.random("publishes")
    number = 0
    while world.now < pace.ends_s:
        await trio.sleep(random.expovariate(1 / pace.publish_every_s))
        for _ in range(random.randint(1, pace.burst_max)):
            number += 1
            value = [number, "." * random.choice((0, pace.pad_bytes))]
            _publish_one(world, pace, random, value, random.random() < pace.direct)


def _publish_one(world: World, pace: Pace, random: Random, value: Value, direct: bool) -> None:
    client = world.clients[random.choice(CLIENTS)]
    topic = random.choice(pace.topics) if random.random() < SPREAD_SHARE else pace.topics[0]
    choice = random.random()
    if direct:
        world.faults.commit(topic, value, deleted=choice < 0.15)
    elif choice < 0.15:
        client.delete(topic)
    elif choice < 0.4:
        image = world.disk.image
        version = image.latest.get(topic, 0)
        expect = version if version and not image.records[version].deleted else 0
        client.publish(topic, value, expect=expect)
    else:
        client.publish(topic, value)


async def change_interests(world: World, pace: Pace) -> None:
    """Subscribe to names for a while, one after the other, until the last fault is over."""
    if not pace.subscribe_every_s:
        return
    random = world.seeds.random("interests")
    async with trio.open_nursery() as nursery:
        while world.now < pace.ends_s:
            await trio.sleep(random.expovariate(1 / pace.subscribe_every_s))
            names = random.sample(NAMES, random.choice((1, 1, 2)))
            nursery.start_soon(_follow, world, random.choice(CLIENTS), names, random.uniform(0.0, pace.follow_s_max))


async def _follow(world: World, name: str, names: list[str], for_s: float) -> None:
    client = world.clients[name]
    handle = client.subscribe(*names)
    await trio.sleep(for_s)
    client.unsubscribe(handle)
