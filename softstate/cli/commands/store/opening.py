"""Which store a command is about, and opening it."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import trio
from cyclopts import Parameter

from softstate.cli.options.store_urls import check_file_of, check_ordinary, status_of
from softstate.errors import ConfigError
from softstate.store import Store, open_store

DEFAULT_STORE = "sqlite:softstate.db"
"""As for ``softstate serve``."""

PARTIAL = f".{'0' * 16}.partial-journal"
"""Longest ending of the files that are made beside a new one until it is complete."""

StoreUrl: TypeAlias = Annotated[
    str,
    Parameter(name="--store", env_var="SOFTSTATE_STORE", metavar="URL", help="The store, as for `softstate serve`."),
]


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Store]:
    """Open a store, which must exist, and leave it as it is. Raises `ConfigError`, and as opening does."""
    _check_lasting(url)
    async with _closing(await open_store(url, create=False, read_only=True)) as store:
        yield store


@asynccontextmanager
async def writing(url: str, *, create: bool = False, backup: bool = True) -> AsyncIterator[Store]:
    """Open a store; `create` one that is not there. Raises `ConfigError`, and what opening the engine raises."""
    _check_lasting(url)
    async with _closing(await open_store(url, create=create, backup=backup)) as store:
        yield store


def _check_lasting(url: str) -> None:
    if url.startswith("memory:"):
        raise ConfigError("store: memory: is the memory of one process, and cannot be reached from another")
    check_file_of(url)


@asynccontextmanager
async def _closing(store: Store) -> AsyncIterator[Store]:
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


def check_new_file(file: Path, *, force: bool) -> None:
    """Raise `ConfigError` unless a file may be written to this path."""
    found, folder = status_of(file), status_of(file.parent)
    if found is not None:
        check_ordinary(file, found)
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        raise ConfigError(f"there is no directory {file.parent}: make it, or name another")
    if status_of(f"{file}-wal") is not None:
        raise ConfigError(f"{file} is a store in use (there is {file.name}-wal beside it): name another file")
    status_of(f"{file}{PARTIAL}")  # for its error: such a name may be too long
    if found is not None and not force:
        raise ConfigError(f"{file} exists: name another file, or overwrite it with --force")
