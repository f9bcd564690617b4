"""Fault schedule, rows H: the same herd at a node that can do only so much (`softstate.testing.network.capacity`).

The kernel's accept queue is real here: connections wait in it, their clients give up, and the node serves them all the
same. `test_schedule_herd` has ten thousand clients and the law, of a node whose queue it sees. Each world has 300 real
clients of one real node, which is killed and stays away. Two worlds lack a rule of the client or of the node, so that
the collapse shows; at 25 clients a second the herd of November's clients collapsed without that, at 131 of 300.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from softstate.client.machine.backoff import Advice
from softstate.client.machine.reach import Reach
from softstate.server import ServerConfig
from softstate.session import ServiceRate
from softstate.session.load_advice import LOAD, advise
from softstate.testing import Bounds, World, run_world
from softstate.testing.network.capacity import Capacity
from softstate.testing.simulation.checked_run import run_checked
from tests.kit.simulation_rig import RARE_MS, count_of

COUNT = 300
TTL_MS = 15_000
TIMEOUT_MS = 2_000
LOOK_S = 0.25
KNOCKS_MAX = {2.0: 2.3, 10.0: 4.5}
"""Dials and polls a client, by the time for which the node was away: a probe for each spread, then poll and dial."""


def able(connects_per_s: float) -> Capacity:
    """Return the capacity of a node that can take so many clients a second, in the proportions that were measured."""
    each_s = 1 / connects_per_s
    return Capacity(accept_s=0.1 * each_s, upgrade_s=0.5 * each_s, message_s=0.2 * each_s, request_s=0.3 * each_s)


@dataclass
class Recovery:
    """The return of a herd, in seconds since the node listened again; counts are of all clients together."""

    live: list[int] = field(default_factory=list)
    """The number of live clients, every `LOOK_S`."""
    all_live_s: float = float("inf")
    knocks: int = 0
    """Dials and polls."""
    busy_s: float = 0.0
    wasted_s: float = 0.0
    """Time of the node for clients that had given up."""
    accept_queue_max: int = 0

    @property
    def stall_s(self) -> float:
        """The longest time without one more live client, until 99 % are live."""
        longest = grown = 0
        for at, live in enumerate(self.live):
            longest = max(longest, at - grown)
            if live > max(self.live[:at], default=0):
                grown = at
            if live >= 0.99 * COUNT:
                break
        return longest * LOOK_S


async def crash(world: World, capacity: Capacity, down_s: float, patience_s: float) -> Recovery:
    """Open the herd, kill the node, start it again, and follow it until all clients are live and know what is new."""
    clients = []
    for number in range(COUNT):
        clients.append(await world.client(f"c{number}", "t/", beat_ms=RARE_MS))
        await world.sleep(capacity.connect_s / LOAD)
    await world.until(lambda: all(client.mode == "live" for client in clients), 60)
    await world.sleep(1.25 * TTL_MS / 3_000)  # all have renewed, and know the spread for all
    knocks = [count_of(client, "connects") + count_of(client, "polls") for client in clients]
    world.faults.crash("n1")
    await world.sleep(down_s)
    world.faults.commit("t/meanwhile", 1)
    await world.faults.restart("n1")
    began, recovery, processor = world.now, Recovery(), world.network.processors["n1"]
    busy_s, wasted_s, processor.accept_queue_max = processor.busy_s, processor.wasted_s, 0
    while recovery.all_live_s == float("inf") and world.now - began < patience_s:
        await world.sleep(LOOK_S)
        recovery.live.append(sum(client.mode == "live" for client in clients))
        if recovery.live[-1] == COUNT and all("t/meanwhile" in client.known() for client in clients):
            recovery.all_live_s = world.now - began
    after = [count_of(client, "connects") + count_of(client, "polls") for client in clients]
    recovery.knocks = sum(after) - sum(knocks)
    recovery.busy_s, recovery.wasted_s = processor.busy_s - busy_s, processor.wasted_s - wasted_s
    recovery.accept_queue_max = processor.accept_queue_max
    return recovery


def options(connects_per_s: float) -> dict[str, Any]:
    """Return the options of a world: the node knows its rate from the start, and goes on measuring it."""
    config = ServerConfig(ttl_ms=TTL_MS, timeout_ms=TIMEOUT_MS, handshakes_per_s=connects_per_s)
    return {"nodes": 1, "config": config, "capacity": able(connects_per_s), "sample_every_s": 5.0}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("down_s", [2.0, 10.0])
def test_a_herd_comes_back_as_fast_as_the_node_can_serve_it(down_s: float) -> None:
    """N / capacity is 5 s, and clients give up after 2 s: who is not served in time comes again."""
    found: list[Recovery] = []

    async def scenario(world: World) -> None:
        found.append(await crash(world, able(60), down_s, patience_s=45.0))

    bounds = Bounds(ttl_s=TTL_MS / 1000, renew_s=TTL_MS / 3000, timeout_s=TIMEOUT_MS / 1000)
    _, oracle = run_checked(61, scenario, bounds=bounds, **options(60))
    [recovery] = found
    assert oracle.clients.converged_s <= oracle.bounds.converge_s
    _, advised = advise(COUNT, 60, 60, timeout_ms=TIMEOUT_MS)
    assert recovery.all_live_s <= 1.1 * advised.spread_ms / 1000, recovery
    assert recovery.stall_s <= 1.0, recovery
    assert recovery.wasted_s <= 0.1 * recovery.busy_s, recovery
    assert recovery.knocks <= KNOCKS_MAX[down_s] * COUNT, recovery


def refusals_drawn_from_backoff(patch: pytest.MonkeyPatch) -> None:
    """A client keeps no place in the spread: after a refused dial the next one comes after the backoff alone."""
    refused = Reach.refused

    def no_place(self: Reach, url: str, now: float, advice: Advice, _spread_s: float, *, placed: bool) -> None:
        refused(self, url, now, advice, 0.0, placed=placed)

    patch.setattr(Reach, "refused", no_place)


@pytest.mark.timeout(240)
def test_without_a_place_in_the_spread_the_herd_knocks_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals_drawn_from_backoff(monkeypatch)
    found: list[Recovery] = []

    async def scenario(world: World) -> None:
        found.append(await crash(world, able(60), down_s=2.0, patience_s=20.0))

    run_world(61, scenario, **options(60))
    [recovery] = found
    assert recovery.knocks > 1.1 * KNOCKS_MAX[2.0] * COUNT, recovery
    assert recovery.accept_queue_max > 0.15 * COUNT, recovery  # 3 with a place


def november(patch: pytest.MonkeyPatch) -> None:
    """The node refuses no client, and its advice is not to spread: clients have backoff with full jitter alone."""
    patch.setattr(ServiceRate, "in_time", lambda *_: True)
    patch.setattr("softstate.session.load_advice.spread_ms", lambda *_: 100)


@pytest.mark.timeout(240)
def test_without_spread_and_admission_the_node_serves_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """N / capacity is 12 s, above 2 q + b: the collapse of `softstate.session.load_advice`, seen from the kernel."""
    november(monkeypatch)
    found: list[Recovery] = []

    async def scenario(world: World) -> None:
        found.append(await crash(world, able(25), down_s=2.0, patience_s=12.0))

    run_world(61, scenario, **options(25))
    [recovery] = found
    assert recovery.all_live_s == float("inf"), recovery
    assert recovery.live[-1] < 0.6 * COUNT, recovery
    assert recovery.stall_s > 3.0, recovery
    assert recovery.wasted_s > 0.4 * recovery.busy_s, recovery
    assert recovery.accept_queue_max > 0.5 * COUNT, recovery
