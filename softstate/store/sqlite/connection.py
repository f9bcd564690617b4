"""The SQLite file on disk: its connections, its locks, and whether it is still in its place."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from softstate.errors import StoreMissing, StoreRefused, StoreReplaced, Unavailable
from softstate.store.sqlite.errors import code_of, connection_survives, not_made, not_opened, translated
from softstate.store.sqlite.log import LOG_BYTES_MAX, WriteAheadLog, in_use
from softstate.store.sqlite.place import BESIDE, MAKING, Identity, check_still, gone, identity_of, make_private

BUSY_S = 5.0
"""How long a statement waits for another process's lock before the store is `Unavailable`."""

LOCK_PAUSE_S = 0.001
"""How often a writer retries while another process holds the lock, in seconds.

SQLite's own waiting retries less and less often, every 100 ms in the end, so the longest waiter comes last. Measured
with four processes that commit 4 changes each without pause: longest commit 40 ms, 830 with SQLite's own waiting."""


class SqliteFile:
    """One database file with connections, `writer`, `reader` and `watcher`, each for one thread at a time.

    The watcher is only asked whether there were commits, and waits for no lock.

    If `read_only`, nothing in it is changed: the writer fails. Only the first opening makes a file, if `create`.
    """

    def __init__(self, path: str, busy_s: float = BUSY_S, *, read_only: bool = False, create: bool = True) -> None:
        self.path = os.path.abspath(path)  # noqa: PTH100 (a Path would make "./a" and "a/" look alike)
        self.read_only = read_only
        self._create = create and not read_only
        self._busy_s = busy_s
        self._opened: Identity | None = None
        self.openings = 0
        """Times that the log was opened, which may be another file each time."""
        self.log = WriteAheadLog(self.path)
        self._connections: dict[str, sqlite3.Connection] = {}
        self._impatient: sqlite3.Connection | None = None
        """The writer's connection, once it is set to wait for no lock by itself."""

    @property
    def may_create(self) -> bool:
        """Whether what is missing may be made: at the first opening, if it was asked for."""
        return self._create and self._opened is None

    def prepare_to_close(self) -> None:
        """Make sure that no commit is lost with the connections, which stay open.

        Raises `Unavailable` if the file was open, and the path refers to none now, or if the log was removed, and its
        commits cannot be brought into the file.
        """
        if self._opened is None:
            return
        found = identity_of(self.path)
        if found is None:
            raise gone(self.path)
        if found == self._opened and self._connections:
            # Any connection can; the writer's is gone after an error.
            self.log.rescue(next(iter(self._connections.values())), self._busy_s)

    @contextmanager
    def opening(self) -> Iterator[sqlite3.Connection]:
        """Close the open connections, and yield a writer for the file at the path now, made if it may be.

        Call `prepare_to_close` before.

        When the body succeeds, that is "the file" from then on. Raises `StoreMissing`, `StoreRefused`, `Unavailable`.
        """
        rescued = bool(self._connections) and identity_of(self.path) == self._opened
        self._close_connections()
        with translated(self.path, opening=True):
            if self._opened is None and identity_of(self.path) is None:
                self._make()
            found = identity_of(self.path)
            if not rescued:
                self._check_log_not_lost()
            writer = self._connections["writer"] = self._connect(opening=True)
            check_still(self.path, found)
            if rescued:
                # Another store in this process may hold SQLite to the index of the log that was removed.
                writer.execute("PRAGMA schema_version").fetchone()
                self.log.opened()
            yield writer
        self._opened = found
        self.log.check_in_place()
        self._note_log()

    def connection(self, role: str) -> sqlite3.Connection:
        """Return the connection for "writer" or "reader", replaced if the last one broke. Raises `StoreReplaced`."""
        connection = self._connections.get(role)
        if connection is None:
            self.check_in_place()
            only = not self._connections
            if only:
                self._check_log_not_lost()
            connection = self._connect(opening=False)
            try:
                self.check_in_place()
            except (StoreReplaced, Unavailable):
                connection.close()
                raise
            self._connections[role] = connection
            if role != "writer":
                connection.execute("PRAGMA query_only = ON")
            if role == "watcher":
                connection.execute("PRAGMA busy_timeout = 0")
            if only:
                connection.execute("PRAGMA data_version").fetchone()  # reads, hence opens the log
                try:
                    self._note_log()
                except (StoreReplaced, Unavailable):
                    self._drop(role)
                    raise
        return connection

    def _note_log(self) -> None:
        if not self.read_only:
            self.log.opened()
        self.openings += 1

    def opened(self, role: str) -> sqlite3.Connection | None:
        """Return the connection for a role if there is one; None if the next call of `connection` makes it."""
        return self._connections.get(role)

    def check_in_place(self) -> None:
        """Raise `StoreReplaced` if another file is at the path or beside it, `Unavailable` if there is none."""
        check_still(self.path, self._opened)
        self.log.check_in_place()

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
        if connection is not self._impatient:
            connection.execute("PRAGMA busy_timeout = 0")  # with the lock, as `begin` takes it, nothing waits
            self._impatient = connection
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
        with suppress(FileNotFoundError):
            return Path(self.path).stat().st_size + self.log.size_bytes
        return self.log.size_bytes

    def remove(self) -> None:
        """Delete the file, which was closed, and all that SQLite keeps beside it.

        Raises `StoreReplaced` if it is another one by now, `Unavailable` if it is gone or the system refuses.
        """
        self.check_in_place()
        try:
            for ending in ("", *BESIDE):
                Path(self.path + ending).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot delete {error.filename}: {error.strerror}") from error

    def close(self) -> None:
        """Close all connections."""
        with suppress(Unavailable):  # another process has the log open, or it is lost
            self.prepare_to_close()
        self._close_connections()

    def _close_connections(self) -> None:
        found = identity_of(self.path)
        # A file that is gone may come back, and needs its log then.
        if self._opened is not None and found is not None and found != self._opened:
            self.log.set_aside(self._opened[1])
        for role in tuple(self._connections):
            self._drop(role)

    def _drop(self, role: str) -> None:
        connection = self._connections.pop(role, None)
        if connection is self._impatient:
            self._impatient = None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        if not self._connections:
            self.log.closed()

    def _make(self) -> None:
        """Make an empty file. Raises `StoreMissing` if none may be made, `StoreRefused`, `Unavailable`."""
        if self.read_only:
            raise StoreMissing(f"there is no file {self.path}: name one that is there")
        if not self.may_create:
            raise StoreMissing(
                f"there is no file {self.path}: mount its file system, or make an empty store with"
                f" softstate store create sqlite:{self.path}"
            )
        log = Path(os.path.realpath(self.path) + "-wal")
        if log.exists() and log.stat().st_size:
            # SQLite would delete it, with the last commits of the file that it belongs to.
            raise StoreRefused(
                f"there is no file {self.path}, but its write-ahead log {log} is there: put the file back, or move the"
                " log away to begin with an empty store"
            )
        try:
            make_private(os.path.realpath(self.path))
        except OSError as error:
            raise not_made(error, self.path) from error

    def _check_log_not_lost(self) -> None:
        """Raise `Unavailable` if another process has the file open, and with it a log that is not at its path.

        A log that is begun beside that one would lack its commits, and the file would be damaged when both are folded
        into it. `self` has no connection. Waits `busy_s`, for a process that opens or closes the file looks alike.
        """
        deadline = time.monotonic() + self._busy_s
        while not self.log.complete and in_use(self.path):
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"{self.log.path} or the -shm beside it was removed while another process has {self.path} open,"
                    f" which holds the last commits: stop that process in good order (fuser {self.path}), or wait for"
                    " it to reopen the file"
                )
            time.sleep(LOCK_PAUSE_S)

    def _connect(self, *, opening: bool) -> sqlite3.Connection:
        # A reader opens to write too where that is allowed: else SQLite leaves the log of an unused file behind.
        # SQLite never makes the file: it would be readable for all, and might take the place of one that is gone.
        mode = "ro" if self.read_only and not os.access(self.path, os.W_OK) else "rw"
        uri = f"file:{quote(os.fsencode(self.path))}?mode={mode}"
        try:
            with MAKING:
                connection = sqlite3.connect(
                    uri, uri=True, timeout=self._busy_s, isolation_level=None, check_same_thread=False
                )
        except sqlite3.OperationalError as error:
            raise not_opened(error, self.path, opening=opening, read_only=self.read_only) from error
        try:
            connection.text_factory = bytes  # damage may leave a text that is no UTF-8
            connection.execute("PRAGMA cell_size_check = ON")  # finds damage before it is followed
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
            if self.read_only:
                connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection
