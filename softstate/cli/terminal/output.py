"""Writing lines to stdout from a program that must go on meanwhile.

A reader that stops reading (a pager, a stopped process) must not stop this process's event loop, which has leases to
renew. So a line that the pipe may not take at once is written from a thread.
"""

from __future__ import annotations

import errno
import os
import select
import sys

import trio

from softstate.cli.terminal.streams import output_failed

PIPE_BYTES_SURE = select.PIPE_BUF
"""A pipe that is writable at all takes this much without blocking."""


LOOK_EVERY_S = 0.5
"""Time between two looks whether the reader has left."""


class LineWriter:
    """Writes whole lines to a file descriptor, each as soon as it is given. One task at a time."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdout.fileno() if fd is None else fd
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    async def write(self, line: str) -> None:
        """Write one line. If cancelled, part may be written.

        Raises `BrokenPipeError` when the reader has left, and `Failure` when it cannot be written.
        """
        data = line.encode("utf-8", "replace") + b"\n"
        if len(data) <= PIPE_BYTES_SURE and self._poll.poll(0):
            _write_all(self._fd, data)
            await trio.lowlevel.checkpoint()
        else:
            await trio.to_thread.run_sync(_write_all, self._fd, data, abandon_on_cancel=True)

    async def watch_reader(self) -> None:
        """Look every `LOOK_EVERY_S` whether there is a reader still, and raise `BrokenPipeError` when it has left.

        Without this only the next line would show it, which may not come for days. Only a pipe, a socket or a terminal
        has a reader that can leave; nothing is written.
        """
        gone = select.poll()
        gone.register(self._fd, 0)  # for POLLERR and POLLHUP, which are always told
        while not gone.poll(0):  # noqa: ASYNC110 - Trio can wait until something may be written, not for a reader to leave
            await trio.sleep(LOOK_EVERY_S)
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_failed(error) from None
