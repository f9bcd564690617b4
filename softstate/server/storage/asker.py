"""The peer for which a read is made: whether it still waits for the answer, and when it is to poll again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import trio


class Asker:
    """One connection, as the reads made for it see it.

    `gone` tells whether its peer has closed the connection, or at least its half of it, and may cost a system call;
    `hang_up` returns once that is so. `expected` stands for the poll that the peer was told to make next
    (`softstate.session.load_advice.ExpectedPolls`).
    """

    __slots__ = ("expected", "gone", "hang_up")

    def __init__(
        self, gone: Callable[[], bool] = lambda: False, hang_up: Callable[[], Awaitable[None]] = trio.sleep_forever
    ) -> None:
        self.gone = gone
        self.hang_up = hang_up
        self.expected = 0


PATIENT = Asker()
"""Asks for the node itself, and in tests: it never goes away."""

ASKER: ContextVar[Asker] = ContextVar("asker", default=PATIENT)
"""The connection whose request is looked at. Set ahead of each request, so that routes need not hand it down."""
