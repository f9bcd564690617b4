"""Copies of an SQLite file: one file each, which appears under its name only when it is complete."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from softstate.errors import Unavailable
from softstate.store.sqlite.place import BESIDE, make_private


def copy_file(path: str, partial: str) -> None:
    """Copy the newest commit of a file to `partial`, where there is none. Raises `Unavailable`, and leaves none then.

    A process that is killed meanwhile leaves it incomplete: `put_in_place` gives it the name to be found by.
    """
    try:
        if not make_private(partial):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), partial)
        with (
            closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy)
    except (OSError, sqlite3.Error) as error:
        if not isinstance(error, FileExistsError):
            discard(partial)
        raise Unavailable(f"cannot copy {path} to {partial}: {error}") from error


def put_in_place(partial: str, path: str) -> None:
    """Rename a complete file that is closed to `path`. Raises `Unavailable`."""
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            # Without a write-ahead log it is one file, which can be read where nothing can be written.
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            if mode != "delete":
                raise Unavailable(f"cannot put {path} in place: {partial} keeps its write-ahead log")
        os.replace(partial, path)  # noqa: PTH105 (paths are text here)
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)  # noqa: PTH100, PTH120
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"cannot put {path} in place: {error}") from error


def discard(partial: str) -> None:
    """Delete a file that was not completed, as far as the system lets it, with what SQLite has left beside it.

    SQLite leaves that where the disk failed. Raises nothing: the error that led here is the one to tell.
    """
    for ending in ("", *BESIDE):
        with suppress(OSError):
            Path(partial + ending).unlink(missing_ok=True)
