"""Acknowledged publishes and crashes: at each crash point of a simulated store, and kill -9 of real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import urllib.error
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from random import Random

from bench.measure.engines import engine
from bench.measure.quiet import quiet_clients
from bench.measure.servers import Server, softstate_server
from softstate.testing.oracle.verdict import PromiseBroken
from softstate.testing.simulation.checked_run import run_checked
from softstate.testing.simulation.world import World
from softstate.testing.trace import ChangeCommitted, PublishAcknowledged, PublishFailed, TraceEvent

CALLS = ("publish", "read", "head", "feed", "reopen")
POINTS = (
    *(f"{call}.{when}" for call in CALLS for when in ("before", "after")),
    "publish.before_commit",
    "publish.after_commit",
)
"""All crash points of a simulated store."""

PUBLISH_EVERY_S = 0.2
CRASHES = 4
DOWN_S = 2.0
"""Virtual time from a crash until the node starts again: clients retry meanwhile, and their publishes are in doubt."""
UP_S = 8.0
TOPICS = 3


@dataclass(frozen=True, slots=True)
class Crashed:
    """Counts of one run. `passed`: crashes that happened; `lost`: acknowledged publishes that are not in the store.

    `where`: what real engine it was, "" if simulated.
    """

    acknowledged: int
    passed: int
    lost: int
    broken: str = ""
    where: str = ""


def crash_at(point: str, how: str, seed: int) -> Crashed:
    """Crash a node at a point of its store, again and again, while two clients publish."""
    passed = 0

    async def scenario(world: World) -> None:
        nonlocal passed
        for name in ("a", "b"):
            await world.client(name, "t/", nodes=("n1",))
        world.nursery.start_soon(_publish, world)
        for number in range(CRASHES):
            if point.startswith("reopen"):
                world.faults.backup(f"copy {number}")
            await world.sleep(UP_S)
            after = 1 if point.startswith(("read", "reopen")) else 1 + number
            world.faults.crash_at("n1", point, after=after, how="power" if how == "power" else "killed")
            if point.startswith(("feed", "head")):
                world.faults.commit("t/by another", number)
            if point.startswith("read."):
                await world.client(f"reader {number}", "t/", nodes=("n1",))
            if point.startswith("reopen"):  # what was committed since is gone; the node notices, and reopens its store
                world.faults.rewind(f"copy {number}")
            await world.sleep(UP_S)
            if not world.nodes["n1"].up:
                passed += 1
                await world.sleep(DOWN_S)
                await world.faults.restart("n1")

    try:
        with quiet_clients():
            world, _ = run_checked(seed, scenario, nodes=1)
    except PromiseBroken as broken:
        return Crashed(0, passed, 0, f"{point}, {how}, seed {seed}: {broken}")
    acknowledged, lost = count_lost(world.trace.events)
    return Crashed(acknowledged, passed, lost)


async def _publish(world: World) -> None:
    random, number = world.seeds.random("publishes"), 0
    while True:
        await world.sleep(random.expovariate(1 / PUBLISH_EVERY_S))
        number += 1
        client = world.clients[random.choice(("a", "b"))]
        client.publish(f"t/{number % TOPICS}", number)


def count_lost(events: Sequence[TraceEvent]) -> tuple[int, int]:
    """Return how many publishes were acknowledged, and of how many the store never had the version."""
    committed = {(event.topic, event.revision) for event in events if isinstance(event, ChangeCommitted)}
    acknowledged = [event for event in events if isinstance(event, PublishAcknowledged)]
    failed = {(event.client, event.number) for event in events if isinstance(event, PublishFailed)}
    counted = [event for event in acknowledged if (event.client, event.number) not in failed]
    return len(counted), sum((event.topic, event.version) not in committed for event in counted)


# Real processes ------------------------------------------------------------------------------------------------------

RUN_S = (0.2, 1.0)
"""Bounds of the random time from the first acknowledgement until the kill."""
ANSWER_S = 5.0
PUBLISHES_MAX = 100_000


def kill_nodes(kind: str, seed: int, kills: int) -> Crashed:
    """Kill a node on a throw-away engine while it takes publishes. Raises `NotInstalled`."""
    random = Random(f"{seed} {kind}")
    acknowledged = lost = 0
    with engine(kind) as started, started.store("crashes") as url:
        for kill in range(kills):
            with softstate_server(store=url) as server:
                newest = _publish_until_killed(server, kill, random)
            acknowledged += len(newest)
            with softstate_server(store=url) as server:
                lost += sum(_value(server, topic) < value for topic, value in newest.items())
    return Crashed(acknowledged, kills, lost, where=f"{kind}: {started.about}")


def _publish_until_killed(server: Server, kill: int, random: Random) -> dict[str, int]:
    """Publish numbers, each to a topic of its own, until the process is killed; return the acknowledged ones."""
    newest: dict[str, int] = {}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_S)
    killer = threading.Timer(random.uniform(*RUN_S), os.kill, (server.pid, signal.SIGKILL))
    with suppress(OSError, http.client.HTTPException), closing(connection):
        for number in range(PUBLISHES_MAX):
            topic = f"crash/{kill}/{number}"
            connection.request("PUT", f"/v1/topics/{topic}", f"{number}", {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status < http.client.BAD_REQUEST:
                newest[topic] = number
                if len(newest) == 1:
                    killer.start()
    if newest:
        killer.join()
    return newest


def _value(server: Server, topic: str) -> int:
    """Return the value of a topic; -1 if there is none."""
    try:
        return int(json.loads(server.get(f"/v1/topics/{topic}")))
    except urllib.error.HTTPError:
        return -1
