"""Running a scenario with an oracle beside it, to the end that every promise can be checked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from softstate.testing.oracle.oracle import Bounds, Oracle
from softstate.testing.simulation.world import World, run_world

LOOK_EVERY_S = 1.0
"""How long a world may go on after a promise broke, in virtual seconds."""


async def checked(
    world: World,
    scenario: Callable[[World], Awaitable[None]],
    oracle: Oracle | None = None,
    *,
    to_the_end: bool = False,
) -> Oracle:
    """Run a scenario in a world, heal everything, wait for as long as L allows, and check every promise.

    `oracle` is one that is attached to the world's trace; None: a new one. Raises `PromiseBroken`, soon after a promise
    broke if it is one that can be told at once; `to_the_end`: with all that broke, at the end.
    """
    oracle = oracle or Oracle.attach(world.trace)
    async with trio.open_nursery() as nursery:
        if not to_the_end:
            nursery.start_soon(_look, oracle)
        await scenario(world)
        await world.faults.heal()
        await world.sleep(oracle.bounds.converge_s + oracle.bounds.slack_s)
        await world.settled()
        nursery.cancel_scope.cancel()
    world.sample()
    oracle.finish(world.now)
    oracle.check()
    return oracle


async def _look(oracle: Oracle) -> None:
    while True:
        oracle.check()
        await trio.sleep(LOOK_EVERY_S)


def run_checked(
    seed: int,
    scenario: Callable[[World], Awaitable[None]],
    *,
    bounds: Bounds | None = None,
    to_the_end: bool = False,
    **options: Any,
) -> tuple[World, Oracle]:
    """Run a world as `run_world` does, with every message recorded and an oracle (see `checked`); return both.

    Raises what `run_world` raises, and `PromiseBroken`.
    """
    oracles: list[Oracle] = []

    async def main(world: World) -> None:
        oracle = Oracle.attach(world.trace, bounds)
        oracles.append(await checked(world, scenario, oracle, to_the_end=to_the_end))

    world = run_world(seed, main, record_messages=True, **options)
    return world, oracles[0]
