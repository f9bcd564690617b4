"""Parts of simulated scenarios: three followers of different kinds and a publisher, traffic, and waits.

`start_clients` starts ``a`` (CBOR), ``b`` (JSON) and ``poll`` (never pushed to), which follow ``t/`` and ``single``,
and ``p``, which publishes. `churn` publishes through ``p``.
"""

from __future__ import annotations

import trio

from softstate.testing import SimClient, World

RARE_MS = 4_000
"""The time between two beats where they are not what a scenario is about: worlds then take a third less time."""


async def start_clients(world: World, *, nodes: tuple[str, ...] | None = None) -> None:
    """Start the followers and the publisher, and wait until ``a`` and ``b`` are live."""
    await world.client("a", "t/", "single", nodes=nodes, beat_ms=RARE_MS)
    await world.client("b", "t/", "single", nodes=nodes, codec="json", beat_ms=RARE_MS)
    await world.client("poll", "t/", "single", nodes=nodes, push=False)
    await world.client("p", nodes=nodes, beat_ms=RARE_MS)
    await world.until(lambda: all(world.clients[name].mode == "live" for name in "ab"))


async def churn(world: World, for_s: float, every_s: float = 1.0) -> None:
    """Publish, delete and compare-and-set through ``p`` for some virtual seconds, once every `every_s` on average."""
    random = world.seeds.random(f"churn {world.now}")
    ends = world.now + for_s
    number = 0
    while world.now < ends:
        await trio.sleep(random.uniform(0.5, 1.5) * every_s)
        publisher = world.clients["p"]
        if not publisher.running:
            continue
        number += 1
        topic = random.choice(("single", "t/0", "t/1", "t/2"))
        match random.randrange(4):
            case 0:
                publisher.delete(topic)
            case 1:
                publisher.publish(topic, number, expect=world.disk.image.latest.get(topic, 0))
            case _:
                publisher.publish(topic, number)


async def wait_until_live(world: World, *names: str, within_s: float = 45) -> None:
    """Wait until clients (``a`` and ``b`` unless named) are live, for as long as L allows."""
    await world.until(lambda: all(world.clients[name].mode == "live" for name in names or ("a", "b")), within_s)


def count_of(client: SimClient, name: str) -> int:
    """Return one of a client's own counters, by its name in `softstate.Statistics`."""
    assert client.client is not None
    return int(getattr(client.client.statistics(), name))
