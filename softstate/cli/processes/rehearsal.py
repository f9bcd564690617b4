"""``softstate serve --check``: open what `serve` would open, and leave everything as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import trio

from softstate.addresses import unix_path
from softstate.cli.options.store_urls import check_ordinary, path_of, status_of
from softstate.errors import ConfigError, StoreMissing
from softstate.server.config import ServerConfig
from softstate.server.descriptors import connections_within, raise_limit
from softstate.server.listeners import bind, close
from softstate.store import open_store


async def rehearse(config: ServerConfig, *, shared: bool) -> None:
    """Bind the address that a node would listen on, look at the file of its store, and let go of both.

    A file is neither made nor changed; a server is not asked. Raises `ConfigError`, `StoreRefused` or `Unavailable`
    as the node would.
    """
    connections_within(config, raise_limit())
    socket = unix_path(config.host)
    left = socket is not None and await trio.Path(socket).is_socket()
    close(await bind(config.host, config.port, shared=shared))
    if socket is not None and not left:
        await trio.Path(socket).unlink()
    path = path_of(config.store)
    if config.require_store and (path is None or status_of(path) is None):
        await _must_be_there(config.store)
    if path is not None and _may_be_used(path):
        await _look_at(path, config)


async def _look_at(path: Path, config: ServerConfig) -> None:
    from softstate.store.sqlite.schema import EarlierLayout  # noqa: PLC0415 - sqlite3 only where it is used
    from softstate.store.sqlite.store import SqliteStore  # noqa: PLC0415

    try:
        store = await SqliteStore.open(str(path), read_only=True)
    except EarlierLayout:
        return  # a node carries it over
    except StoreMissing:
        # An empty file is made a store, unless there must be one.
        if config.require_store:
            raise
        return
    with trio.CancelScope(shield=True):
        await store.aclose()


async def _must_be_there(url: str) -> None:
    if url == "memory:" or path_of(url) is not None:
        await open_store(url, create=False)


def _may_be_used(path: Path) -> bool:
    """Tell whether there is a file to open. Raises `ConfigError` unless it, or a new one, may be written."""
    found = status_of(path)
    if found is None:
        folder = path.parent
        above = status_of(folder)
        if above is None or not stat.S_ISDIR(above.st_mode):
            raise ConfigError(f"store: there is no directory {folder} to make {path.name} in: make it, or name another")
        _check_access(folder, os.W_OK | os.X_OK, "used to make files")
        return False
    check_ordinary(path, found)
    _check_access(path, os.R_OK | os.W_OK, "read and written")
    return True


def _check_access(path: Path, mode: int, how: str) -> None:
    if not os.access(path, mode):
        raise ConfigError(f"store: {path} may not be {how} by this user: change its permissions, or name another")
