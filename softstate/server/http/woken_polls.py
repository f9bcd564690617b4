"""Polls that were held, and are to be answered now: as many in a turn of the loop as its budget covers."""

from __future__ import annotations

from collections import deque
from typing import Protocol, final

from softstate.server.bulkhead import Bulkhead
from softstate.server.fanout.turns import Turns


class Woken(Protocol):
    """A poll that is no longer held."""

    @property
    def names(self) -> int:
        """The cost of beginning to answer it, in names of a turn's budget."""

    def go_on(self) -> None:
        """Begin to answer it."""

    def fail(self) -> None:
        """End it alone: it has met a bug."""


@final
class WokenPolls:
    """Those of one node, in order. They wait for turns together: a wait for each would cost half as much as a poll."""

    def __init__(self, turns: Turns, bulkhead: Bulkhead) -> None:
        self._turns = turns
        self._bulkhead = bulkhead
        self._waiting: deque[Woken] = deque()

    def add(self, poll: Woken) -> None:
        """Have a poll answered: at once, if the present turn covers it and none waits, or in a turn to come."""
        if not self._waiting and self._turns.take(poll.names):
            self._bulkhead.each("held poll", _go_on, (poll,), failed=_fail)
            return
        self._waiting.append(poll)
        if len(self._waiting) == 1:
            self._ask()

    def _ask(self) -> None:
        if self._waiting:
            names = max(self._turns.names_max // 2, self._waiting[0].names)
            self._turns.wait(names, self._answer_some, self._ask)

    def _answer_some(self) -> None:
        some: list[Woken] = []
        left = self._turns.names_max // 2
        while self._waiting and (left > 0 or not some):
            some.append(self._waiting.popleft())
            left -= some[-1].names
        self._bulkhead.each("held poll", _go_on, some, failed=_fail)
        self._ask()


def _go_on(poll: Woken) -> None:
    poll.go_on()


def _fail(poll: Woken) -> None:
    poll.fail()
