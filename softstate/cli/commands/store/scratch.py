"""A scratch store beside a store: created for a check, and deleted after it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import trio

from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.options.store_urls import path_of, shown
from softstate.errors import ConfigError, SoftstateError
from softstate.store import Store, open_store
from softstate.store.base import KEYS_MAX
from softstate.store.memory.store import MemoryDisk, MemoryImage, MemoryStore
from softstate.store.rules.nonce import lineage_nonce
from softstate.testing import Backend

CLEAN_S = 10.0
"""Longest time to delete a scratch store, even after Ctrl-C."""

NAMESPACE_OPTIONS = {"postgresql": "schema", "postgres": "schema"}
"""URL option that keeps several stores in one server apart, where it is not ``namespace``."""


@dataclass
class MemoryBackend:
    """Implements `softstate.testing.Backend` in this process."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        """Open a store on it."""
        return MemoryStore(self.disk, keys_max=keys_max)

    async def snapshot(self) -> MemoryImage:
        """Take a backup."""
        return self.disk.snapshot()

    async def restore(self, snapshot: MemoryImage) -> None:
        """Restore a backup."""
        self.disk.restore(snapshot)


@dataclass
class UrlBackend:
    """Implements `softstate.testing.Backend` with a URL of its own."""

    url: str
    used: bool = False

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        """Open a store on it."""
        store = await open_store(self.url, keys_max=keys_max)
        self.used = True
        return store

    async def open_to_read(self) -> Store:
        """Open a store on it that changes nothing."""
        return await open_store(self.url, read_only=True)


@dataclass
class FileBackend(UrlBackend):
    """A store in an SQLite file, with that engine's own means to restore a backup."""

    async def snapshot(self) -> sqlite3.Connection:
        """Take a backup."""
        backup = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self._path)) as file:
            file.backup(backup)
        return backup

    async def restore(self, snapshot: sqlite3.Connection) -> None:
        """Restore a backup."""
        with closing(sqlite3.connect(self._path)) as file:
            snapshot.backup(file)

    @property
    def _path(self) -> str:
        return self.url.removeprefix("sqlite:")


@asynccontextmanager
async def scratch(url: str) -> AsyncIterator[Backend]:
    """Make a scratch store beside a store, and delete it at the end of the block, also after Ctrl-C.

    For a file in a directory of its own beside it, for a server in a namespace of its own. The store itself is not
    touched. Raises `Failure` if it cannot be deleted, `ConfigError` if there is no place for it.
    """
    path = path_of(url)
    if url == "memory:":
        yield MemoryBackend()
    elif path is not None:
        try:
            folder = tempfile.mkdtemp(prefix=".softstate-check-", dir=path.parent)
        except OSError as error:
            raise ConfigError(f"store: cannot make a directory in {path.parent}: {error.strerror}") from None
        try:
            yield FileBackend(f"sqlite:{folder}/scratch.db")
        finally:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise _left_behind(folder, str(error)) from error
    elif not urlsplit(url).netloc:
        raise ConfigError(f"store {url!r} is neither sqlite:PATH nor memory: nor SCHEME://HOST")
    else:
        backend = UrlBackend(with_namespace(url, f"softstate_check_{lineage_nonce()}"))
        try:
            yield backend
        finally:
            if backend.used:
                await _destroy(backend)


def with_namespace(url: str, namespace: str) -> str:
    """Return the URL of another store of the same server."""
    parts = urlsplit(url)
    option = NAMESPACE_OPTIONS.get(parts.scheme, "namespace")
    options = [item for item in parse_qsl(parts.query, keep_blank_values=True) if item[0] != option]
    return urlunsplit(parts._replace(query=urlencode([*options, (option, namespace)])))


async def _destroy(backend: UrlBackend) -> None:
    name = f"{shown(backend.url)} ({urlsplit(backend.url).query.rpartition('&')[2]})"
    with trio.move_on_after(CLEAN_S) as scope:
        scope.shield = True
        try:
            await (await backend.open()).destroy()
        except SoftstateError as error:
            raise _left_behind(name, str(error)) from error
    if scope.cancelled_caught:
        raise _left_behind(name, f"it was not deleted within {CLEAN_S:g} s")


def _left_behind(name: str, because: str) -> Failure:
    return Failure(f"the scratch store {name} is left behind, delete it by hand: {because}", UNAVAILABLE)
