"""Subscribing without a gap: the names enter the lease, then the store is read, page by page."""

from __future__ import annotations

from softstate.errors import NoLease, Overloaded, RequestError
from softstate.model import Page, Query
from softstate.session.effects import Effect, Replay, Send
from softstate.session.gap_buffer import GapBuffer
from softstate.session.request import OVERFLOW_ROUNDS_MAX, PendingSubscribe, lag_ms, not_continued, send_error
from softstate.session.state import SessionCore
from softstate.wire.messages import Subscribe, Subscribed, Unsubscribe
from softstate.wire.subscription_digest import digest_text


def subscribe(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
    """Enter the names into the lease, hold back their pushes, and begin the read (P-SUB-2, P-SUB-3)."""
    try:
        gap_buffer = session.gap_buffer = _enter(session, message, now)
    except RequestError as error:
        _remove_names(session, message)
        return [send_error(error, message.id)]
    return session.ask(PendingSubscribe(Query(message.topics, message.prefixes), message, gap_buffer))


def _enter(session: SessionCore, message: Subscribe, now: float) -> GapBuffer:
    session.check_request(message.topics, message.prefixes)
    lease = session.living_lease(now)
    if lease is None:
        # P-SUB-14: extending a lease that is over would hide that nothing was pushed since.
        session.lapse()
        lease = session.begin_lease(now, session.ttl_s)
    session.leases.extend(lease, now)
    names = [*message.topics, *message.prefixes]
    fresh = session.leases.replace(lease, names) if message.replace else session.leases.add(lease, names)
    entered = dict.fromkeys(fresh)
    return GapBuffer(fresh, [name for name in lease.names if name not in entered], session.gap_topics_max)


def subscribe_page(session: SessionCore, pending: PendingSubscribe, page: Page) -> list[Effect]:
    """Send a page; behind the last one, what was held back and the read does not cover (P-SUB-5)."""
    gap_buffer, lease, request = pending.gap_buffer, session.held_lease(), pending.request
    if not pending.continues(page):
        return fail_subscribe(session, pending, not_continued(page))
    if lease is None:
        return fail_subscribe(session, pending, NoLease("the lease ended while the store was read: subscribe again"))
    if page.more or gap_buffer.overflowed:
        return [Send(Subscribed(request.id, page.position, more=True), page.records), *_read_on(session, pending, page)]
    session.pending = None
    subscribed = Subscribed(
        request.id,
        page.position,
        digest=digest_text(lease.digest),
        count=lease.count,
        compacted=list(page.compacted),
        lag_ms=lag_ms(page),
    )
    held = gap_buffer.release(page.position.revision)
    return [Send(subscribed, page.records), *([Replay(held)] if held else [])]


def _read_on(session: SessionCore, pending: PendingSubscribe, page: Page) -> list[Effect]:
    if pending.gap_buffer.overflowed:
        session.repairs["hold_overflow"] += 1
    pending.gap_buffer.restart()
    pending.advance(page)
    if pending.overflows > OVERFLOW_ROUNDS_MAX:
        crowd = "the topics asked for change faster than they can be listed: ask for fewer, or later"
        return fail_subscribe(session, pending, Overloaded(crowd, retry_ms=session.terms().timeout_ms))
    return session.ask(pending)


def fail_subscribe(session: SessionCore, pending: PendingSubscribe, error: RequestError) -> list[Effect]:
    """Answer with an error, and remove the names from the lease."""
    session.pending = session.gap_buffer = None
    _remove_names(session, pending.request)
    return [send_error(error, pending.request.id)]


def _remove_names(session: SessionCore, failed: Subscribe) -> None:
    """Remove a failed subscribe's names from the lease, even those it held before, as the client does (P-SUB-13)."""
    lease = session.held_lease()
    if lease is not None:
        session.leases.remove(lease, list(lease.names) if failed.replace else [*failed.topics, *failed.prefixes])


def unsubscribe(session: SessionCore, message: Unsubscribe, _now: float) -> list[Effect]:
    """Remove names from the lease (P-SUB-15)."""
    lease = session.held_lease()
    if lease is not None:
        session.leases.remove(lease, [*message.topics, *message.prefixes])
    return []
