"""The store: the newest value and version of every topic, kept durably by an engine of your choice."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from softstate.errors import ConfigError, StoreMissing
from softstate.model import Durability, Page, Query, Record
from softstate.position import Position
from softstate.store.base import (
    EXISTS,
    KEYS_MAX,
    LAYOUT,
    PUBLISHERS_MAX,
    Applied,
    Committed,
    Dump,
    Feed,
    Key,
    Number,
    Publisher,
    Store,
    StoreInfo,
    Use,
    Verdict,
    Write,
)
from softstate.store.memory.image import MemoryImage
from softstate.store.memory.store import MemoryDisk, MemoryStore
from softstate.store.remote.url import check_path
from softstate.store.rules.cost import ReadCost
from softstate.store.rules.retention import RetentionClock

__all__ = [
    "EXISTS",
    "KEYS_MAX",
    "LAYOUT",
    "PUBLISHERS_MAX",
    "SCHEMES",
    "Applied",
    "Committed",
    "Dump",
    "Durability",
    "Feed",
    "Key",
    "MemoryDisk",
    "MemoryImage",
    "MemoryStore",
    "Number",
    "Page",
    "Position",
    "Publisher",
    "Query",
    "ReadCost",
    "Record",
    "RetentionClock",
    "Store",
    "StoreInfo",
    "Use",
    "Verdict",
    "Write",
    "check_url",
    "open_store",
]

SCHEMES = (
    "sqlite:PATH",
    "redis://HOST:PORT/DB",
    "postgresql://USER@HOST:PORT/DATABASE",
    "etcd://HOST:PORT,HOST:PORT",
    "memory:",
)
"""The forms of a store URL, as messages show them. Also: rediss, postgres, etcds."""


_LIKE_OPTIONS = re.compile(r"\?\w+=")


class _Engine(NamedTuple):
    """An engine that is imported only when it is named. `driver` is the package that `extra` installs, "" for none."""

    module: str
    store: str
    driver: str
    extra: str


_REDIS = _Engine("softstate.store.redis.store", "RedisStore", "coredis", "redis")
_POSTGRES = _Engine("softstate.store.postgres.store", "PostgresStore", "psycopg", "postgres")
_ETCD = _Engine("softstate.store.etcd.store", "EtcdStore", "", "etcd")
_REMOTE = {
    "redis": _REDIS,
    "rediss": _REDIS,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "etcd": _ETCD,
    "etcds": _ETCD,
}


def check_url(url: str) -> None:
    """Raise `ConfigError` for a URL that `open_store` would refuse before it opens anything."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "sqlite" and rest:
        if _LIKE_OPTIONS.search(rest):
            raise ConfigError(
                f"store {url!r}: sqlite takes no options, and '?' would be part of the file's name: leave it out"
            )
        check_path(rest, "its file", "sqlite")
    elif rest.startswith("//") and scheme in _REMOTE:
        engine = _REMOTE[scheme]
        _read_url(scheme, url)
        if engine.driver and find_spec(engine.driver) is None:
            raise _not_installed(scheme, engine)
    elif url != "memory:":
        raise _no_scheme(url)


def _read_url(scheme: str, url: str) -> None:
    # No driver is imported by these.
    if _REMOTE[scheme] is _REDIS:
        from softstate.store.redis.url import RedisAddress  # noqa: PLC0415

        RedisAddress.read(url)
    elif _REMOTE[scheme] is _POSTGRES:
        from softstate.store.postgres.url import read_address  # noqa: PLC0415

        read_address(url)
    else:
        from softstate.store.etcd.url import read_etcd_url  # noqa: PLC0415

        read_etcd_url(url)


def _not_installed(scheme: str, engine: _Engine) -> ConfigError:
    return ConfigError(
        f"store {scheme}://… needs {engine.driver}: pip install '.[{engine.extra}]', in a clone of softstate"
    )


def _no_scheme(url: str) -> ConfigError:
    shown = url if "@" not in url else f"{url.partition(':')[0]}://…"
    named = ":" in url or not url or shown != url or any(scheme.startswith(f"{url}:") for scheme in SCHEMES)
    file = "" if named else f"; for a file write sqlite:{url}"
    return ConfigError(f"store {shown!r} is none of {', '.join(SCHEMES)}{file}")


async def open_store(
    url: str,
    *,
    keys_max: int = KEYS_MAX,
    publishers_max: int = PUBLISHERS_MAX,
    create: bool = True,
    read_only: bool = False,
    backup: bool = True,
) -> Store:
    """Open the store that `url` names; its scheme names the engine, one of `SCHEMES`.

    It holds at most `keys_max` idempotency keys and remembers at most `publishers_max` publishers. If there is none,
    `create` makes it: a file, schema or namespace. Without `create` nothing is made, now or by `Store.reopen`, and
    that raises `StoreMissing`. A store of an earlier layout is carried over to this release's, after a `backup` beside
    it where the engine keeps files. If `read_only`, nothing in it is changed, not even by a lineage row: it must be
    there and of this layout, and what would change it raises `StoreRefused`.

    Raises `ConfigError` for any other scheme, for a wrong URL, and when the engine's driver is not installed;
    `StoreRefused` when the store cannot be used, `Unavailable` when it cannot be used now.
    """
    opened = await _open(url, keys_max, create=create, read_only=read_only, backup=backup)
    opened.publishers_max = publishers_max
    return opened


async def _open(url: str, keys_max: int, *, create: bool, read_only: bool, backup: bool) -> Store:
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "sqlite" and rest:
        from softstate.store.sqlite.store import SqliteStore  # noqa: PLC0415 (an engine is imported when it is named)

        check_path(rest, "its file", "sqlite")
        return await SqliteStore.open(rest, keys_max=keys_max, create=create, read_only=read_only, backup=backup)
    if colon and scheme == "memory" and not rest:
        if read_only or not create:
            raise StoreMissing("memory: begins empty with each process: name a store that lasts")
        return MemoryStore(keys_max=keys_max)
    if rest.startswith("//") and scheme in _REMOTE:
        engine = _REMOTE[scheme]
        try:
            module = import_module(engine.module)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] != engine.driver:
                raise
            raise _not_installed(scheme, engine) from None
        opened: Store = await getattr(module, engine.store).open(
            url, keys_max=keys_max, create=create, read_only=read_only
        )
        return opened
    raise _no_scheme(url)
