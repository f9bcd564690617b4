"""The peer for which a read is made: whether it still waits for the answer, and when it is to poll again."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextvars import ContextVar

_HUNG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""Events of a socket whose peer has closed it, or its half; outside of Linux only of one that is closed whole."""


def hung_up(descriptor: int) -> bool:
    """Tell whether the peer of a socket will send nothing any more: it has closed it, or its half, or was lost.

    Nothing is read. False for a socket that is closed on this side.
    """
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, _HUNG_UP)
    return bool(poll.poll(0))


class Asker:
    """One connection, as the reads made for it see it.

    `gone` tells whether its peer has hung up; it may cost a system call. `expected` stands for the poll that the peer
    was told to make next (`softstate.session.load_advice.ExpectedPolls`).
    """

    __slots__ = ("expected", "gone")

    def __init__(self, gone: Callable[[], bool] = lambda: False) -> None:
        self.gone = gone
        self.expected = 0


ASKER: ContextVar[Asker] = ContextVar("asker")
"""The connection whose task this is. Set once for each HTTP connection, so that routes need not hand it down."""


def current_asker() -> Asker:
    """Return the asker of this task; without one, a peer that never goes away."""
    return ASKER.get(PATIENT)


PATIENT = Asker()
"""Asks for the node itself, and in tests."""
