"""The truth: the newest value and version of every topic, kept by an engine of your choice."""

from __future__ import annotations

from softstate.errors import ConfigError
from softstate.model import Page, Query
from softstate.store.base import KEYS_MAX, Applied, Committed, Feed, Publish, Store, StoreInfo, Verdict
from softstate.store.horizon import Horizon
from softstate.store.memory import MemoryDisk, MemoryStore

__all__ = [
    "KEYS_MAX",
    "Applied",
    "Committed",
    "Feed",
    "Horizon",
    "MemoryDisk",
    "MemoryStore",
    "Page",
    "Publish",
    "Query",
    "Store",
    "StoreInfo",
    "Verdict",
    "open_store",
]


async def open_store(url: str, *, keys_max: int = KEYS_MAX) -> Store:
    """Open the store that `url` names: ``sqlite:PATH``, or ``memory:`` for one that ends with this process.

    Raises `ConfigError` for any other, and what opening the engine raises: `StoreRefused`, `Unavailable`.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "sqlite" and rest:
        from softstate.store.sqlite.store import SqliteStore  # noqa: PLC0415 (engines load when they are asked for)

        return await SqliteStore.open(rest, keys_max=keys_max)
    if colon and scheme == "memory" and not rest:
        return MemoryStore(keys_max=keys_max)
    raise ConfigError(f"store {url!r} is neither 'sqlite:PATH', such as 'sqlite:softstate.db', nor 'memory:'")
