"""Worlds under random faults: a seed draws the faults, an oracle checks, a failure is reduced to the faults it needs.

A schedule is a plain list of faults with their times, drawn before the world begins. So a part of it can run under the
same seed, and `minimise` can find the faults that a failure needs (delta debugging, one at a time: Zeller and
Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Literal, final

import trio

from softstate.names import ALL
from softstate.testing.oracle.oracle import Oracle
from softstate.testing.simulation.callout import NAMES_ANSWER_S
from softstate.testing.simulation.checked_run import check_scenario
from softstate.testing.simulation.issuer import SimIssuer
from softstate.testing.simulation.node import SimNode
from softstate.testing.simulation.random_faults import CLIENTS, KINDS
from softstate.testing.simulation.random_permissions import (
    CALLOUT_KINDS,
    KINDS_OF,
    KNOWN_S,
    PERMISSION_KINDS,
    POLICY_KINDS,
    REVOCATION_KINDS,
    asks_names,
    checks_of,
    told_at_once,
)
from softstate.testing.simulation.traffic import Pace, change_interests, pace_of, publish, set_delays
from softstate.testing.simulation.world import World, run_world
from softstate.testing.trace import ClientEnded, TraceEvent

WITHIN_GROUP_S = 1.0
"""Average time from the beginning of a group of faults to each of them."""

TOKEN_S = 60.0
"""For how long tokens are good in a world whose nodes check credentials."""

FETCH_S = 95.0
"""How much longer such a world may take to converge: a fetch that hangs, and a backoff that has grown."""

_ALL_KINDS = KINDS | PERMISSION_KINDS | REVOCATION_KINDS | CALLOUT_KINDS | POLICY_KINDS

REVOCATIONS = (0, 0, 0, 1, 2, 4)
"""Faults of `REVOCATION_KINDS` in one schedule; each as likely."""

DOWN_S_MAX = 10.0
"""A node that crashed is started again after a random time up to this."""


@final
@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """One fault: its beginning, kind, duration (unless it ends by itself), and the seed of its details."""

    at_s: float
    kind: str
    for_s: float
    seed: int

    def __str__(self) -> str:
        return f"{self.at_s:.1f} s: {self.kind}, {self.for_s:.1f} s, details {self.seed}"


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run. `error` is None if every promise held; `repairs` are the added counters of all clients.

    `margin_s` and `converged_s` are those of `softstate.testing.oracle.clients.ClientChecks`.
    """

    seed: int
    schedule: tuple[ScheduledFault, ...]
    steps: int = 0
    injected: tuple[str, ...] = ()
    repairs: dict[str, int] = field(default_factory=dict)
    margin_s: float = math.inf
    converged_s: float = 0.0
    error: str | None = None


def draw_schedule(seed: int, *, permissions: bool = False) -> list[ScheduledFault]:
    """Draw a schedule, in order of time. The same seed draws the same one.

    `permissions`: for a world whose nodes check credentials, in the way that `checks_of` the seed says, with faults of
    these, too.
    """
    random, pace = Random(f"schedule {seed}"), pace_of(seed)
    choice = list(KINDS) if pace.kinds is None else random.sample(list(KINDS), pace.kinds)
    choice += list(KINDS_OF[checks_of(seed)]) if permissions else []
    kinds = random.choices(choice, [_ALL_KINDS[kind][0] for kind in choice], k=pace.faults)
    groups = [random.uniform(1.0, pace.faults_s) for _ in range(-(-pace.faults // pace.together))]
    times = sorted(groups[at // pace.together] + random.expovariate(1 / WITHIN_GROUP_S) for at in range(pace.faults))
    faults = [_drawn(random, pace, at_s, kind) for at_s, kind in zip(times, kinds, strict=True)]
    if permissions and checks_of(seed) == "issuer":
        random = Random(f"who is revoked {seed}")
        kinds = random.choices(
            list(REVOCATION_KINDS), [weight for weight, _ in REVOCATION_KINDS.values()], k=random.choice(REVOCATIONS)
        )
        faults += [_drawn(random, pace, random.uniform(1.0, pace.faults_s), kind) for kind in kinds]
    return sorted(faults, key=lambda fault: fault.at_s)


def _drawn(random: Random, pace: Pace, at_s: float, kind: str) -> ScheduledFault:
    for_s = random.choice(pace.lengths_s) * random.uniform(0.5, 1.5)
    return ScheduledFault(at_s, kind, for_s, random.getrandbits(32))


def run_schedule(seed: int, schedule: Sequence[ScheduledFault], *, permissions: bool = False) -> Outcome:
    """Run a world under a schedule, at its seed's pace, with three clients that also publish, and an oracle.

    `permissions`: its nodes check credentials, as for `draw_schedule`. Raises nothing: a broken promise, and any other
    error, is in the outcome.
    """
    worlds: list[tuple[World, Oracle]] = []
    pace = pace_of(seed)
    bounds = pace.bounds()
    options: dict[str, Any] = {}
    folder = ExitStack()
    if permissions:
        checks = checks_of(seed)
        names = checks == "callout" and asks_names(seed)
        rules_s, keys_s = (NAMES_ANSWER_S, NAMES_ANSWER_S) if names else KNOWN_S[checks]
        bounds = replace(bounds, service_s=bounds.service_s + FETCH_S, rules_s=rules_s, keys_s=keys_s)
        options = {"callout": "names" if names else True} if checks == "callout" else {"token_s": TOKEN_S}
        if checks == "policy":
            options["policy_folder"] = Path(folder.enter_context(TemporaryDirectory()))

    async def scenario(world: World) -> None:
        oracle = Oracle.attach(world.trace, bounds)
        worlds.append((world, oracle))
        if isinstance(world.issuer, SimIssuer):
            world.issuer.at_once = told_at_once(seed)
        await check_scenario(world, lambda world: _play(world, pace, schedule), oracle)
        for client in world.clients.values():
            await client.aclose()

    error = None
    try:
        with folder:
            run_world(
                seed, scenario, config=pace.config(), sample_every_s=pace.sample_every_s, record_messages=True,
                **options,
            )  # fmt: skip
    except Exception as failure:  # noqa: BLE001 - any error in a world is a finding
        error = "\n".join([f"{type(failure).__name__}: {failure}", *getattr(failure, "__notes__", ())])
    if not worlds:
        return Outcome(seed, tuple(schedule), error=error)
    world, oracle = worlds[0]
    return Outcome(
        seed, tuple(schedule), oracle.steps, tuple(line.split()[1] for line in world.faults.injected),
        _repairs(world.trace.events), oracle.clients.margin_s, oracle.clients.converged_s, error,
    )  # fmt: skip


def minimise(outcome: Outcome, *, permissions: bool = False) -> list[ScheduledFault]:
    """Leave out one fault after the other as long as the run still fails; return the faults that it needs.

    `permissions`: the run was of a world whose nodes check credentials.
    """
    needed = list(outcome.schedule)
    at = 0
    while at < len(needed):
        fewer = needed[:at] + needed[at + 1 :]
        if run_schedule(outcome.seed, fewer, permissions=permissions).error is not None:
            needed = fewer
        else:
            at += 1
    return needed


def _repairs(events: Sequence[TraceEvent]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for event in events:
        if isinstance(event, ClientEnded):
            counts.update(dict(event.counts))
    return dict(counts)


async def _play(world: World, pace: Pace, schedule: Sequence[ScheduledFault]) -> None:
    for name in CLIENTS:
        codec: Literal["json", "cbor"] = "json" if name == "json" else "cbor"
        await world.client(name, *pace.followed, codec=codec, push=name != "poll", allowed=(ALL,))
    set_delays(world, pace)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, world, pace)
        nursery.start_soon(change_interests, world, pace)
        for place in world.nodes.values():
            nursery.start_soon(_restart_after_crashes, world, pace, place)
        for fault in schedule:
            nursery.start_soon(_inject, world, fault)
    for place in world.nodes.values():
        place.clear_points()


async def _inject(world: World, fault: ScheduledFault) -> None:
    await trio.sleep(fault.at_s)
    end = _ALL_KINDS[fault.kind][1](world, Random(fault.seed))
    await trio.sleep(fault.for_s)
    if end is not None:
        end()


async def _restart_after_crashes(world: World, pace: Pace, place: SimNode) -> None:
    random = world.seeds.random(f"keep up {place.name}")
    while world.now < pace.ends_s:
        await trio.sleep(random.uniform(1.0, DOWN_S_MAX))
        if not place.up:
            await world.faults.restart(place.name)
