"""Parts of simulated scenarios in which nodes check credentials: clients of each kind, commits, and their counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softstate.testing import SimClient, World
from tests.kit.simulation_rig import RARE_MS, count_of

REPAIRS = ("repairs_mismatch", "repairs_sent_unequal", "repairs_unanswered", "repairs_no_lease", "repairs_unknown")


async def start(world: World, *names: str, nodes: Sequence[str] | None = None) -> list[SimClient]:
    """Start a client of each kind, and wait until they know what there is."""
    names = names or ("t/", "single")
    clients = [
        await world.client("a", *names, nodes=nodes, beat_ms=RARE_MS),
        await world.client("b", *names, nodes=nodes, codec="json", beat_ms=RARE_MS),
        await world.client("poll", *names, nodes=nodes, push=False),
    ]
    await world.until(lambda: all(client.age() < 60 for client in clients))
    return clients


async def commits(world: World, for_s: float, *topics: str) -> None:
    """Commit to some topics for some virtual seconds, as a node outside of this world does."""
    random = world.seeds.random(f"commits {world.now}")
    ends = world.now + for_s
    while world.now < ends:
        await world.sleep(random.uniform(0.2, 3.0))
        world.faults.commit(random.choice(topics or ("t/0", "t/1", "single")), int(world.now))


def repaired(client: SimClient) -> int:
    """Return how many repairs a client has counted."""
    return sum(count_of(client, name) for name in REPAIRS)


def fresh(*clients: SimClient) -> Callable[[], bool]:
    """Return a check of whether all that clients know is young."""
    return lambda: all(client.age() < 30 for client in clients)
