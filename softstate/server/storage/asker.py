"""The peer for which a read is made: whether it still waits for the answer, and when it is to poll again."""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import trio

_HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""Events of a socket whose peer has closed it, or its half; outside of Linux only of one that is closed whole."""


class Asker:
    """One connection, as the reads made for it see it.

    `hang_up` returns once its peer has ended it, and may be called while no other task receives from it. `expected`
    stands for the poll that the peer was told to make next (`softstate.session.load_advice.ExpectedPolls`).
    """

    __slots__ = ("_stream", "expected", "hang_up")

    def __init__(
        self, stream: trio.abc.Stream | None = None, hang_up: Callable[[], Awaitable[None]] = trio.sleep_forever
    ) -> None:
        self._stream = stream
        self.hang_up = hang_up
        self.expected = 0

    def gone(self) -> bool:
        """Tell whether the peer has closed the connection, or at least its half of it. Costs a system call."""
        return isinstance(self._stream, trio.SocketStream) and hung_up(self._stream.socket.fileno())


def hung_up(descriptor: int) -> bool:
    """Tell whether the peer of a socket will send nothing any more: it has closed it, or its half, or was lost.

    Nothing is read. False for a socket that is closed on this side.
    """
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, _HUNG_UP)
    return bool(poll.poll(0))


PATIENT = Asker()
"""Asks for the node itself, and in tests: it never goes away."""

ASKER: ContextVar[Asker] = ContextVar("asker", default=PATIENT)
"""The connection whose task this is. Set once for each connection, so that routes need not hand it down."""
