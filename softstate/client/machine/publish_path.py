"""Publishes over HTTP, for as long as no connection can take them: one request at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from softstate.client.machine.backoff import Rotation, asked_s
from softstate.client.machine.events import Abandon, SendPublish
from softstate.client.machine.publish_queue import HTTP, RETRIED
from softstate.client.machine.state import FOREIGN, Core, bars
from softstate.client.machine.triggers import Trigger
from softstate.errors import NotFound, Overloaded, RequestError, Unauthenticated
from softstate.wire.messages import BatchResult

ROUND_S_MAX = 5.0
"""How long a round over all URLs may take; each try gets its part, so that a silent node leaves the others theirs."""

TRY_S_MIN = 1.0
"""How long a try may take at least."""


class PublishPath:
    """Sends batches of publishes. `deadline` is that of the request in flight."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rotation = Rotation(core.options.urls, core.random)
        self._request: int | None = None
        self._tickets: list[int] = []
        self._token: str | None = None
        """The token that the request in flight presents."""
        self._not_before = -math.inf
        self._round_ends = math.inf
        self.wait_until = math.inf
        """Until when publishes wait for the first connection."""
        self.deadline = math.inf

    @property
    def in_flight(self) -> bool:
        """Whether a request is in flight."""
        return self._request is not None

    def url_of(self, request: int) -> str | None:
        """Return where the request in flight was sent; None for another one."""
        return self._rotation.url if self._request == request else None

    @property
    def due(self) -> float:
        """From when on publishes go over HTTP, if no connection is open."""
        if self._core.credentials.held:
            return math.inf
        return max(self.wait_until, self._not_before) if self._core.mode == "connecting" else self._not_before

    def send(self) -> None:
        """Send what is ready, in one request, if a URL may be asked."""
        core = self._core
        if self._rotation.fresh:
            self._round_ends = core.now + min(ROUND_S_MAX, core.poll_timeout_s)
            if core.answered_url is not None:
                self._rotation.begin_at(core.answered_url)
        self._not_before = self._rotation.choose(core.now)
        if self._not_before > core.now:
            return
        self._tickets, batch = core.queue.over_http(core.now)
        self._request, self._token = core.number(), core.credentials.cell.token
        timeout_s = max((self._round_ends - core.now) / self._rotation.left, TRY_S_MIN)
        self.deadline = core.now + timeout_s
        core.act(
            SendPublish(
                self._request, self._rotation.url, batch.changes, timeout_s, batch.publisher, batch.seq, batch.settled
            )
        )

    def stop(self) -> None:
        """Give up the request in flight; its publishes wait again."""
        if self._request is not None:
            self._core.act(Abandon(self._request))
            self._request = None
            self._core.queue.lost(HTTP)

    def tick(self) -> None:
        """Give up a request that takes too long."""
        if self._request is not None and self._core.now >= self.deadline:
            self.stop()
            self._failed(0.0)

    def answered(self, request: int, results: Sequence[BatchResult]) -> None:
        """Take the verdicts of a request."""
        if request != self._request:
            return
        self._request = None
        core = self._core
        if len(results) != len(self._tickets):
            core.queue.lost(HTTP)
            self._failed(0.0)
            return
        self._rotation.succeeded()
        core.reached(self._rotation.url)
        core.answered_url = self._rotation.url
        core.failures = 0
        core.act(*core.queue.batch_answered(self._tickets, results, core.now, core.advice))
        core.fire(Trigger.HTTP_ANSWERED)

    def failed(self, request: int, error: RequestError | None, *, unsent: bool = False) -> None:
        """Take the failure of a request as a whole; `unsent`: no node has seen it."""
        if request != self._request:
            return
        self._request = None
        core = self._core
        core.mistrusted(self._rotation.url, error)
        if isinstance(error, Unauthenticated):
            core.queue.returned(HTTP, error)
            core.unauthenticated(self._token, error, self._rotation.url)
        elif error is not None and error.why == FOREIGN:
            core.refused(self._rotation.url, error)
            core.queue.lost(HTTP)
            self._failed(0.0)
        elif error is not None and bars(error):
            self._barred(error)
        elif unsent or isinstance(error, NotFound | Overloaded):
            core.queue.returned(HTTP, error)
            if unsent and not core.reach.refuses(self._rotation.url):
                core.refused_dial(self._rotation.url, core.connect_at())
            self._failed(asked_s(error.retry_ms) if error else 0.0)
        elif error is None or error.code in RETRIED:
            core.queue.lost(HTTP)
            self._failed(asked_s(error.retry_ms) if error else 0.0)
        else:
            core.act(*core.queue.batch_refused(self._tickets, error))

    def _barred(self, error: RequestError) -> None:
        """Go on with another URL; if every one refuses, so are the publishes: a node refused them unseen."""
        core = self._core
        core.refused(self._rotation.url, error)
        self._not_before = self._rotation.bar(self._rotation.url, core.now, core.advice)
        if self._rotation.round_over:
            self._not_before = core.now
            self._rotation.not_before = -math.inf  # the next publish asks all of them again
            for ticket in self._tickets:
                core.act(*core.queue.batch_refused([ticket], error))
        else:
            core.queue.returned(HTTP, error)
        core.path_failed(self._rotation)

    def _failed(self, retry_s: float) -> None:
        core = self._core
        self._not_before = self._rotation.failed(self._rotation.url, core.now, core.advice, retry_s)
        core.path_failed(self._rotation)
