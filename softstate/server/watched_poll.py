"""A poll over HTTP while it is measured: how fast polls are served decides when clients are told to come again."""

from __future__ import annotations

from typing import final

import trio

from softstate.server.storage.asker import Asker
from softstate.server.terms import CurrentTerms
from softstate.session import MeasuredRequest
from softstate.wire.messages import Poll


@final
class WatchedPoll:
    """One poll. Implements `softstate.server.services.PollWatch`.

    `asker` is its connection, if that is expected to poll again.
    """

    __slots__ = ("_asker", "_measured", "_terms")

    def __init__(self, terms: CurrentTerms, asker: Asker | None) -> None:
        self._terms = terms
        self._asker = asker
        self._measured = MeasuredRequest(terms.polls)
        self._measured.works(trio.current_time())

    def answered(self, wait_ms: int | None = None, said: Poll | None = None) -> int:
        """See `PollWatch.answered`."""
        self._measured.served(trio.current_time())
        return self._terms.next_poll_ms(self._asker, wait_ms, said) if self._asker else self._terms().poll.every_ms

    def left(self) -> None:
        """See `PollWatch.left`."""
        self._measured.left(trio.current_time())
