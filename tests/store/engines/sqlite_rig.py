"""The store in an SQLite file, treated as the other engines are: taken away, deleted, replaced by a backup."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from softstate.errors import StoreReplaced
from softstate.store.base import KEYS_MAX, Store, Write
from softstate.store.sqlite.store import SqliteStore
from softstate.wire import encode_value
from softstate.wire.value import VALUE_BYTES_MAX


class SqliteRig:
    """A file in a folder of its own. Implements `tests.store.engines.rig.Rig`, but for what takes a server to
    refuse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "sqlite"
        self.folder.mkdir()
        self._away = folder / "away"
        self._backups = 0

    @property
    def path(self) -> Path:
        return self.folder / "softstate.db"

    @property
    def url(self) -> str:
        return f"sqlite:{self.path}"

    async def open(self, *, keys_max: int = KEYS_MAX) -> Store:
        return await SqliteStore.open(str(self.path), keys_max=keys_max)

    async def start(self) -> None:
        """Put the folder back."""
        if self._away.exists():
            self._away.rename(self.folder)

    async def kill(self) -> None:
        """Take the folder away, as when a volume is lost."""
        self.folder.rename(self._away)

    def freeze(self) -> None:
        raise NotImplementedError("nothing runs that could be stopped")

    def thaw(self) -> None:
        raise NotImplementedError("nothing runs that could be stopped")

    async def backup(self) -> Path:
        """Copy it with SQLite's own means."""
        self._backups += 1
        copy = self.folder.parent / f"backup-{self._backups}.db"
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy

    async def restore(self, backup: Path) -> None:
        """Rename a copy of the backup over the file."""
        new = self.path.with_suffix(".new")
        shutil.copy(backup, new)
        new.rename(self.path)

    async def wipe(self) -> None:
        """Delete the file, and make an empty store: no node that was open makes one."""
        for file in self.folder.iterdir():
            file.unlink()
        while True:
            try:
                await (await self.open()).aclose()
            except StoreReplaced:
                # A node has closed its old file meanwhile: SQLite then removes the log by its path, which is ours now.
                continue
            return

    async def refuse_writes(self, *, on: bool) -> None:
        raise NotImplementedError("for a full disk see tests/processes/test_store_faults.py")

    async def publish_directly(self, topic: str, json: str | None) -> None:
        """Write as another process of this host would, which has a store of its own."""
        cbor = None if json is None else encode_value(msgspec.json.decode(json), VALUE_BYTES_MAX)
        store = await self.open()
        try:
            await store.publish([Write(topic, cbor)])
        finally:
            await store.aclose()

    async def aclose(self) -> None:
        """Leave the rest to pytest, whose folder this is in."""
