"""The one place where the errors of `sqlite3` and of the file system become softstate's."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softstate.errors import StoreRefused, Unavailable

_TEMPORARY = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, errno.EAGAIN}
)
"""Reasons not to get a file that may go away by themselves."""

_CONNECTION_SURVIVES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
"""Errors after which a connection is as good as before. After any other the next call makes a new one."""

CANNOT_WRITE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""Reasons why a commit fails, although the file may still be read."""

_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process has held its lock for too long: find out which (fuser)",
    sqlite3.SQLITE_FULL: "the disk is full: make room",
    sqlite3.SQLITE_IOERR: "the disk failed: look at the system log",
    sqlite3.SQLITE_READONLY: "it has become read-only, or its directory has: remount or change permissions",
    sqlite3.SQLITE_CANTOPEN: "a file beside it cannot be opened: look at file limits and permissions",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop every node, and restore a backup",
    sqlite3.SQLITE_NOTADB: "it is damaged: stop every node, and restore a backup",
    sqlite3.SQLITE_CONSTRAINT: "it is damaged: stop every node, and restore a backup",
    sqlite3.SQLITE_MISMATCH: "it is damaged: stop every node, and restore a backup",
    sqlite3.SQLITE_TOOBIG: "it is damaged: stop every node, and restore a backup",
    sqlite3.SQLITE_ERROR: "it is damaged, or another program changed its tables: stop every node, restore a backup",
}


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for the few errors that the Python module makes itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def advised(path: str, error: sqlite3.Error) -> str:
    """Return what an error says of a file, and what to do."""
    return f"{path}: {error}: {_ADVICE.get(code_of(error), 'unexpected: please report this')}"


def connection_survives(error: Unavailable) -> bool:
    """Tell whether a connection can still be used after an error that `translated` has raised."""
    cause = error.__cause__
    return not isinstance(cause, sqlite3.Error) or code_of(cause) in _CONNECTION_SURVIVES


class Damaged(Exception):
    """The file holds something that no release of ours wrote there; says what. Becomes an error of ours here."""


NOT_OF_SQL = (Damaged, OverflowError, UnicodeDecodeError, MemoryError, sqlite3.InterfaceError)
"""Other errors that a damaged file makes code raise: of a number, a text or a size that cannot be."""


@contextmanager
def translated(path: str, *, opening: bool = False) -> Iterator[None]:
    """Turn SQLite's errors into `Unavailable`, or, if `opening`, into `StoreRefused` where a retry cannot help."""
    try:
        yield
    except sqlite3.ProgrammingError:
        # A mistake of this code, never of the file.
        raise
    except sqlite3.DatabaseError as error:
        code = code_of(error)
        if opening and code == sqlite3.SQLITE_NOTADB:
            raise StoreRefused(
                f"{path} is not an SQLite database, and was left untouched: name another file, or restore a backup"
            ) from error
        if opening and code == sqlite3.SQLITE_READONLY:
            raise StoreRefused(
                f"{path} or its directory may not be written to: change permissions, or name another file"
            ) from error
        if opening and code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
            raise _damaged(path, str(error), StoreRefused) from error
        raise Unavailable(advised(path, error)) from error
    except NOT_OF_SQL as error:
        raise _damaged(path, str(error) or type(error).__name__, StoreRefused if opening else Unavailable) from error


def _damaged(path: str, what: str, kind: type[StoreRefused | Unavailable]) -> StoreRefused | Unavailable:
    move = "move it away, and " if kind is StoreRefused else "and "
    return kind(f"{path}: {what}: it is damaged: stop every node, {move}restore a backup")


def not_made(error: OSError, path: str) -> StoreRefused | Unavailable:
    """Return the error to raise when the system did not make a file."""
    return _without_file(path, error.strerror or str(error), temporary=error.errno in _TEMPORARY)


def not_opened(
    error: sqlite3.OperationalError, path: str, *, opening: bool, read_only: bool
) -> StoreRefused | Unavailable:
    """Find out why SQLite could not open a file, which its own error does not say; return the error to raise."""
    file = Path(path)
    why, temporary = str(error), False
    try:
        if file.is_dir():
            why = "it is a directory"
        elif file.exists():
            temporary = os.access(file, os.R_OK if read_only else os.R_OK | os.W_OK)
            may_not = "read" if read_only else "read and written"
            why = why if temporary else f"it may not be {may_not} by this user"
        else:
            temporary = True
    except OSError as found:
        why, temporary = found.strerror or str(found), found.errno in _TEMPORARY
    return _without_file(path, why, temporary=temporary or not opening)


def _without_file(path: str, why: str, *, temporary: bool) -> StoreRefused | Unavailable:
    if temporary:
        return Unavailable(f"cannot open {path}: {why}")
    return StoreRefused(f"cannot open {path}: {why}; name a file in a directory that can be written to")
