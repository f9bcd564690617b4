"""Accepting, in the pump's turn: for a bounded time, and quietly while the system refuses."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import final

import structlog
import trio

from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.edge.poller import READ, Poller, waited_s
from softstate.server.spell import Spell

ACCEPT_S_MAX = 0.002
"""Time that one turn accepts for, at most, in seconds: 30 connections. A turn that accepted all that wait would make
the hellos of those already accepted wait behind thousands, many of whom have gone: at 2.5 times the capacity, goodput
fell from 2,400 a second to 28 (measured with a prototype)."""

ACCEPT_RETRY_S = 0.1
"""Pause after the system has refused to accept a connection, in seconds: it still waits in the queue."""

ACCEPT_QUIET_S = 1.0
"""A spell of such refusals is over once there was none for this many seconds."""

UNSENT_BYTES_MAX = 16 * 1024
"""A socket takes no more while it holds so many bytes that were not sent, as Trio sets it for its own sockets: what
waits here can still be replaced by something newer."""

log = structlog.get_logger("softstate.listeners")


class Listening:
    """A listening socket. `accept` returns a new connection, as a descriptor that does not block, and its address.

    It raises `BlockingIOError` if none waits, and other errors as the system call does.
    """

    __slots__ = ("_socket", "fd")

    def __init__(self, listener: trio.socket.SocketType) -> None:
        self._socket = socket.socket(fileno=os.dup(listener.fileno()))
        self.fd = self._socket.fileno()
        # Of the listener, since each connection inherits it: two system calls saved for each.
        with suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError, AttributeError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)

    def accept(self) -> tuple[int, str]:
        """Accept one connection."""
        opened, address = self._socket.accept()
        opened.setblocking(False)
        name = _name_of_user(opened) if opened.family == socket.AF_UNIX else f"{address[0]}:{address[1]}"
        return opened.detach(), name

    def waited_s(self, fd: int) -> float:
        """Return for how long a connection's request has waited in the system, in seconds."""
        listening = self._socket
        opened = socket.socket(listening.family, listening.type, listening.proto, fileno=fd)
        try:
            return waited_s(opened)
        finally:
            opened.detach()

    def close(self) -> None:
        """Leave the socket to its owner alone."""
        self._socket.close()


@final
class Acceptor:
    """Accepts what comes to the sockets that listen.

    `begin` gets each connection, the address of its other end, and for how long it has waited, in seconds: that is
    asked for only while more wait than can be accepted, and of those that come first after a pause.

    The first refusal of a spell of the system's refusals is logged, and its end: it refuses while there are no file
    descriptors or no memory for it. Neither that nor a bug ends accepting, but it pauses; `later` calls again after
    some seconds. None is accepted while the node is `full`: they wait in the system's queue, which has an end. `clock`
    is a clock of seconds that runs during a turn.
    """

    def __init__(
        self,
        poller: Poller,
        bulkhead: Bulkhead,
        begin: Callable[[int, str, float], None],
        later: Callable[[float, Callable[[], None]], None],
        full: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._poller = poller
        self._bulkhead = bulkhead
        self._begin = begin
        self._later = later
        self._full = full
        self._clock = clock
        self._listening: dict[int, Listening] = {}
        self._paused = False
        self._left: list[Listening] = []
        """Those whose connections the last turn has left waiting."""
        self._behind = False
        """Whether some were left waiting: by the last turn, or since none was accepted for a while."""
        self.held = False
        """Whether none is accepted since the node is full."""
        self._spell = Spell(
            lambda because: log.error("no connection can be accepted", because=because),
            lambda refusals: log.info("connections are accepted again", refusals=refusals),
            quiet_s=ACCEPT_QUIET_S,
        )

    def add(self, listening: Listening) -> None:
        """Accept on this socket, too."""
        self._listening[listening.fd] = listening
        self._poller.add(listening.fd, 0)
        self._set_waiting()

    def end(self) -> None:
        """Accept no more. The sockets stay open."""
        for listening in self._listening.values():
            self._poller.remove(listening.fd)
            listening.close()
        self._listening.clear()
        self._left = []

    def _set_waiting(self) -> None:
        for fd in self._listening:
            self._poller.change(fd, 0 if self._paused or self.held else READ)

    def _pause(self, pause_s: float) -> None:
        self._paused = self._behind = True
        self._set_waiting()
        self._later(pause_s, self._resume)

    def _resume(self) -> None:
        self._paused = False
        self._set_waiting()

    def look(self) -> None:
        """Accept no more if the node is full, and again once it is not."""
        if self._full() is not self.held:
            self.held = not self.held
            self._behind = True
            self._set_waiting()

    def accept(self, ready: Iterable[int], *, idle: bool = True) -> None:
        """Accept for `ACCEPT_S_MAX` at most on those of these descriptors that are listening sockets.

        In a turn that is `idle` besides, which leaves no more to be read than the next one can, also where the last one
        has left some: with more sockets ready than a turn is told of, the system tells of each in some turns only. In a
        herd, that left most of the time for accepting unused. In a turn that is not idle, those who are here come
        first: to accept in each took the goodput at 4 times the capacity from 0.89 of the peak to 0.18
        (`bench overload`).
        """
        waiting: list[Listening] = []
        if idle:
            waiting, self._left = self._left, []
        waiting += [each for fd in ready if (each := self._listening.get(fd)) is not None and each not in waiting]
        if not waiting:
            return
        with self._bulkhead.contain("accept", partial(self._pause, RETRY_S)):
            until = self._clock() + ACCEPT_S_MAX
            # One of each in turn, so that none is left out.
            while waiting and not (self._paused or self._full()) and self._clock() < until:
                waiting = [listening for listening in waiting if self._accept_one(listening)]
            self._behind = self._paused or bool(waiting)
            if not (self._paused or self.held):
                self._left += [each for each in waiting if each not in self._left]

    def _accept_one(self, listening: Listening) -> bool:
        """Accept one connection; return False if none waits, or none can be accepted."""
        try:
            fd, address = listening.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            self._spell.failed(_why(error))
            self._pause(ACCEPT_RETRY_S)
            return False
        if self._spell.on:
            self._spell.succeeded()
        age_s = listening.waited_s(fd) if self._behind else 0.0
        self._bulkhead.each("connection", self._begin, (fd,), (address,), (age_s,))
        return True


_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of Linux: process, user, group."""


def _name_of_user(opened: socket.socket) -> str:
    """Return who has connected to a Unix socket, in the form of an address: the user as host, the process as port."""
    try:
        data = opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except (OSError, AttributeError):
        return "unix:"
    process, user, group = _CREDENTIALS.unpack(data)
    log.debug("connected on the Unix socket", process=process, user=user, group=group)
    return f"unix-uid={user}:{process}"


def _why(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}: raise the limit (ulimit -n, LimitNOFILE), or lower connections_max"
    return error.strerror or str(error)
