"""Polls that are answered by callback: at once, or held until there is news (P-HTTP-19). No task is kept for them.

A held poll ends with a change of one of its names, with its time, when its node drains, when its peer hangs up, and
when its credentials are revoked. Only then the store is read, unless it is known that nothing has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

import msgspec
import trio

from softstate.errors import RequestError
from softstate.model import Page, Query
from softstate.server.fanout.name_watches import NameWatch
from softstate.server.fanout.pages import encode_by_turns
from softstate.server.http.arguments import PollBody
from softstate.server.http.credentials import stands
from softstate.server.http.message import Request
from softstate.server.http.poll_replies import reply_page, reply_unchanged
from softstate.server.http1 import Reply
from softstate.server.storage.asker import ASKER
from softstate.server.storage.read_queue import ReadTicket

if TYPE_CHECKING:
    from softstate.server.edge.patience import Watch
    from softstate.server.http.context import HttpContext, Settle
    from softstate.server.services import PollWatch

WOKEN_NAMES = 2
"""The cost of beginning to answer a poll that was held, in names of a turn's budget: 10 us; the rest is the store's
callback, as for any poll. In portions of 32 their reads shared less, and each cost 1.6 times a plain poll."""


@final
class BegunPoll:
    """One poll of names that were checked. `settle` is called once with its answer, `broken` if a bug ends it.

    Made in the context of its request: it is that connection's `ASKER`.
    """

    __slots__ = (
        "_again", "_asker", "_began", "_broken", "_context", "_measured", "_patience", "_query", "_request",
        "_settle", "_until", "_wait_ms", "_watch",
    )  # fmt: skip

    def __init__(
        self, context: HttpContext, request: Request, query: Query, settle: Settle, broken: Callable[[], None]
    ) -> None:
        asked: PollBody = request.content
        self._asker = ASKER.get()
        self._context = context
        self._request = request
        self._query = query
        self._settle = settle
        self._broken = broken
        self._wait_ms = asked.wait_ms
        # Whether it was read again at once, since the hub knew of more than the answer.
        self._again = False
        # When it was held first, and until when it may be; its place among those that wait for changes.
        self._began: float | None = None
        self._until = -math.inf
        self._watch: NameWatch | None = None
        self._patience: Watch | None = None
        self._measured: PollWatch | None = None

    def begin(self) -> None:
        """Answer it, or hold it. Raises the errors of `StoreReads.submit`."""
        if not self._knows():
            self._read()
        elif not self._hold(self._context.hub.position.revision):
            asked: PollBody = self._request.content
            page = self._context.unchanged.answer(self._query, asked.min_revision)
            if page is None:
                self._confirm()
            else:
                self._settle(self._nothing_new(page))

    def abandon(self) -> None:
        """Answer it no more: its task has ended."""
        self._settle = _forget
        self._leave_hold()

    def _knows(self) -> bool:
        asked: PollBody = self._request.content
        return self._context.unchanged.knows(self._query, asked.min_revision)

    # Holding --------------------------------------------------------------------------------------------------------

    def _hold(self, after: int) -> bool:
        """Hold it until something changes above the revision `after`; False if it is to be answered now.

        Above `after`, something may have changed already: then it reads again.
        """
        context, now = self._context, trio.current_time()
        names: Mapping[str, int] = {**self._query.topics, **self._query.prefixes}
        if not names:
            self._wait_ms = None  # nothing will ever be new
        if not self._wait_ms or self._asker.over():
            return False
        if self._began is None:
            wait_s = min(self._wait_ms, context.config.hold_ms_max) / 1000
            self._until = now + min(wait_s, self._request.identity.until - self._request.arrived)
        if now >= self._until or context.services.draining:
            return False
        if not context.takes_hold(len(names)):
            self._wait_ms = None  # and nothing of what is told to those that wait
            return False
        if self._began is None:
            self._began = now
            # Should it be answered by a task in the end, it is not held once more.
            self._request.content = msgspec.structs.replace(self._request.content, wait_ms=0)
        recent = context.hub.recent
        if recent.any_changed(names, after):
            if self._again:
                return False  # a store that was rewound stays behind the hub, until that is noticed
            self._again = True
            self.go_on()
            return True
        self._again = False
        self._watch = NameWatch(names, after, self.cancel, self._broken)
        recent.watches.add(self._watch)
        self._patience = context.services.patience.watch(self, self._until)
        context.enter_hold(self, self._request.identity)
        if self._asker.on_hang_up(self.cancel):
            # It has closed its half, and may wait for the answer still. It is not read again: nothing would end that.
            self._leave_hold()
            return False
        return True

    def cancel(self) -> None:
        """End the hold: it is answered now, or in a turn to come."""
        if self._leave_hold():
            self._context.woken.add(self)

    @property
    def names(self) -> int:
        """See `softstate.server.http.woken_polls.Woken`."""
        return max(len(self._query.topics) + len(self._query.prefixes), WOKEN_NAMES)

    def late(self, now: float) -> float:
        """See `softstate.server.edge.patience.Patient.late`."""
        if now < self._until:
            return self._until
        self.cancel()
        return math.inf

    def fail(self) -> None:
        """End it alone: it has met a bug."""
        self._leave_hold()
        self._broken()

    def _leave_hold(self) -> bool:
        watch, patience, self._watch, self._patience = self._watch, self._patience, None, None
        if watch is None or patience is None:
            return False
        self._context.hub.recent.watches.drop(watch)
        self._context.leave_hold(self)
        self._asker.on_hang_up(None)
        patience.end()
        return True

    def go_on(self) -> None:
        """Answer it, after a hold, or read again."""
        if self._asker.over():
            return  # nobody waits for the answer
        gate, request = self._context.gate, self._request
        try:
            if request.identity.generation == gate.generation:
                stands(gate, request)  # or its credentials are over
            # By other rules it is judged again when it is answered, as it was asked.
            if self._knows():
                self._confirm()
            else:
                self._read()
        except RequestError as error:
            self._settle(error)

    # Answering ------------------------------------------------------------------------------------------------------

    @property
    def _waits_ms(self) -> int | None:
        """For how long its next one may wait; None if that is to come at the usual time, as where polls are limited.

        Those who ask again at once would take all that a limit allows from others of their identity.
        """
        return None if self._context.gate.limits.of_polls else self._wait_ms

    @property
    def _held_ms(self) -> int | None:
        """How long it was held until now, rounded down: the client adds it to the time from which its age counts."""
        return None if self._began is None else math.floor((trio.current_time() - self._began) * 1000)

    def _confirm(self) -> None:
        held_ms = self._held_ms
        asked: PollBody = self._request.content

        def confirmed(page: Page | None) -> None:
            if page is not None:
                self._settle(self._nothing_new(page, held_ms))
                return
            try:
                self._read()
            except RequestError as error:
                self._settle(error)

        self._context.unchanged.confirm_soon(self._query, asked.min_revision, confirmed, self._broken)

    def _nothing_new(self, page: Page, held_ms: int | None = None) -> Reply:
        return reply_unchanged(self._context, self._request, page, self._asker, self._waits_ms, held_ms)

    def _read(self) -> None:
        held_ms, context = self._held_ms, self._context
        # Callbacks are called in the context of the store's task.
        ASKER.set(self._asker)
        arrived = context.unchanged.begin()

        def answered(ticket: ReadTicket) -> None:
            page = ticket.answer
            if page is None:
                assert ticket.error is not None
                self._end(ticket.error)
                return
            context.unchanged.learn(self._query, page, arrived)
            measured = self._measured
            assert measured is not None
            if not (_is_empty(page) and self._hold(page.position.revision)):
                self._bring(page, measured, held_ms)
                return
            measured.left()
            if self._measured is measured:  # else it was read again at once
                self._measured = None

        context.reads.submit(self._query, self._asker, answered, self._failed)
        # Only now: if that raises, nothing is called that would end it.
        self._measured = context.services.watch_poll(again=True)

    def _bring(self, page: Page, measured: PollWatch, held_ms: int | None) -> None:
        request = self._request
        codec = request.accepted()

        def encoded(changes: Mapping[int, bytes]) -> None:
            wait_ms = self._waits_ms
            self._end(reply_page(request, self._query, page, measured, changes, (), wait_ms, held_ms))

        encode_by_turns(self._context.turns, codec, page.records, codec.change, encoded, self._failed)

    def _end(self, outcome: Reply | RequestError) -> None:
        # Of no effect on a poll that was answered to its end. A page with more behind it is over as well: if it counted
        # as in progress from then on, the node would take itself for busy, and refuse all polls in the end.
        self._left()
        self._settle(outcome)

    def _left(self) -> None:
        measured, self._measured = self._measured, None
        if measured is not None:
            measured.left()

    def _failed(self) -> None:
        self._left()
        self._broken()


def _is_empty(page: Page) -> bool:
    """Tell whether an answer brings nothing."""
    return not (page.records or page.more or page.compacted or page.restart)


def _forget(_outcome: Reply | RequestError) -> None:
    """Take an answer that nobody waits for."""
