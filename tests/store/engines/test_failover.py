"""A node on a pair of servers, of which the second takes over: no client notices, unless it lacks acknowledged commits.

Replication is asynchronous here, as it is unless it is set up otherwise. An etcd cluster loses nothing when it
fails over; for that see `test_etcd_faults`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
import trio

from tests.store.engines.cable import Cable, cable_to
from tests.store.engines.outage_rig import POLL_S, following, node_on, through, undisturbed, until
from tests.store.engines.postgres_rig import PostgresRig, PostgresServer
from tests.store.engines.redis_rig import RedisRig, redis_rig


class Pair(Protocol):
    """Two servers, of which the first is in use, at `url`."""

    url: str

    async def in_step(self) -> None:
        """Wait until the second has all that the first has."""

    async def part(self) -> None:
        """Let the second hear no more."""

    async def fail_over(self) -> None:
        """Kill the first, and put the second in its place."""


class RedisPair:
    """The address stays the same by a cable that is plugged over."""

    def __init__(self, primary: RedisRig, replica: RedisRig, cable: Cable) -> None:
        self.url = through(primary.url, cable.port)
        self._primary = primary
        self._replica = replica
        self._cable = cable

    async def in_step(self) -> None:
        while await _offset(self._replica, b"slave_repl_offset") != await _offset(self._primary, b"master_repl_offset"):
            await trio.sleep(POLL_S)

    async def part(self) -> None:
        await self._replica.ask("REPLICAOF", "NO", "ONE")

    async def fail_over(self) -> None:
        await self._primary.kill()
        await self.part()
        self._cable.plug(self._replica.port)


async def _offset(rig: RedisRig, name: bytes) -> bytes | None:
    found = re.search(rb"\b" + name + rb":(\d+)", await rig.ask("INFO", "replication"))
    return found[1] if found else None


class PostgresPair:
    """The second server takes over the port."""

    def __init__(self, rig: PostgresRig, standby: PostgresServer) -> None:
        self.url = rig.url
        self._rig = rig
        self._standby = standby

    async def in_step(self) -> None:
        ((upto,),) = self._rig.server.execute("SELECT pg_current_wal_lsn()")
        await until(lambda: self._standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{upto}'") == [(True,)])

    async def part(self) -> None:
        self._standby.kill()

    async def fail_over(self) -> None:
        await self._rig.fail_over(self._standby)


@asynccontextmanager
async def pair_of(rig: RedisRig | PostgresRig, tmp_path: Path) -> AsyncIterator[Pair]:
    """Give a server a second one for the length of a block."""
    if isinstance(rig, RedisRig):
        async with redis_rig(tmp_path, "replica", replicaof=f"127.0.0.1 {rig.port}") as replica:
            async with cable_to(rig.port) as cable:
                yield RedisPair(rig, replica, cable)
        return
    primary = rig.server
    with rig.standby() as standby:
        try:
            yield PostgresPair(rig, standby)
        finally:
            rig.server = primary


@pytest.mark.parametrize("engine", ["redis", "postgres"], indirect=True)
async def test_to_one_that_has_everything(rig: RedisRig | PostgresRig, tmp_path: Path) -> None:
    async with pair_of(rig, tmp_path) as pair, node_on(pair.url) as served, following(served.url, "t") as follower:
        await follower.client.publish("t", "before")
        await follower.shows({"t": "before"})
        await pair.in_step()
        await pair.fail_over()
        await follower.client.publish("t", "after")
        await follower.shows({"t": "after"})
        undisturbed(served, follower)


@pytest.mark.parametrize("engine", ["redis", "postgres"], indirect=True)
async def test_to_one_that_lacks_something(rig: RedisRig | PostgresRig, tmp_path: Path) -> None:
    async with pair_of(rig, tmp_path) as pair, node_on(pair.url) as served, following(served.url, "t") as follower:
        await follower.client.publish("t", "before")
        await pair.in_step()
        await pair.part()
        await follower.client.publish("t", "lost")
        await follower.shows({"t": "lost"})
        await pair.fail_over()
        await follower.shows({"t": "before"})
        await follower.client.publish("t", "after")
        await follower.shows({"t": "after"})
        assert follower.resets == 1
        assert served.node.access.follower.rewinds == 1
