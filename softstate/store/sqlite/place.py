"""The path of an SQLite file: which file it refers to now, and making one that only its owner can read.

Nothing here goes through SQLite, and nothing keeps a descriptor of a database open: closing one drops SQLite's locks
(POSIX advisory locks belong to the process, https://sqlite.org/howtocorrupt.html section 2.2).
"""

from __future__ import annotations

import os
import threading
from typing import TypeAlias

from softstate.errors import StoreReplaced, Unavailable

PRIVATE = 0o600
"""The mode of every file of a store: what is published may be secret. SQLite gives its own files that of the store."""

BESIDE = ("-wal", "-shm", "-journal")
"""Endings of the files that SQLite keeps beside a database."""

Identity: TypeAlias = tuple[int, int]
"""Device and inode that a path refers to now."""

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of last change of some files; None for one that is missing."""

MAKING = threading.Lock()
"""Held while a file is made, and while SQLite opens one: what is made is open for a moment, see above."""


def identity_of(path: str) -> Identity | None:
    """Return the identity of the file at `path`, None if there is none. Raises `Unavailable` if that is not known."""
    try:
        found = os.stat(path)  # noqa: PTH116 (called before every commit; Path costs twice as much)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(f"cannot examine {path}: {error.strerror}") from error
    return found.st_dev, found.st_ino


def stamp_of(*paths: str) -> Stamp:
    """Return a stamp of the files at `paths`, which changes with what is written to them; about 2.5 µs each.

    Two writes within one tick of the file system's clock look alike if neither makes a file larger.
    """
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = os.stat(path)  # noqa: PTH116 (called fifty times a second where nothing tells of writes)
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def check_still(path: str, expected: Identity | None) -> None:
    """Raise `StoreReplaced` if another file than the expected one is at `path`, `Unavailable` if there is none.

    A file that is gone is no other store: it was moved, or its file system unmounted, and may come back with all that
    was published. To go on without it would fork the history.
    """
    found = identity_of(path)
    if found is None:
        raise gone(path)
    if found != expected:
        raise StoreReplaced(
            f"{path} was replaced by another file while it was open; nothing is committed until it is reopened"
        )


def gone(path: str) -> Unavailable:
    """Return the error of a store whose file is gone."""
    return Unavailable(
        f"{path} is gone: put it back, or mount its file system again, and this node goes on where it was; to begin"
        f" with an empty store instead: softstate store create sqlite:{path}"
    )


def make_private(path: str) -> bool:
    """Make an empty file that only its owner can read, under any umask; return False if there is one already.

    Raises `OSError`.
    """
    with MAKING:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            return False
        try:
            os.fchmod(descriptor, PRIVATE)
        finally:
            os.close(descriptor)
    return True
