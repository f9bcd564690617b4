"""Run a scenario with an oracle, heal everything, and wait until every promise can be checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from softstate.testing.oracle.oracle import Bounds, Oracle
from softstate.testing.simulation.world import World, run_world

CHECK_EVERY_S = 1.0
"""Virtual seconds for which a world may go on after a promise broke."""


async def check_scenario(
    world: World,
    scenario: Callable[[World], Awaitable[None]],
    oracle: Oracle | None = None,
    *,
    to_the_end: bool = False,
) -> Oracle:
    """Run a scenario in a world, heal everything, wait for as long as L allows, and check every promise.

    `oracle` must be attached to the world's trace; None: a new one is. Raises `PromiseBroken` within `CHECK_EVERY_S` of
    an event that shows it; with `to_the_end`, at the end, with all promises that broke.
    """
    oracle = oracle or Oracle.attach(world.trace)
    async with trio.open_nursery() as nursery:
        if not to_the_end:
            nursery.start_soon(_check_often, oracle)
        await scenario(world)
        await world.faults.heal()
        await world.sleep(oracle.bounds.converge_s + oracle.bounds.slack_s)
        await world.settled()
        nursery.cancel_scope.cancel()
    world.sample()
    oracle.finish(world.now)
    oracle.check()
    return oracle


async def _check_often(oracle: Oracle) -> None:
    while True:
        oracle.check()
        await trio.sleep(CHECK_EVERY_S)


def run_checked(
    seed: int,
    scenario: Callable[[World], Awaitable[None]],
    *,
    bounds: Bounds | None = None,
    to_the_end: bool = False,
    **options: Any,
) -> tuple[World, Oracle]:
    """Run a world as `run_world` does, with every message recorded and an oracle; return both.

    `bounds` are the oracle's (None: those of the default configuration), `options` those of `World`. See
    `check_scenario`. Raises the errors of `run_world`, and `PromiseBroken`.
    """
    oracles: list[Oracle] = []

    async def main(world: World) -> None:
        oracle = Oracle.attach(world.trace, bounds)
        oracles.append(await check_scenario(world, scenario, oracle, to_the_end=to_the_end))

    world = run_world(seed, main, record_messages=True, **options)
    return world, oracles[0]
