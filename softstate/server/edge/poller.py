"""The operating system's part of the pump: which of many sockets can be read or written (epoll, of Linux).

All that is special to one system stands here, so that kqueue can stand beside it.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import final

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR
"""Told of each socket, also of one of which nothing is asked: its connection is over in both directions, or lost."""

_HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""Events of a socket whose peer has closed it, or its half; outside of Linux only of one that is closed whole."""


def hung_up(descriptor: int) -> bool:
    """Tell whether the peer of a socket will send nothing any more: it has closed it, or its half, or was lost.

    Nothing is read.
    """
    poll = select.poll()
    poll.register(descriptor, _HUNG_UP)
    return bool(poll.poll(0))


_TCP_INFO_BYTES = 56
_LAST_DATA_RECEIVED = slice(52, 56)
"""``tcpi_last_data_recv`` of Linux's ``struct tcp_info``: milliseconds since bytes came last, or it was connected."""


def waited_s(opened: socket.socket) -> float:
    """Return for how long what a new connection has sent has waited in the system, in seconds; 0 if it cannot tell.

    For a client that says nothing, it is the time since it connected. Costs a system call.
    """
    try:
        info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except (OSError, AttributeError):
        return 0.0
    return int.from_bytes(info[_LAST_DATA_RECEIVED], sys.byteorder) / 1000


@final
class Poller:
    """An epoll of its own, which a task of Trio can wait for as for one socket: `fileno`.

    It tells of a socket for as long as there is something (level-triggered), and goes round: of more sockets than fit
    into one `poll`, the others come first in the next.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to poll."""
        return self._epoll.fileno()

    def add(self, fd: int, wanted: int) -> None:
        """Begin to tell of a socket: of `READ` or `WRITE`, and always of `GONE`."""
        self._epoll.register(fd, wanted)

    def change(self, fd: int, wanted: int) -> None:
        """Tell of something else from now on."""
        self._epoll.modify(fd, wanted)

    def remove(self, fd: int) -> None:
        """Tell nothing more of a socket, which must be open."""
        self._epoll.unregister(fd)

    def ring(self) -> None:
        """Make the poller readable once."""
        os.eventfd_write(self._bell, 1)

    def poll(self, events_max: int) -> list[tuple[int, int]]:
        """Return descriptors, and what can be done with each, without waiting."""
        events = self._epoll.poll(0, events_max)
        for at, (fd, _) in enumerate(events):
            if fd == self._bell:
                os.eventfd_read(self._bell)
                del events[at]
                break
        return events

    def close(self) -> None:
        """Close it. Sockets that were added stay open."""
        self._epoll.close()
        os.close(self._bell)
