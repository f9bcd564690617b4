"""Simulated worlds under one kind of fault each: staleness, the honesty of ages, and what clients repaired.

Nodes and clients are the real ones, and the oracle checks all promises while a world runs. Another program commits
changes, so that no fault holds up the changes themselves.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from bench.measure.quiet import quiet_clients
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.oracle.oracle import Bounds
from softstate.testing.oracle.verdict import PromiseBroken
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.world import World
from softstate.testing.trace import ChangeCommitted, ChangeDelivered, ClientEnded, TraceEvent

CLIENTS = ("a", "b", "c")
TOPICS = ("t/0", "t/1", "t/2")
COMMIT_EVERY_S = 1.0
SAMPLE_EVERY_S = 0.5
BEFORE_S = 45.0
"""Time for which a world runs without faults, so that each client has renewed twice."""
BEHIND_S = 45.0
LASTS_S = 40.0
"""Duration of faults that last."""

POLL_VARIES, RENEWAL_VARIES = 1.2, 1.2
LIMITS = Bounds()

REPAIRS = (
    "repairs_mismatch",
    "repairs_sent_unequal",
    "repairs_unanswered",
    "repairs_no_lease",
    "repairs_unknown",
    "history_mismatches",
    "dropped",
)
"""Counters that stay 0 as long as nothing fails."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault: which bound of staleness holds under it, in seconds, and what injects it."""

    name: str
    bound: str
    bound_s: float
    inject: Callable[[World], Awaitable[None]]


@dataclass(slots=True)
class Observed:
    """Figures of all worlds of one fault. `stale_s` has the staleness that each delivery ended."""

    fault: Fault
    beats: bool
    stale_s: list[float] = field(default_factory=list)
    margin_s: float = math.inf
    counts: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    broken: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return the staleness that a share of all deliveries did not exceed."""
        ordered = sorted(self.stale_s)
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0


async def _nothing(world: World) -> None:
    await world.sleep(LASTS_S)


async def _pushes_lost(world: World) -> None:
    rule = world.faults.frames(FrameRule("drop", "notify", share=0.3, times=None))
    await world.sleep(LASTS_S)
    world.network.rules.remove(rule)


async def _half_open(world: World) -> None:
    for client in CLIENTS:
        world.faults.half_open("n1", client)
    await world.sleep(LASTS_S)


async def _lease_lost(world: World) -> None:
    world.faults.amnesia("n1")
    await world.sleep(LASTS_S)


async def _names_lost(world: World) -> None:
    world.faults.forget_names("n1")
    await world.sleep(LASTS_S)


async def _frozen(world: World) -> None:
    world.faults.freeze("n1")
    await world.sleep(LASTS_S)
    world.faults.thaw("n1")


async def _killed(world: World) -> None:
    world.faults.crash("n1", "killed")
    await world.sleep(LASTS_S)


async def _power(world: World) -> None:
    world.faults.crash("n1", "power")
    await world.sleep(LASTS_S)


async def _no_websocket(world: World) -> None:
    for client in CLIENTS:
        for node in world.nodes:
            world.faults.block(client, node, "websocket", "reset")
            world.faults.reset(client, node)
    await world.sleep(2 * LASTS_S)


async def _cut_off(world: World) -> None:
    for client in CLIENTS:
        for node in world.nodes:
            world.faults.partition(client, node)
    await world.sleep(LASTS_S)
    for client in CLIENTS:
        for node in world.nodes:
            world.faults.restore_routes(client, node)


async def _store_down(world: World) -> None:
    world.faults.store_down()
    await world.sleep(LASTS_S)
    world.faults.store_down(down=False)


_SILENT_S = LIMITS.cut_off_s + LIMITS.spread_s
_POLLED_S = POLL_VARIES * LIMITS.poll_s + LIMITS.slack_s

FAULTS = (
    Fault("none", "B1", 0.1, _nothing),
    Fault("3 of 10 pushes lost", "B2", _SILENT_S, _pushes_lost),
    Fault("connections half open", "B2", _SILENT_S, _half_open),
    Fault("leases lost in a running node", "B2", _SILENT_S, _lease_lost),
    Fault("names of leases lost likewise", "B2", _SILENT_S, _names_lost),
    Fault("node frozen for 40 s, another lives", "B2", _SILENT_S, _frozen),
    Fault("node's host without power, another lives", "B2", _SILENT_S, _power),
    Fault("node killed, another lives", "B3", LIMITS.spread_s + LIMITS.slack_s, _killed),
    Fault("no WebSocket for 80 s", "B4", _POLLED_S, _no_websocket),
    Fault("no node reached for 40 s", "B5", LASTS_S + _POLLED_S, _cut_off),
    Fault("store down for 40 s", "B6", LASTS_S + RENEWAL_VARIES * LIMITS.renew_s + LIMITS.slack_s, _store_down),
)
"""All kinds. B1 to B6 are the bounds of staleness of the design, with a node's default timers and without beats."""


@lru_cache(maxsize=2)
def observe_all(seed: int, worlds: int, ways: tuple[bool, ...] = (True, False)) -> tuple[Observed, ...]:
    """Run so many worlds of each kind, with beats and without."""
    return tuple(observe(fault, beats, seed, worlds) for fault in FAULTS for beats in ways)


def observe(fault: Fault, beats: bool, seed: int, worlds: int) -> Observed:
    """Run so many worlds of one kind."""
    found = Observed(fault, beats)
    with quiet_clients():
        for number in range(worlds):
            _run(found, seed * 1_000 + number)
    return found


def _run(found: Observed, seed: int) -> None:
    async def scenario(world: World) -> None:
        for client in CLIENTS:
            await world.client(client, "t/", nodes=("n1", "n2"), beat_ms=1_000 if found.beats else None)
        world.nursery.start_soon(_commit, world)
        await world.sleep(BEFORE_S)
        await found.fault.inject(world)
        await world.sleep(BEHIND_S)

    try:
        world, oracle = run_checked(seed, scenario, sample_every_s=SAMPLE_EVERY_S)
    except PromiseBroken as broken:
        found.broken.append(f"{found.fault.name}, seed {seed}: {broken}")
        return
    found.stale_s += staleness(world.trace.events)
    found.margin_s = min(found.margin_s, oracle.clients.margin_s)
    found.steps += oracle.steps
    for ended in world.trace.of(ClientEnded):
        found.counts.update(dict(ended.counts))


async def _commit(world: World) -> None:
    random, number = world.seeds.random("commits"), 0
    while True:
        await world.sleep(random.expovariate(1 / COMMIT_EVERY_S))
        world.faults.commit(random.choice(TOPICS), number)
        number += 1


def staleness(events: Sequence[TraceEvent]) -> list[float]:
    """Return, for each delivery of a change, for how long the client's copy of that topic had been old.

    That is the time since the first commit of the topic that is newer than what the client had; first deliveries of a
    topic to a client are left out. All versions are of one history.
    """
    commits: dict[str, list[tuple[int, float]]] = defaultdict(list)
    had: dict[tuple[str, str], int] = {}
    found: list[float] = []
    for event in events:
        if isinstance(event, ChangeCommitted):
            commits[event.topic].append((event.revision, event.at_s))
        elif isinstance(event, ChangeDelivered):
            key = event.client, event.topic
            if key in had:
                newer = bisect_right(commits[event.topic], had[key], key=lambda commit: commit[0])
                if newer < len(commits[event.topic]):
                    found.append(event.at_s - commits[event.topic][newer][1])
            had[key] = event.version
    return found
