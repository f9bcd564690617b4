"""The durability that a Redis store reports: asked of a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from softstate.model import Durability
from softstate.store import open_store
from softstate.store.redis.durability import judge_durability
from tests.store.engines.redis_rig import RedisRig, redis_rig


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"appendfsync": "everysec"}, "appendfsync everysec"),
        ({"appendfsync": "no"}, "appendfsync no"),
        ({"appendonly": "no", "save": "60 1"}, "writes no log"),
        ({"appendonly": "no", "save": ""}, "keeps nothing on disk"),
        ({"no-appendfsync-on-rewrite": "yes"}, "while rewriting it"),
        ({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, "evicts any key"),
    ],
)
async def test_weak(tmp_path: Path, settings: dict[str, str], warning: str) -> None:
    async with redis_rig(tmp_path, "redis", None, **settings) as rig:
        store = await rig.open()
        assert store.durability is Durability.WEAK
        (found,) = store.warnings
        assert warning in found
        assert "set " in found, "it says what to do"
        await store.aclose()


@pytest.mark.parametrize("settings", [{}, {"maxmemory": "1gb"}, {"maxmemory-policy": "allkeys-lru"}])
async def test_durable(tmp_path: Path, settings: dict[str, str]) -> None:
    async with redis_rig(tmp_path, "redis", None, **settings) as rig:
        store = await rig.open()
        assert (store.durability, list(store.warnings)) == (Durability.DURABLE, [])
        await store.aclose()


async def durability_of(rig: RedisRig, user: str) -> tuple[Durability, list[str]]:
    """Return what a store promises that is opened as a user who may not ask for settings."""
    store = await open_store(f"redis://{user}:pw@127.0.0.1:{rig.port}")
    await store.aclose()
    return store.durability, list(store.warnings)


async def test_changes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed setting within `PROBE_EVERY_S`, another server at once."""
    async with redis_rig(tmp_path) as rig:
        store = await rig.open()

        async def told() -> Durability:
            await store.head()
            return store.durability

        await rig.ask("CONFIG", "SET", "appendfsync", "everysec")
        assert await told() is Durability.DURABLE
        monkeypatch.setattr("softstate.store.redis.engine.PROBE_EVERY_S", 0)
        assert await told() is Durability.WEAK
        monkeypatch.undo()
        await rig.kill()
        await rig.start()
        assert await told() is Durability.DURABLE
        await store.aclose()


async def test_server_that_keeps_its_settings_to_itself(tmp_path: Path) -> None:
    """A managed service refuses CONFIG: the log is known of, but not when it is synced."""
    async with redis_rig(tmp_path) as rig:
        await rig.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")
        durability, (warning,) = await durability_of(rig, "app")
        assert durability is Durability.WEAK
        assert "CONFIG is refused" in warning
    async with redis_rig(tmp_path, "unlogged", appendonly="no") as rig:
        await rig.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")
        durability, (warning,) = await durability_of(rig, "app")
        assert durability is Durability.WEAK
        assert "writes no log" in warning


def test_several_warnings() -> None:
    info = {"aof_enabled": "0", "maxmemory": "1", "maxmemory_policy": "allkeys-lfu"}
    durability, warnings = judge_durability(info, {"save": ""})
    assert (durability, len(warnings)) == (Durability.WEAK, 2)
