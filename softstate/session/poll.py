"""Polls over WebSocket: a request that rests on no lease."""

from __future__ import annotations

from softstate.errors import Behind, RequestError
from softstate.model import Page, Query
from softstate.session.effects import Effect, Send
from softstate.session.request import PendingPoll, Steps, lag_ms, not_continued, send_error
from softstate.session.state import SessionCore
from softstate.wire.messages import Poll, Polled


def read_poll(session: SessionCore, message: Poll, _now: float) -> list[Effect]:
    """Check the names, and read the store."""
    return session.work_through(_check_and_read(session, message), message.id, rests_on_lease=False)


def _check_and_read(session: SessionCore, message: Poll) -> Steps:
    yield from session.check_request(message.topics, message.prefixes)
    return session.ask(PendingPoll(Query(message.topics, message.prefixes, message.position), message))


def poll_page(session: SessionCore, pending: PendingPoll, page: Page) -> list[Effect]:
    """Send a page."""
    request = pending.request
    if not pending.continues(page):
        return fail_poll(session, pending, not_continued(page))
    if page.position.revision < request.min_revision:
        behind = f"this node is at revision {page.position.revision}, below min_revision: wait, or ask another node"
        return fail_poll(session, pending, Behind(behind, retry_ms=session.terms().timeout_ms // 10))
    if page.more:
        pending.advance(page)
        return [Send(Polled(request.id, page.position, more=True), page.records), *session.ask(pending)]
    session.pending = None
    polled = Polled(
        request.id,
        page.position,
        compacted=list(page.compacted),
        lag_ms=lag_ms(page),
        next_ms=session.terms().poll.every_ms,
    )
    return [Send(polled, page.records)]


def fail_poll(session: SessionCore, pending: PendingPoll, error: RequestError) -> list[Effect]:
    """Answer with an error."""
    session.pending = None
    return [send_error(error, pending.request.id)]
