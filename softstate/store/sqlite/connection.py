"""The SQLite file on disk: its two connections, its locks, and whether another file has taken its place.

Never open the database file with anything but SQLite in this process: closing such a descriptor drops SQLite's locks
(POSIX advisory locks belong to the process, https://sqlite.org/howtocorrupt.html section 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from softstate.errors import StoreRefused, StoreReplaced, Unavailable
from softstate.store.sqlite.errors import code_of, connection_survives, not_opened, translated

BUSY_S = 5.0
"""How long a statement waits for another process's lock before the store is `Unavailable`."""

LOCK_PAUSE_S = 0.001
"""How often a writer retries while another process holds the lock, in seconds.

SQLite's own waiting retries less and less often, every 100 ms in the end, so the longest waiter comes last. Measured
with four processes that commit 4 changes each without pause: longest commit 40 ms, 830 with SQLite's own waiting."""

Identity: TypeAlias = tuple[int, int]
"""Device and inode that a path refers to now."""

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of last change of the file and of its log; None for one that is missing."""


def identity_of(path: str) -> Identity | None:
    """Return the identity of the file at `path`, None if there is none. Raises `Unavailable` if that is not known."""
    try:
        found = os.stat(path)  # noqa: PTH116 (called before every commit; Path costs twice as much)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(f"cannot examine {path}: {error.strerror}") from error
    return found.st_dev, found.st_ino


class SqliteFile:
    """One database file with two connections, `writer` and `reader`, each for one thread at a time.

    If `read_only`, the file must exist, and nothing in it is changed: the writer fails.
    """

    def __init__(self, path: str, busy_s: float = BUSY_S, *, read_only: bool = False) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 (a Path would make "./a" and "a/" look alike)
        self.read_only = read_only
        self._busy_s = busy_s
        self._opened: Identity | None = None
        self._wal_path = ""
        self._wal: Identity | None = None
        self._connections: dict[str, sqlite3.Connection] = {}

    @contextmanager
    def opening(self) -> Iterator[sqlite3.Connection]:
        """Close the open connections, and yield a writer for the file at the path now, created if need be.

        When the body succeeds, that is "the file" from then on. Raises `StoreRefused`, `Unavailable`.
        """
        self._set_log_aside()
        self._close_connections()
        with translated(self.path, opening=True):
            if identity_of(self.path) is None:
                if self.read_only:
                    raise StoreRefused(f"there is no file {self.path}: name one that is there")
                self._connect(opening=True).close()
            found = identity_of(self.path)
            writer = self._connections["writer"] = self._connect(opening=True)
            self._check_still(found)
            yield writer
        self._opened = found
        self._wal_path = os.path.realpath(self.path) + "-wal"
        self._wal = identity_of(self._wal_path)

    def connection(self, role: str) -> sqlite3.Connection:
        """Return the connection for "writer" or "reader", replaced if the last one broke. Raises `StoreReplaced`."""
        connection = self._connections.get(role)
        if connection is None:
            self.check_in_place()
            connection = self._connect(opening=False)
            self.check_in_place()
            self._connections[role] = connection
            if role == "reader":
                connection.execute("PRAGMA query_only = ON")
        return connection

    def stamp(self) -> Stamp:
        """Return a stamp that changes with every commit or swap of the file: inode, size and time of it and its log.

        It takes neither lock nor thread, about 5 µs. Two commits within one tick of the file system's clock may look
        alike, if the second overwrites the log from its beginning.
        """
        found: list[tuple[int, int, int] | None] = []
        for path in (self.path, self._wal_path):
            try:
                stat = os.stat(path)  # noqa: PTH116 (called fifty times a second)
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def check_in_place(self) -> None:
        """Raise `StoreReplaced` if the path no longer refers to the file that is open."""
        self._check_still(self._opened)

    def _check_still(self, expected: Identity | None) -> None:
        found = identity_of(self.path)
        if found != expected:
            what = "is gone" if found is None else "was replaced by another file"
            raise StoreReplaced(f"{self.path} {what} while it was open; nothing is committed until it is reopened")

    @contextmanager
    def transaction(self, role: str, begin: str) -> Iterator[sqlite3.Connection]:
        """Run a transaction on a connection; it is rolled back unless the body commits.

        Turns SQLite's errors into `Unavailable`, or `StoreReplaced` where that is the cause.
        """
        with self.faults(role):
            connection = self.connection(role)
            if role == "writer":
                self._begin_to_write(connection, begin)
            else:
                connection.execute(begin)
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _begin_to_write(self, connection: sqlite3.Connection, begin: str) -> None:
        connection.execute("PRAGMA busy_timeout = 0")  # with the lock, as `begin` takes it, nothing waits
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                connection.execute(begin)
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(LOCK_PAUSE_S)
            else:
                return

    @contextmanager
    def faults(self, role: str) -> Iterator[None]:
        """Turn SQLite's errors into ours, and drop a connection that may be broken."""
        try:
            with translated(self.path):
                yield
        except Unavailable as error:
            if not connection_survives(error):
                self._drop(role)
            self.check_in_place()
            raise

    def size_bytes(self) -> int:
        """Return the size of the file and its log."""
        size = 0
        for path in (self.path, self._wal_path):
            with suppress(FileNotFoundError):
                size += Path(path).stat().st_size
        return size

    def remove(self) -> None:
        """Delete the file, which was closed, and all that SQLite keeps beside it.

        Raises `StoreReplaced` if it is another one by now, `Unavailable` if the system refuses.
        """
        self.check_in_place()
        try:
            for ending in ("", "-wal", "-shm", "-journal"):
                Path(self.path + ending).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot delete {error.filename}: {error.strerror}") from error

    def close(self) -> None:
        """Close both connections."""
        if identity_of(self.path) is not None:
            self._set_log_aside()
        self._close_connections()

    def _close_connections(self) -> None:
        for role in tuple(self._connections):
            self._drop(role)

    def _drop(self, role: str) -> None:
        connection = self._connections.pop(role, None)
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _set_log_aside(self) -> None:
        """Rename the log of a file that was swapped away, or SQLite would replay it into the file that took its place.

        It is ours only if it still is the inode that this process opened beside the old file. It is renamed rather
        than deleted, for it may hold the last commits of the old file.
        """
        if self._opened is None or self.read_only or identity_of(self.path) == self._opened:
            return
        if self._wal is not None and identity_of(self._wal_path) == self._wal:
            log = Path(self._wal_path)
            with suppress(FileNotFoundError):
                log.rename(f"{log}.of-replaced-file-{self._opened[1]}")
            log.with_name(log.name.removesuffix("-wal") + "-shm").unlink(missing_ok=True)

    def _connect(self, *, opening: bool) -> sqlite3.Connection:
        # A reader opens to write too where that is allowed: else SQLite leaves the log of an unused file behind.
        mode = "rwc" if not self.read_only else "rw" if os.access(self.path, os.W_OK) else "ro"
        uri = f"file:{quote(os.fsencode(self.path))}?mode={mode}"
        try:
            connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_s, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise not_opened(error, self.path, opening=opening, read_only=self.read_only) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")
            if self.read_only:
                connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection
