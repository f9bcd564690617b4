"""One workload for all placements, in a simulated world: a steady time, a kill, lost names, silence, death, goodbye.

A node and N clients, each of which follows two of S topics; another program commits changes. Phases:

1. *steady*: nothing fails;
2. *kill*: the node is killed, and starts again two seconds later; meanwhile every topic changes;
3. *doubt*: the node forgets the names of some leases, as a bug or a lost message would leave it;
4. *silence*: some clients are cut off for longer than a TTL, and come back;
5. *death*: some clients vanish without a word;
6. *goodbye*: some clients leave in order.

Each of the last four is about a quarter of the clients, so that none of them has the faults of another: a placement
that never finds lost names would else have no names left whose pushes could be wasted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from unittest.mock import patch

import trio

from bench.measure.quiet import quiet_clients
from bench.models.measured.copies import PER_POLL, Following, patched
from bench.models.measured.faulted import staleness
from bench.spectrum.placements import Mirror, Where, placed_in
from softstate.server import ServerConfig
from softstate.testing.oracle.oracle import Oracle
from softstate.testing.simulation.client import SimClient
from softstate.testing.simulation.world import World, run_world
from softstate.testing.trace import (
    ChangeCommitted,
    ChangeDelivered,
    MessageWritten,
    ModeChanged,
    NodeSampled,
    TraceEvent,
)

TOPICS = 8
CHANGE_EVERY_S = 1.0
DOWN_S = 2.0
"""Virtual time from the kill until the node starts again, as of a supervisor: part of all times of recovery."""
RENEW_S = 20.0
AFTER_S = 60.0
SILENT_S = 90.0
ORPHANS_S = 180.0
NEVER_S = 30.0
"""A copy that has been old for so long in the end is not found any more: a renewal takes at most 24 s."""
HARD_TTL_MS = 24 * 3_600_000
"""Hard state has no TTL: this is the longest that a node grants."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One placement. `poll_s`: clients poll so often, and have no session. `own`: it is the product as it is."""

    name: str
    where: Where
    beats: bool = False
    digest: bool = True
    bye: bool = True
    poll_s: float | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """How many clients there are, a multiple of four, and how long it is steady."""

    clients: int
    steady_s: float


@dataclass(slots=True)
class Result:
    """Figures of one placement; those of a phase are counted in it alone. Times are virtual seconds.

    `attempts` and `resumed` are those of one client after the kill; infinity is what did not happen until the end.
    """

    placement: Placement
    stale_p50_s: float = 0.0
    stale_p99_s: float = 0.0
    messages_per_min: float = 0.0
    operations_per_min: float = 0.0
    first_fresh_s: float = math.inf
    all_fresh_s: float = math.inf
    all_live_s: float | None = None
    """When all clients had a lease again; None if they have none."""
    recovery_operations: int = 0
    resumed: float = 0.0
    attempts: float = 0.0
    doubt_stale_s: float = 0.0
    false_removals: int = 0
    orphan_s: float = 0.0
    wasted: int = 0
    bye_orphan_s: float = 0.0
    lost: int = 0
    repeated: int = 0
    broken: list[str] = field(default_factory=list)


class Run:
    """One world with one placement, by `run`."""

    def __init__(self, placement: Placement, seed: int, size: Size) -> None:
        self._placement, self._seed, self._size = placement, seed, size
        self._names = [f"t/{number}" for number in range(TOPICS)]
        self._marks: dict[str, float] = {}
        self._operations: dict[str, int] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._mirror = Mirror(placement.where == "durable", trio.current_time)
        self._result = Result(placement)
        self._clients = [f"c{number}" for number in range(size.clients)]
        self._doubted, self._silent, self._dying, self._leaving = (self._clients[at::4] for at in range(4))
        self._follows = {
            name: (self._names[at % TOPICS], self._names[(3 * at + 1) % TOPICS])
            for at, name in enumerate(self._clients)
        }

    def run(self) -> Result:
        """Run it."""
        with quiet_clients(), self._placed():
            world = run_world(
                self._seed, self._scenario, nodes=1, config=self._config(), record_messages=True, sample_every_s=0.5
            )
        self._work_out(world.trace.events)
        return self._result

    @contextmanager
    def _placed(self) -> Iterator[None]:
        placement = self._placement
        polling = Following(renew_s=None if placement.poll_s is not None else RENEW_S, digest=placement.digest)
        with ExitStack() as stack:
            stack.enter_context(patched(polling))
            if placement.where in ("external", "durable"):
                stack.enter_context(patch("softstate.server.node.LeaseTable", placed_in(self._mirror)))
            yield

    def _config(self) -> ServerConfig:
        config = ServerConfig()
        if self._placement.poll_s is not None:
            config = replace(config, poll_every_ms=round(self._placement.poll_s * 1000))
        if self._placement.where == "durable":
            config = replace(config, ttl_ms=HARD_TTL_MS)
        return config

    # The workload ----------------------------------------------------------------------------------------------------

    def _mark(self, world: World, phase: str) -> None:
        self._marks[phase] = world.now
        self._operations[phase] = self._mirror.operations.total()
        self._counts[phase] = sum((_counted(place) for place in world.clients.values()), Counter())

    async def _scenario(self, world: World) -> None:
        placement = self._placement
        oracle = Oracle.attach(world.trace) if placement.own else None
        for name in self._names:
            world.faults.commit(name, "first")
        for name in self._clients:
            beat_ms = 1_000 if placement.beats else None
            await world.client(name, *self._follows[name], push=placement.poll_s is None, beat_ms=beat_ms)
        world.nursery.start_soon(self._commit, world)
        await world.sleep(30.0)
        self._mark(world, "steady")
        await world.sleep(self._size.steady_s)
        self._mark(world, "kill")
        world.faults.crash("n1")
        await world.sleep(DOWN_S / 2)
        for name in self._names:
            world.faults.commit(name, "while the node was down")
        await world.sleep(DOWN_S / 2)
        await world.faults.restart("n1")
        await world.sleep(AFTER_S)
        self._mark(world, "doubt")
        self._forget(world)
        await world.sleep(AFTER_S)
        self._mark(world, "silence")
        for client in self._silent:
            world.faults.partition(client, "n1")
        await world.sleep(SILENT_S)
        for client in self._silent:
            world.faults.restore_routes(client, "n1")
        await world.sleep(AFTER_S)
        self._mark(world, "death")
        for client in self._dying:
            world.faults.crash(client, "power")
        await world.sleep(ORPHANS_S)
        self._mark(world, "goodbye")
        for client in self._leaving:
            if placement.bye:
                await world.clients[client].aclose()
            else:
                world.faults.crash(client, "killed")  # its connection ends, without a word
        await world.sleep(ORPHANS_S)
        self._mark(world, "end")
        if oracle is not None:
            self._result.broken += [str(violation) for violation in oracle.violations]

    async def _commit(self, world: World) -> None:
        random, number = world.seeds.random("commits"), 0
        while True:
            await world.sleep(random.expovariate(1 / CHANGE_EVERY_S))
            number += 1
            world.faults.commit(random.choice(self._names), number)

    def _forget(self, world: World) -> None:
        node = world.nodes["n1"].node
        assert node is not None
        for lease in node.leases.all():
            if lease.name in self._doubted:
                node.leases.remove(lease, list(lease.names))

    # Figures ---------------------------------------------------------------------------------------------------------

    def _between(self, events: Sequence[TraceEvent], phase: str, until: str) -> list[TraceEvent]:
        return [event for event in events if self._marks[phase] <= event.at_s < self._marks[until]]

    def _work_out(self, events: Sequence[TraceEvent]) -> None:
        result, marks = self._result, self._marks
        minutes = (marks["kill"] - marks["steady"]) / 60 * len(self._clients)
        steady = self._between(events, "steady", "kill")
        ordered = sorted(staleness([*_first(events, marks["steady"]), *steady])) or [0.0]
        result.stale_p50_s, result.stale_p99_s = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        sent = sum(isinstance(event, MessageWritten) for event in steady)
        result.messages_per_min = (sent + PER_POLL * self._counted("polls", "steady", "kill")) / minutes
        result.operations_per_min = (self._operations["kill"] - self._operations["steady"]) / minutes
        result.recovery_operations = self._operations["doubt"] - self._operations["kill"]
        attempts = self._counted("connects", "kill", "doubt") + self._counted("polls", "kill", "doubt")
        result.attempts = attempts / len(self._clients)
        result.resumed = self._counted("resumed", "kill", "doubt") / len(self._clients)
        self._recovery(events)
        self._doubt(events)
        self._removals(events)
        result.orphan_s = self._gone_after(events, self._dying, "death", "goodbye")
        result.bye_orphan_s = self._gone_after(events, self._leaving, "goodbye", "end")
        dead = set(self._dying)
        result.wasted = sum(
            isinstance(event, MessageWritten) and event.op == "notify" and event.receiver in dead
            for event in self._between(events, "death", "goodbye")
        )
        result.lost = len(self._never_found(events, self._silent))
        result.repeated = _repeated(events)

    def _counted(self, what: str, phase: str, until: str) -> int:
        return self._counts[until][what] - self._counts[phase][what]

    def _recovery(self, events: Sequence[TraceEvent]) -> None:
        """Find when the first copy and when the last one had what was committed while the node was down."""
        kill_s = self._marks["kill"]
        missed = {
            event.topic: event.revision
            for event in self._between(events, "kill", "doubt")
            if isinstance(event, ChangeCommitted) and event.at_s < kill_s + DOWN_S
        }
        waiting = {(name, topic) for name, topics in self._follows.items() for topic in topics if topic in missed}
        fresh: list[float] = []
        for event in self._between(events, "kill", "doubt"):
            if not isinstance(event, ChangeDelivered) or event.version < missed.get(event.topic, math.inf):
                continue
            if (event.client, event.topic) in waiting:
                waiting.remove((event.client, event.topic))
                fresh.append(event.at_s - kill_s)
        back = {
            event.client: event.at_s - kill_s
            for event in reversed(self._between(events, "kill", "doubt"))
            if isinstance(event, ModeChanged) and event.mode == "live"
        }
        if self._placement.poll_s is None:
            self._result.all_live_s = max(back.values()) if len(back) == len(self._clients) else math.inf
        if fresh:
            self._result.first_fresh_s = fresh[0]
            self._result.all_fresh_s = math.inf if waiting else fresh[-1]

    def _doubt(self, events: Sequence[TraceEvent]) -> None:
        """Find for how long a copy was old whose name the node had forgotten."""
        doubted = set(self._doubted)
        seen = [*_first(events, self._marks["doubt"]), *self._between(events, "doubt", "silence")]
        old_s = staleness(
            [event for event in seen if not isinstance(event, ChangeDelivered) or event.client in doubted]
        )
        self._result.doubt_stale_s = math.inf if self._never_found(events, self._doubted) else max(old_s, default=0.0)

    def _never_found(self, events: Sequence[TraceEvent], clients: Sequence[str]) -> list[tuple[str, str]]:
        """Return the copies of clients that are old in the end, and have been for longer than a renewal may take."""
        follows = {name: self._follows[name] for name in clients}
        ended = _each_open(events, follows, self._marks["end"])
        return [copy for copy, since_s in ended.items() if since_s > NEVER_S]

    def _removals(self, events: Sequence[TraceEvent]) -> None:
        """Count clients whose lease ended while they were cut off."""
        held = [
            {lease.client for lease in event.leases}
            for event in self._between(events, "silence", "death")
            if isinstance(event, NodeSampled)
        ]
        ended: Counter[str] = Counter()
        for before, after in pairwise(held):
            ended.update(before - after)
        self._result.false_removals = sum(ended[client] > 0 for client in self._silent)

    def _gone_after(self, events: Sequence[TraceEvent], clients: Sequence[str], phase: str, until: str) -> float:
        """Return the longest time for which a node held a lease of clients that had gone; infinity if it still does."""
        begins_s = self._marks[phase]
        samples = [event for event in self._between(events, phase, until) if isinstance(event, NodeSampled)]
        last = max(
            (event.at_s for event in samples if any(lease.client in clients for lease in event.leases)),
            default=begins_s,
        )
        return math.inf if samples and last == samples[-1].at_s else last - begins_s


def _counted(place: SimClient) -> Counter[str]:
    """Return what a client has counted so far."""
    if place.client is None:
        return Counter()
    found = place.client.statistics()
    return Counter(connects=found.connects, polls=found.polls, resumed=found.resumed)


def _first(events: Sequence[TraceEvent], until_s: float) -> list[TraceEvent]:
    """Return the last commit and deliveries of each topic ahead of a time, so that staleness counts from it on."""
    commits: dict[str, TraceEvent] = {}
    deliveries: dict[tuple[str, str], TraceEvent] = {}
    for event in events:
        if event.at_s >= until_s:
            break
        if isinstance(event, ChangeCommitted):
            commits[event.topic] = event
        elif isinstance(event, ChangeDelivered):
            deliveries[event.client, event.topic] = event
    return sorted([*commits.values(), *deliveries.values()], key=lambda event: event.at_s)


def _each_open(
    events: Sequence[TraceEvent], follows: dict[str, tuple[str, str]], at_s: float
) -> dict[tuple[str, str], float]:
    """Return for how long each copy that is old at a time has been so."""
    commits: dict[str, list[tuple[int, float]]] = {}
    had: dict[tuple[str, str], int] = {}
    for event in events:
        if event.at_s >= at_s:
            break
        if isinstance(event, ChangeCommitted):
            commits.setdefault(event.topic, []).append((event.revision, event.at_s))
        elif isinstance(event, ChangeDelivered):
            had[event.client, event.topic] = event.version
    found = {}
    for client, names in follows.items():
        for name in names:
            newer = [time_s for revision, time_s in commits.get(name, []) if revision > had.get((client, name), 0)]
            if newer:
                found[client, name] = at_s - newer[0]
    return found


def _repeated(events: Sequence[TraceEvent]) -> int:
    """Count deliveries of a version that the application had been given already."""
    had: dict[tuple[str, str], int] = {}
    count = 0
    for event in events:
        if isinstance(event, ChangeDelivered):
            count += event.version <= had.get((event.client, event.topic), 0)
            had[event.client, event.topic] = event.version
    return count
