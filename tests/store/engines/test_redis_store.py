"""The store in Redis is held to the contract, against a real server."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from softstate.store import open_store
from softstate.store.base import KEYS_MAX, Store
from softstate.testing import STORE_CHECKS, Rewindable, StoreCheck, run_check
from tests.store.engines.redis_rig import RedisRig

_numbers = itertools.count()


class RedisBackend:
    """A namespace; a backup is one of the whole server, put back by starting another on it."""

    def __init__(self, server: RedisRig) -> None:
        self.server = server
        server.namespace = f"test{next(_numbers)}"

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        return await self.server.open(keys_max=keys_max)

    async def open_to_read(self) -> Store:
        return await open_store(self.server.url, read_only=True)

    async def snapshot(self) -> Any:
        return await self.server.backup()

    async def restore(self, snapshot: Any) -> None:
        await self.server.restore(snapshot)


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_redis_store(check: StoreCheck, server: RedisRig) -> None:
    await run_check(check, RedisBackend(server))


def test_it_can_be_rewound(server: RedisRig) -> None:
    assert isinstance(RedisBackend(server), Rewindable)
