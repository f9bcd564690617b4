"""From hello to welcome: a new session, or an earlier one resumed.

A subscribe that comes right behind the hello of a new session joins it (P-CONN-16): its names enter a lease that the
welcome will announce, and one read answers both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from msgspec import UNSET

from softstate.auth.answers import Unasked
from softstate.auth.name_answers import NamesUnasked
from softstate.errors import Invalid, Overloaded, RequestError, Unauthenticated
from softstate.lease.table import Lease
from softstate.model import Page, Query, Record
from softstate.names import is_prefix
from softstate.position import Position
from softstate.session.beats import set_beat
from softstate.session.credentials import credentials_of, identified
from softstate.session.effects import CloseOther, Effect, Replay, Send, SendFirst
from softstate.session.gap_buffer import GapBuffer
from softstate.session.load_advice import renew_ms
from softstate.session.permission import unreadable_names
from softstate.session.request import (
    PendingHello,
    PendingInquiry,
    PendingSubscribe,
    Steps,
    Unreadable,
    clock_ms,
    send_error,
)
from softstate.session.state import SessionCore, State
from softstate.session.subscription import enter, subscribe_page
from softstate.session.termination import refuse
from softstate.wire import messages
from softstate.wire.close_codes import CloseCode
from softstate.wire.levels import LEVEL
from softstate.wire.messages import Hello, Id, Message, Subscribe


def greet(session: SessionCore, hello: Hello, now: float) -> list[Effect]:
    """Take up the session that hello names, if it can be resumed (P-RES-2), and read the store either way."""
    lease = session.leases.get(hello.session) if hello.session is not None else None
    try:
        identity = session.identity = identified(session, credentials_of(session, hello.token), now)
        if lease is None:
            # Ahead of the read: those beyond the limit are to cost little.
            session.leases.check_session(session.gate.accountable(identity, session.presented.address))
    except Unasked:
        raise
    except RequestError as error:
        return refuse(session, error, _code_for(error))
    session.state = State.GREETING
    session.name = hello.name
    since, seen = hello.since, hello.position
    if lease is None or lease.deadline < now or not since or seen is None or since > seen.revision:
        return session.ask(PendingHello(Query(witness=seen), hello, now))
    if lease.identity is None or lease.identity.principal != identity.principal:
        return session.ask(PendingHello(Query(witness=seen), hello, now))  # P-AUTH-7
    others: list[Effect] = [CloseOther(lease.sink)] if lease.sink is not None else []
    session.leases.attach(lease, session.sink)
    session.lease, session.token = lease, lease.token
    gap_buffer = session.gap_buffer = GapBuffer(lease.names, whole=True, topics_max=session.gap_topics_max)
    session.leases.bound(lease, identity.until)
    session.leases.extend(lease, now, session.granted_ttl_ms(hello.ttl_ms) / 1000)
    return [*others, *session.work_through(_resume(session, lease, hello, gap_buffer, now))]


def _resume(session: SessionCore, lease: Lease, hello: Hello, gap_buffer: GapBuffer, now: float) -> Steps:
    """Ask for every change of the lease's names above `since`, tombstones included, for a client that has seen more.

    If some of them may not be read any more, the session is not resumed: its client asks for all again, and is told.
    """
    names, identity = tuple(lease.names), session.identity
    if lease.identity is not None and lease.identity.grant is not identity.grant:
        try:
            denied: Sequence[str] = yield from unreadable_names(session, identity.grant, names)
        except NamesUnasked:
            denied = names
        if denied:
            session.end_lease()
    if session.held_lease() is None:
        return session.ask(PendingHello(Query(witness=hello.position), hello, now))
    session.leases.belong(lease, identity)
    session.leases.extend(lease, now)
    since, limit = hello.since or 0, session.gap_topics_max
    topics: dict[str, int] = {}
    prefixes: dict[str, int] = {}

    def sort(portion: Collection[str]) -> None:
        for name in portion:
            if is_prefix(name):
                prefixes[name] = since
            else:
                topics[name] = 0

    yield from session.in_portions(names, sort)
    query = Query(topics, prefixes, hello.position, after=since, listed=since, limit=limit)
    return session.ask(PendingHello(query, hello, now, gap_buffer))


def join(session: SessionCore, message: Subscribe, now: float) -> list[Effect]:
    """Enter the names of a subscribe behind hello into a lease, and have one read answer both (P-CONN-16)."""
    hello = session.pending
    assert isinstance(hello, PendingHello)
    return session.work_through(_join(session, hello, message, now), rests_on_lease=False)


def _join(session: SessionCore, hello: PendingHello, message: Subscribe, now: float) -> Steps:
    try:
        yield from session.check_request(message.topics, message.prefixes)
        ttl_s = session.granted_ttl_ms(hello.request.ttl_ms) / 1000
        lease = session.grant_lease(session.tokens(), now, ttl_s)
        joined = yield from enter(session, lease, message, hello.request.position)
    except RequestError:
        # Hello is not at fault: the subscribe is refused behind the welcome.
        session.end_lease()
        return session.ask(replace(hello, kept=message))
    return session.ask(PendingHello(joined.query, hello.request, hello.at, joined=joined))


def keep_for_welcome(session: SessionCore, message: Message, _now: float) -> list[Effect]:
    """Keep a message that came behind hello until that is answered."""
    hello = session.pending
    assert isinstance(hello, PendingHello)
    hello.kept = message
    return []


def keep_unreadable(session: SessionCore, error: RequestError, request: Id | None) -> list[Effect]:
    """Keep a message that came behind hello, and that could not be decoded, until hello is answered."""
    hello = session.pending
    assert isinstance(hello, PendingHello)
    hello.kept = Unreadable(error, request)
    return []


def reject_second_hello(_session: SessionCore, _hello: Hello, _now: float) -> list[Effect]:
    """Answer a hello on a connection that had one with an error, and nothing more (P-CONN-1)."""
    return [send_error(Invalid("hello was said already: it opens a connection, once"), None)]


def welcome(session: SessionCore, pending: PendingHello, page: Page, now: float) -> list[Effect]:
    """Answer hello by what the store held: with all that was missed, or with a new session (P-RES-3)."""
    if pending.joined is not None:
        return _welcome_joined(session, pending, pending.joined, page, now)
    if pending.gap_buffer is None:
        return _welcome_new(session, pending, page.position, now)
    lease = session.living_lease(now)
    missed = _missed(pending.query, pending.gap_buffer, page)
    if lease is None or missed is None or session.identity.generation != session.gate.generation:
        return _welcome_new(session, pending, page.position, now)
    session.pending = None
    session.state = State.OPEN
    session.repairs["resumed"] += 1
    said = _welcome(session, pending, lease, page.position, now, resumed=True)
    return [*said, Replay(missed)] if missed else said


def _welcome_joined(
    session: SessionCore, pending: PendingHello, joined: PendingSubscribe, page: Page, now: float
) -> list[Effect]:
    lease = session.living_lease(now)
    if lease is None:
        # It ended while the store was read: the subscribe is taken as if it came behind the welcome.
        pending.kept = joined.request
        return _welcome_new(session, pending, page.position, now)
    session.pending = None
    session.announce_lease(lease, now)
    said = _welcome(session, pending, lease, page.position, now, resumed=False)
    return [*said, *subscribe_page(session, joined, page, now)]


def _missed(query: Query, gap_buffer: GapBuffer, page: Page) -> list[Record] | None:
    """Return all that a resuming client has missed; None if `page` and the gap buffer are not all of it (P-RES-3)."""
    if gap_buffer.overflowed or page.more or page.floor > query.after:
        return None
    return [*page.records, *gap_buffer.release(page.position.revision)]


def refuse_or_reset(session: SessionCore, pending: PendingHello, error: RequestError, now: float) -> list[Effect]:
    """Reset a client whose position is off the history (P-REW-3); refuse it for any other error.

    A subscribe that joined is of the history that is gone: its names leave with the lease that it entered.
    """
    if error.code == "rewound" and error.position is not None:
        session.repairs["reset"] += 1
        said = _welcome_new(session, pending, error.position, now, reset=True)
        if pending.joined is not None and session.held_lease() is not None:
            return [*said, send_error(error, pending.joined.request.id)]
        return said
    return refuse(session, error, _code_for(error))


def _code_for(error: RequestError) -> CloseCode:
    if isinstance(error, Unauthenticated):
        return CloseCode.UNAUTHENTICATED
    return CloseCode.OVERLOADED if isinstance(error, Overloaded) else CloseCode.UNAVAILABLE


def _welcome_new(
    session: SessionCore, pending: PendingHello, position: Position, now: float, *, reset: bool = False
) -> list[Effect]:
    if pending.gap_buffer is not None:
        session.repairs["not_resumed"] += 1
    session.pending = None
    session.unresumed = pending.request.session is not None
    session.token = session.tokens()
    try:
        lease = session.begin_lease(now, session.granted_ttl_ms(pending.request.ttl_ms) / 1000)
    except Overloaded as error:
        return refuse(session, error, CloseCode.OVERLOADED)
    return _welcome(session, pending, lease, position, now, resumed=False, reset=reset)


def _welcome(
    session: SessionCore,
    pending: PendingHello,
    lease: Lease,
    position: Position,
    now: float,
    *,
    resumed: bool,
    reset: bool = False,
) -> list[Effect]:
    terms = session.terms()
    changed = set_beat(session, pending.request.beat_ms)
    ttl_ms = session.told_ttl_ms(lease, pending.at)
    welcome = messages.Welcome(
        session=lease.token,
        resumed=resumed,
        reset=reset or UNSET,
        node=terms.node,
        position=position,
        ttl_ms=ttl_ms,
        renew_ms=renew_ms(ttl_ms),
        timeout_ms=terms.timeout_ms,
        poll=terms.poll,
        recover=terms.recover,
        limits=terms.limits,
        durability=terms.durability,
        level=LEVEL,
        beat_ms=session.beat_ms,
        clock_ms=clock_ms(now),
        credentials_ms=session.credentials_ms(pending.at),
        subject=session.subject,
    )
    moved = session.moved_to
    if moved is not None and moved.revision > position.revision:
        # As if it passed now: one that does so while this waits behind the welcome replaces it.
        return [Send(welcome), SendFirst(messages.PositionMoved(moved)), *changed]
    return [Send(welcome), *changed]


def refuse_unasked(session: SessionCore, _pending: PendingInquiry, error: RequestError) -> list[Effect]:
    """Refuse a hello of which nobody can tell just now whether its credentials are good (P-AUTH-12)."""
    session.pending = None
    return refuse(session, error, _code_for(error))


def keep_position(session: SessionCore, position: Position) -> list[Effect]:
    """Keep a position for after the welcome, unless the welcome will be beyond it."""
    session.moved_to = position
    return []


def send_position(_session: SessionCore, position: Position) -> list[Effect]:
    """Tell the client that a lineage row has passed (P-REW-6)."""
    return [SendFirst(messages.PositionMoved(position))]
