"""For how much of the time clients' copies are old, and what that costs in messages: real nodes and clients, simulated.

Each client follows one topic of its own. Another program commits changes to all of them as a Poisson process. Pushes
may be lost on the way, or names vanish from leases; the network has its usual delays. Counted are the messages of
WebSockets, by kind, and requests over HTTP with their answers.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from bench.measure.quiet import quiet_clients
from bench.models.measured.estimates import Estimate, mean_of
from softstate.client.machine.connection import Connection
from softstate.client.machine.poll_path import PollPath
from softstate.client.machine.push_messages import PushMessages
from softstate.server import ServerConfig
from softstate.session import renewal as renewals
from softstate.session.load_advice import RENEWALS_PER_TTL
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.simulation.world import World, run_world
from softstate.testing.trace import ChangeCommitted, ChangeDelivered, MessageWritten, TraceEvent
from softstate.wire.messages import Renewed

SETTLE_S = 5.0

PER_POLL = 2
"""Messages of a poll: the request and its answer."""


@dataclass(frozen=True, slots=True)
class Following:
    """One way to follow topics.

    `renew_s` is the time between renewals (None: the client polls every `poll_s` instead, and no poll is held). `loss`:
    of each push. `names_lost_per_s`: rate at which a node forgets the name of each lease. `feedback`: clients compare
    how many pushes came with how many were sent. `digest`: renewals compare what both sides hold. None of this can be
    switched off in the product: the rule is patched out.
    """

    renew_s: float | None = 20.0
    poll_s: float = 15.0
    change_per_s: float = 1 / 20
    loss: float = 0.0
    beats: bool = False
    names_lost_per_s: float = 0.0
    feedback: bool = True
    digest: bool = True
    clients: int = 16
    lasts_s: float = 1_800.0


@dataclass(slots=True)
class Followed:
    """Figures of a run: the part of time in which copies were old, and messages for each client a second.

    `kinds` has the messages of a second and client by kind. `worst_s` is the longest time for which a copy was old.
    """

    inconsistency: Estimate
    messages_per_s: float
    kinds: dict[str, float] = field(default_factory=dict)
    worst_s: float = 0.0


def follow(given: Following, seed: int) -> Followed:
    """Run one world."""
    names = [f"t/{number}" for number in range(given.clients)]
    marks: list[float] = []
    polls: list[int] = []

    async def scenario(world: World) -> None:
        for number, name in enumerate(names):
            beat_ms = 1_000 if given.beats else None
            await world.client(f"c{number}", name, push=given.renew_s is not None, beat_ms=beat_ms)
            world.faults.commit(name, "first")
        await world.sleep(SETTLE_S)
        if given.loss:
            world.faults.frames(FrameRule("drop", "notify", share=given.loss, times=None))
        if given.names_lost_per_s:
            world.nursery.start_soon(_forget, world, given)
        marks.append(world.now)
        polls.append(_polls(world))
        await _commit(world, given, names)
        marks.append(world.now)
        polls.append(_polls(world))

    with quiet_clients(), patched(given):
        world = run_world(
            seed, scenario, nodes=1, config=config_of(given), record_messages=True, sample_every_s=math.inf
        )
    return figures_of(world.trace.events, names, (marks[0], marks[1]), polls[1] - polls[0])


def _polls(world: World) -> int:
    """Count the polls of all clients so far."""
    return sum(place.client.statistics().polls for place in world.clients.values() if place.client is not None)


def config_of(given: Following) -> ServerConfig:
    """Return the configuration of the node."""
    config = replace(ServerConfig(), poll_every_ms=round(given.poll_s * 1000))
    if given.renew_s is None:
        return config
    return replace(config, ttl_ms=round(given.renew_s * RENEWALS_PER_TTL * 1000))


async def _commit(world: World, given: Following, names: Sequence[str]) -> None:
    random = world.seeds.random("commits")
    ends_s, number = world.now + given.lasts_s, 0
    while True:
        pause_s = random.expovariate(given.change_per_s * len(names))
        if world.now + pause_s > ends_s:
            await world.sleep(ends_s - world.now)
            return
        await world.sleep(pause_s)
        number += 1
        world.faults.commit(random.choice(names), number)


async def _forget(world: World, given: Following) -> None:
    random = world.seeds.random("forgetting")
    while True:
        await world.sleep(random.expovariate(given.names_lost_per_s * given.clients))
        world.faults.forget_names("n1", 1 / given.clients)


@contextmanager
def patched(given: Following) -> Iterator[None]:
    """Take out of the product what `given` does without, for the duration of a block."""
    with ExitStack() as stack:
        if not given.feedback:
            stack.enter_context(patch.object(PushMessages, "_pushes_lost", _overlook))
        if not given.digest:
            stack.enter_context(patch.object(renewals, "Renewed", _matching))
        if given.renew_s is None:
            stack.enter_context(patch.object(PollPath, "_wait_ms", _never))
        yield


def _never(_path: PollPath, _names: object) -> None:
    """Have no poll held."""


def _overlook(_messages: PushMessages, connection: Connection, sent: int) -> None:
    connection.notify_count = sent


def _matching(*fields: Any, **named: Any) -> Renewed:
    """Have a renewal be answered as if the client held what the node does."""
    return Renewed(*fields, **{**named, "match": True})


# Figures -------------------------------------------------------------------------------------------------------------


def figures_of(
    events: Sequence[TraceEvent], names: Sequence[str], between_s: tuple[float, float], polls: int
) -> Followed:
    """Work out the figures of a run from its trace; `polls` is how many all clients sent between two times."""
    begins_s, ends_s = between_s
    lasts_s = ends_s - begins_s
    old_s, worst_s = old_times(events, begins_s, ends_s)
    kinds = Counter(poll=PER_POLL * polls)
    for event in events:
        if isinstance(event, MessageWritten) and begins_s <= event.at_s < ends_s:
            kinds[event.op] += 1
    each = {kind: count / lasts_s / len(names) for kind, count in sorted(kinds.items()) if count}
    shares = [old_s[name] / lasts_s for name in names]
    return Followed(mean_of(shares), sum(each.values()), each, worst_s)


def old_times(events: Sequence[TraceEvent], begins_s: float, ends_s: float) -> tuple[dict[str, float], float]:
    """Return for how long the copy of each topic was old between two times, and the longest time of all.

    A copy is old from the first commit that is newer than it, until a delivery after which there is none.
    """
    commits: dict[str, list[tuple[int, float]]] = defaultdict(list)
    missing: dict[str, list[tuple[int, float]]] = defaultdict(list)
    old_s: dict[str, float] = defaultdict(float)
    worst_s = 0.0

    def close(topic: str, since_s: float, at_s: float) -> None:
        nonlocal worst_s
        old_s[topic] += max(min(at_s, ends_s) - max(since_s, begins_s), 0.0)
        worst_s = max(worst_s, at_s - since_s)

    for event in events:
        if isinstance(event, ChangeCommitted):
            commits[event.topic].append((event.revision, event.at_s))
            missing[event.topic].append((event.revision, event.at_s))
        elif isinstance(event, ChangeDelivered):
            waiting = missing[event.topic]
            if not waiting:
                continue
            left = [commit for commit in waiting if commit[0] > event.version]
            if len(left) < len(waiting):
                close(event.topic, waiting[0][1], left[0][1] if left else event.at_s)
                missing[event.topic] = left
    for topic, waiting in missing.items():
        if waiting:
            close(topic, waiting[0][1], ends_s)
    return old_s, worst_s
