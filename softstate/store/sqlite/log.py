"""The write-ahead log beside an SQLite file: whether it is still there, how large it is, and keeping it small."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from softstate.errors import StoreReplaced
from softstate.store.sqlite.place import Identity, identity_of

LOG_BYTES_MAX = 8 * 1024 * 1024
"""The size to which the log is cut when SQLite begins it again, in bytes: twice what it fills before it folds the log
into the file (1,000 pages). Without a limit a log stays as large as it was once: 137 MB were seen beside 0.7 MB."""

LOG_BYTES_WARN = 8 * LOG_BYTES_MAX
"""A log of this size that cannot be made smaller is warned of, in bytes."""


class WriteAheadLog:
    """The log and the shared memory beside the file at a path. SQLite makes them, and its last connection deletes them.

    `pinned_bytes` is the size of the log if the last try to make it smaller failed, else 0.
    """

    def __init__(self, path: str) -> None:
        self._file = path
        self._open = False
        self._log: Identity | None = None
        self._memory: Identity | None = None
        self.path = path + "-wal"
        self.pinned_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Size of the log, 0 if there is none."""
        try:
            return os.stat(self.path).st_size  # noqa: PTH116 (asked for with every look at the metrics)
        except OSError:
            return 0

    def opened(self) -> None:
        """Note which files SQLite uses, now that a connection is open and has read."""
        self.path = os.path.realpath(self._file) + "-wal"  # SQLite follows links
        self._log, self._memory = identity_of(self.path), identity_of(self._memory_path)
        self._open = True

    def closed(self) -> None:
        """Note that no connection is open: the files may go."""
        self._open = False

    @property
    def _memory_path(self) -> str:
        return self.path.removesuffix("-wal") + "-shm"

    def check_in_place(self) -> None:
        """Raise `StoreReplaced` if a file that SQLite has open is no longer the one at its path.

        Commits would go to a log that the next process does not find, or past the locks that it takes.
        """
        if self._open:
            for path, noted in ((self.path, self._log), (self._memory_path, self._memory)):
                if identity_of(path) != noted:
                    raise StoreReplaced(
                        f"{path} was removed or replaced while it was open; nothing is committed until it is reopened"
                    )

    def rescue(self, connection: sqlite3.Connection) -> None:
        """Fold the log into the file if it was removed from its path: only who has it open can."""
        if self._open and identity_of(self.path) != self._log:
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def set_aside(self, inode: int) -> None:
        """Rename the log of a file that was swapped away, or SQLite would replay it into what took its place.

        It is ours only if it still is the inode that this process opened beside the old file. It is renamed rather
        than deleted, for it may hold the last commits of the old file, which had this `inode`.
        """
        if self._log is not None and identity_of(self.path) == self._log:
            with suppress(FileNotFoundError):
                Path(self.path).rename(f"{self.path}.of-replaced-file-{inode}")
            Path(self._memory_path).unlink(missing_ok=True)

    def trim(self, connection: sqlite3.Connection) -> None:
        """Fold a log above `LOG_BYTES_MAX` into the file, and cut it off unless a reader still needs it.

        Waits for no lock: what cannot be done now is tried again. `connection` is the writer's, in no transaction.
        """
        size = self.size_bytes
        if size > LOG_BYTES_MAX:
            connection.execute("PRAGMA busy_timeout = 0")
            _busy, frames, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames == folded:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size = self.size_bytes
        self.pinned_bytes = size if size > LOG_BYTES_MAX else 0
