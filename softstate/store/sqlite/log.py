"""The write-ahead log beside an SQLite file: whether it is still there, how large it is, and keeping it small."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from softstate.errors import StoreReplaced, Unavailable
from softstate.store.sqlite.errors import code_of
from softstate.store.sqlite.place import MAKING, Identity, identity_of

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
        return _size(self.path)

    @property
    def complete(self) -> bool:
        """Whether the log and the shared memory are at their paths."""
        path = os.path.realpath(self._file)
        return all(identity_of(path + ending) is not None for ending in ("-wal", "-shm"))

    def opened(self) -> None:
        """Note which files SQLite uses, now that a connection is open and has read.

        Raises `StoreReplaced` if they are gone already.
        """
        self.path = os.path.realpath(self._file) + "-wal"  # SQLite follows links
        self._log, self._memory = identity_of(self.path), identity_of(self._memory_path)
        self._open = self._log is not None and self._memory is not None
        if not self._open:
            raise _displaced(self.path if self._log is None else self._memory_path)

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
                    raise _displaced(path)

    def rescue(self, connection: sqlite3.Connection, busy_s: float) -> None:
        """Fold the log into the file if it or the shared memory was removed or replaced: only who has them open can.

        All of it, or the log that is begun in its place would lack commits that were acknowledged. That takes the lock
        for writing, so the other processes that have the same files open commit nothing to them afterwards: each looks
        at the paths once it has the lock. They find an index without entries, and do not fold again. The log itself is
        not cut off: it may be in its place, and in use by a process that was faster.

        Waits `busy_s` for each lock. Raises `Unavailable` unless all was folded; the connection can still be used.
        """
        try:
            self.check_in_place()
        except StoreReplaced as why:
            displaced = why
        else:
            return
        log_displaced = identity_of(self.path) != self._log
        if not log_displaced and _size(self._memory_path):
            return  # another process has made an index of the same log: what this one tells of it may be outdated
        (patience_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
        try:
            connection.execute(f"PRAGMA busy_timeout = {round(busy_s * 1000)}")
            # It reports a failure as a row.
            busy, _frames, _folded = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.Error as error:
            raise self._not_folded(displaced, str(error)) from error
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
        if busy:
            raise self._not_folded(displaced, "another process reads or writes the store")
        if log_displaced and identity_of(self._memory_path) == self._memory:
            # Else it would be the index of two logs.
            with suppress(OSError):
                Path(self._memory_path).unlink(missing_ok=True)

    def _not_folded(self, displaced: StoreReplaced, why: str) -> Unavailable:
        return Unavailable(
            f"{displaced}, and its commits could not be brought into {self._file}: {why}: end programs that keep a"
            f" transaction open (fuser {self._file}), and keep this process running until then: it holds the last"
            " commits"
        )

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


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (asked for with every look at the metrics)
    except OSError:
        return 0


def in_use(path: str) -> bool:
    """Tell whether another connection has a file with a write-ahead log open; False if it cannot be known.

    A connection in exclusive mode takes the lock of such a file for itself alone with its first read, and fails if
    another has the file open (https://sqlite.org/pragma.html#pragma_locking_mode). A file without a log is only read.
    """
    if not os.access(path, os.W_OK):
        return False
    try:
        with (
            MAKING,
            closing(
                sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=rw", uri=True, timeout=0, isolation_level=None)
            ) as connection,
        ):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        return code_of(error) == sqlite3.SQLITE_BUSY
    return False


def _displaced(path: str) -> StoreReplaced:
    return StoreReplaced(f"{path} was removed or replaced while it was open; nothing is committed until it is reopened")
