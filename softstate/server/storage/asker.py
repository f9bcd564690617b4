"""The peer for which a read is made: whether it still waits for the answer, and when it is to poll again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import trio


class Asker:
    """One connection, as the reads made for it see it.

    `gone` tells whether its peer has closed the connection, or at least its half of it, and may cost a system call;
    `hang_up` returns once that is so. `on_hang_up` has a function called then, and tells whether it is so already; None
    takes that back. `over` tells whether the connection has ended: no answer reaches its peer. `expected` stands for
    the poll that the peer was told to make next (`softstate.session.load_advice.ExpectedPolls`), `report` for
    what it said of itself last (`softstate.server.measure.client_reports.ClientReports`).
    """

    __slots__ = ("expected", "gone", "hang_up", "on_hang_up", "over", "report")

    def __init__(
        self,
        gone: Callable[[], bool] = lambda: False,
        hang_up: Callable[[], Awaitable[None]] = trio.sleep_forever,
        on_hang_up: Callable[[Callable[[], None] | None], bool] = lambda _call: False,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.gone = gone
        self.hang_up = hang_up
        self.on_hang_up = on_hang_up
        self.over = over
        self.expected = 0
        self.report = 0


PATIENT = Asker()
"""Asks for the node itself, and in tests: it never goes away."""

ASKER: ContextVar[Asker] = ContextVar("asker", default=PATIENT)
"""The connection whose request is looked at. Set ahead of each request, so that routes need not hand it down."""
