"""Subscribing without a gap: the names enter the lease, then the store is read, page by page."""

from __future__ import annotations

from collections.abc import Collection, Generator

from softstate.auth.name_answers import NamesUnasked
from softstate.auth.narrowing import narrowed
from softstate.errors import NoLease, Overloaded, RequestError
from softstate.lease.table import Lease
from softstate.model import Page, Query
from softstate.position import Position
from softstate.session.effects import Effect, Replay, Send
from softstate.session.gap_buffer import GapBuffer
from softstate.session.permission import judge_again, unreadable_names
from softstate.session.request import (
    OVERFLOW_ROUNDS_MAX,
    PendingInquiry,
    PendingSubscribe,
    Steps,
    clock_ms,
    lag_ms,
    not_continued,
    send_error,
)
from softstate.session.state import SessionCore
from softstate.wire.messages import Subscribe, Subscribed, Unsubscribe
from softstate.wire.subscription_digest import MASK, digest_text, name_hash


def subscribe(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
    """Enter the names into the lease, hold back their pushes, and begin the read (P-SUB-2, P-SUB-3)."""
    session.credentials(now)
    return session.work_through(_subscribe(session, message, now), message.id)


def _subscribe(session: SessionCore, message: Subscribe, now: float) -> Steps:
    session.unresumed = session.unaware = False
    if message.replace:
        session.agreed = None
    lease = session.living_lease(now)
    said: list[Effect] = []
    if lease is not None:
        session.leases.bound(lease, session.identity.until)
        session.leases.extend(lease, now)
    try:
        if lease is not None:
            said = yield from judge_again(session, lease)
            lease = session.living_lease(now)
        yield from session.check_request(message.topics, message.prefixes)
        if lease is None:
            # P-SUB-14: the names that it held have not been pushed since; that must not be hidden.
            if not message.replace:
                raise session.lose_lease()
            session.lapse()
            lease = session.begin_lease(now, session.ttl_s)
        pending = yield from enter(session, lease, message)
    except NamesUnasked as unasked:
        return [*said, *session.ask(PendingInquiry(message, unasked))]
    except RequestError as error:
        yield from _remove_names(session, message)
        return [*said, send_error(error, message.id)]
    return [*said, *session.ask(pending)]


def enter(
    session: SessionCore, lease: Lease, message: Subscribe, witness: Position | None = None
) -> Generator[int, None, PendingSubscribe]:
    """Let the lease hold those of the names that may be read, and return what is to be read for them.

    In the midst of it, the lease holds some: each is held back from its entry on. Raises `TooLarge`, and `NoLease` if
    the lease has ended.
    """
    leases, identity = session.leases, session.identity
    names = [*message.topics, *message.prefixes]
    denied = yield from unreadable_names(session, identity.grant, names)
    if denied:
        lost = set(denied)
        names = [name for name in names if name not in lost]
    if message.replace:
        session.agreed = None  # also that of a lease that begins with this request
        wanted = dict.fromkeys(names)
        yield from session.leave_names(lease, [name for name in lease.names if name not in wanted])
    leases.check_room(lease, names)
    gap_buffer = session.gap_buffer = GapBuffer(
        lease.names, whole=not lease.names, earlier=session.gap_buffer, topics_max=session.gap_topics_max
    )
    since = session.since
    query = Query(message.topics, message.prefixes, witness, after=since, listed=since or None)
    pending = PendingSubscribe(query, message, gap_buffer, generation=identity.generation)
    if denied:
        pending.deny(denied)

    def add(portion: Collection[str]) -> None:
        before = lease.digest
        gap_buffer.cover(leases.add(lease, portion))
        session.agree_to(lease, before)
        pending.digest += leases.digest_of(portion)

    yield from session.in_portions(names, add)
    return pending


def subscribe_page(session: SessionCore, pending: PendingSubscribe, page: Page, now: float) -> list[Effect]:
    """Send a page; behind the last one, what was held back and the read does not cover (P-SUB-5).

    If the rules have changed since the names were judged, they are judged again first (P-AUTH-4). Behind the end of the
    credentials nothing is told, though the sweep may not have ended the lease yet (P-AUTH-3).
    """
    if session.stands(pending.generation, now):
        return _send_page(session, pending, page, now)
    session.pending = None
    try:
        session.credentials(now)
    except RequestError as error:
        return session.give_up_credentials(error, pending.request.id)
    return session.work_through(_judge_and_send(session, pending, page, now), pending.request.id)


def _judge_and_send(session: SessionCore, pending: PendingSubscribe, page: Page, now: float) -> Steps:
    lease = session.held_lease()
    said: list[Effect] = []
    if lease is not None:
        said = yield from judge_again(session, lease)
        if session.held_lease() is None:
            return said
    pending.generation = session.identity.generation
    lost = [name for name in (*pending.query.topics, *pending.query.prefixes) if lease and name not in lease.names]
    if not lost:
        return [*said, *_send_page(session, pending, page, now)]
    # The page is of these names, too: it is read again without them.
    pending.gap_buffer.restart()
    pending.deny(lost)
    pending.digest -= sum(map(name_hash, lost))
    return [*said, *session.ask(pending)]


def _send_page(session: SessionCore, pending: PendingSubscribe, page: Page, now: float) -> list[Effect]:
    gap_buffer, lease, request = pending.gap_buffer, session.held_lease(), pending.request
    forgotten = 0 < pending.query.after == session.since < page.floor
    if forgotten or not pending.continues(page):
        return fail_subscribe(session, pending, not_continued(page))
    if lease is None:
        return fail_subscribe(session, pending, NoLease("the lease ended while the store was read: subscribe again"))
    if page.more or gap_buffer.overflowed:
        return [Send(Subscribed(request.id, page.position, more=True), page.records), *_read_on(session, pending, page)]
    session.pending = None
    if request.replace:
        session.agreed = pending.digest & MASK
    subscribed = Subscribed(
        request.id,
        page.position,
        digest=digest_text(lease.digest),
        count=lease.count,
        compacted=list(page.compacted),
        denied=pending.denied,
        lag_ms=lag_ms(page),
        clock_ms=clock_ms(now),
        narrow=narrowed(session.identity.grant, pending.denied),
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
    """Remove the names from the lease, and answer with an error."""
    session.pending = None
    return session.work_through(_fail(session, pending.request, error))


def refuse_subscribe(session: SessionCore, request: Subscribe, error: RequestError) -> list[Effect]:
    """Answer a subscribe with an error whose names may be in the lease from before (P-SUB-13)."""
    return session.work_through(_refuse(session, request, error))


def _refuse(session: SessionCore, request: Subscribe, error: RequestError) -> Steps:
    yield from _remove_names(session, request)
    return [send_error(error, request.id)]


def _fail(session: SessionCore, failed: Subscribe, error: RequestError) -> Steps:
    # Held back until all are removed: nothing has told the client of them.
    yield from _remove_names(session, failed)
    if session.gap_buffer is not None:
        session.gap_buffer = session.gap_buffer.give_up()
    return [send_error(error, failed.id)]


def _remove_names(session: SessionCore, failed: Subscribe) -> Generator[int, None, None]:
    """Remove a failed subscribe's names from the lease, even those it held before, as the client does (P-SUB-13)."""
    lease = session.held_lease()
    if lease is not None:
        names = list(lease.names) if failed.replace else [*failed.topics, *failed.prefixes]
        yield from session.leave_names(lease, names)


def unsubscribe(session: SessionCore, message: Unsubscribe, _now: float) -> list[Effect]:
    """Remove names from the lease (P-SUB-15)."""
    return session.work_through(_unsubscribe(session, message))


def _unsubscribe(session: SessionCore, message: Unsubscribe) -> Steps:
    lease = session.held_lease()
    if lease is not None:
        yield from session.leave_names(lease, [*message.topics, *message.prefixes])
    return []
