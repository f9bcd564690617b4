"""Making an SQLite store unusable for a while, from outside and harmlessly: by holding all its locks.

In WAL mode every reader and writer takes locks on bytes of the ``-shm`` file (https://sqlite.org/walformat.html,
section 2.3). While one process holds all of them, no other can read, write, checkpoint or recover. They are advisory
locks of this process: they end with it in any case. An exclusive transaction would not do: readers go on beside it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

LOCK_BYTES = range(120, 128)
"""WAL_WRITE, WAL_CKPT, WAL_RECOVER and the five WAL_READ locks."""

TRY_EVERY_S = 0.001


@asynccontextmanager
async def locked(database: Path) -> AsyncIterator[None]:
    """Hold every lock of an SQLite database in WAL mode that some process has open. Raises OSError if it has no index.

    This process must not have the database open itself: closing any descriptor of a file drops its POSIX locks.
    """
    index = os.open(f"{database}-shm", os.O_RDWR)
    try:
        for byte in LOCK_BYTES:
            await _lock(index, byte)
        yield
    finally:
        os.close(index)


async def _lock(index: int, byte: int) -> None:
    while True:
        try:
            fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # held by a transaction, which is short
            await trio.sleep(TRY_EVERY_S)
        else:
            return
