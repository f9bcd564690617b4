"""Polls over WebSocket: a request that rests on no lease."""

from __future__ import annotations

from collections.abc import Generator

from softstate.auth.name_answers import NamesUnasked
from softstate.auth.narrowing import narrowed
from softstate.errors import Behind, RequestError
from softstate.model import Page, Query
from softstate.session.effects import Effect, Send
from softstate.session.permission import unreadable_names
from softstate.session.request import PendingInquiry, PendingPoll, Steps, lag_ms, not_continued, send_error
from softstate.session.state import SessionCore
from softstate.wire.messages import Poll, Polled


def read_poll(session: SessionCore, message: Poll, now: float) -> list[Effect]:
    """Check the names, and read the store."""
    session.credentials(now)
    return session.work_through(_check_and_read(session, message, now), message.id, rests_on_lease=False)


def _check_and_read(session: SessionCore, message: Poll, now: float) -> Steps:
    yield from session.check_request(message.topics, message.prefixes)
    identity = session.identity
    query = Query(message.topics, message.prefixes, message.position)
    pending = PendingPoll(query, message, now, generation=identity.generation)
    try:
        yield from _judge(session, pending)
    except NamesUnasked as unasked:
        return session.ask(PendingInquiry(message, unasked))
    session.gate.check_poll(identity, session.presented.address)  # once, though it may have been taken before
    return session.ask(pending)


def _judge(session: SessionCore, pending: PendingPoll) -> Generator[int, None, bool]:
    """Take out of the query what may not be read; tell whether that was anything."""
    identity, query = session.identity, pending.query
    pending.generation = identity.generation
    denied = yield from unreadable_names(session, identity.grant, [*query.topics, *query.prefixes])
    if denied:
        pending.deny(denied)
    return bool(denied)


def poll_page(session: SessionCore, pending: PendingPoll, page: Page, now: float) -> list[Effect]:
    """Send a page; if the rules have changed since the names were judged, they are judged again first (P-AUTH-4).

    Behind the end of the credentials nothing is told: the poll may have waited for a revision (P-AUTH-3).
    """
    if session.stands(pending.generation, now):
        return _send_page(session, pending, page)
    session.pending = None
    try:
        session.credentials(now)
    except RequestError as error:
        return session.give_up_credentials(error, pending.request.id)
    return session.work_through(_judge_and_send(session, pending, page), pending.request.id, rests_on_lease=False)


def _judge_and_send(session: SessionCore, pending: PendingPoll, page: Page) -> Steps:
    try:
        denied = yield from _judge(session, pending)
    except NamesUnasked as unasked:
        if pending.query.after:
            return fail_poll(session, pending, unasked)  # pages were sent, which another answer would not continue
        return session.ask(PendingInquiry(pending.request, unasked))
    # The page is of the denied names, too: it is read again without them.
    return session.ask(pending) if denied else _send_page(session, pending, page)


def _send_page(session: SessionCore, pending: PendingPoll, page: Page) -> list[Effect]:
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
        denied=pending.denied,
        lag_ms=lag_ms(page),
        next_ms=session.terms().poll.every_ms,
        credentials_ms=session.credentials_ms(pending.at),
        narrow=narrowed(session.identity.grant, pending.denied),
    )
    return [Send(polled, page.records)]


def fail_poll(session: SessionCore, pending: PendingPoll, error: RequestError) -> list[Effect]:
    """Answer with an error."""
    session.pending = None
    return [send_error(error, pending.request.id)]
