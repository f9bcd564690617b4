"""A small company for the rows of the fault schedule: three followers of different kinds, and one who publishes."""

from __future__ import annotations

import trio

from softstate.testing import SimClient, World

FOLLOWERS = ("a", "b", "poll")


async def company(world: World, *, nodes: tuple[str, ...] | None = None) -> None:
    """Start the followers and a publisher, and wait until those that are pushed to are live."""
    await world.client("a", "t/", "single", nodes=nodes)
    await world.client("b", "t/", "single", nodes=nodes, codec="json")
    await world.client("poll", "t/", "single", nodes=nodes, push=False)
    await world.client("p", nodes=nodes)
    await world.until(lambda: all(world.clients[name].mode == "live" for name in "ab"))


async def churn(world: World, for_s: float, every_s: float = 1.0) -> None:
    """Publish, delete and compare-and-set for a while."""
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


async def live_again(world: World, *names: str) -> None:
    """Wait until clients are live, for as long as L allows."""
    await world.until(lambda: all(world.clients[name].mode == "live" for name in names or ("a", "b")), 45)


def counted(client: SimClient, name: str) -> int:
    """Return one of a client's own counters."""
    assert client.client is not None
    return int(getattr(client.client.statistics(), name))
