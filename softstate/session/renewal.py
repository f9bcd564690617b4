"""Renewing a lease: extended on receipt, answered when the hub has applied all that was committed before (P-REN-2)."""

from __future__ import annotations

import math

from softstate.errors import RequestError, Unavailable
from softstate.lease.table import Lease
from softstate.position import Position
from softstate.session.beats import names_history_of, set_beat
from softstate.session.effects import Effect, Send
from softstate.session.load_advice import renew_ms
from softstate.session.permission import judge_again
from softstate.session.request import PendingRenew, Steps, clock_ms, send_error
from softstate.session.state import SessionCore
from softstate.wire.messages import Id, Renew, Renewed
from softstate.wire.subscription_digest import digest_text


def renew(session: SessionCore, message: Renew, now: float) -> list[Effect]:
    """Extend the lease, before any read (P-REN-5), and ask for the store's head."""
    identity = session.credentials(now)
    lease = session.living_lease(now)
    if lease is None:
        return _no_lease(session, message.id)
    if lease.identity is not identity:
        session.leases.bound(lease, identity.until)
    session.leases.extend(lease, now, None if message.ttl_ms is None else session.granted_ttl_ms(message.ttl_ms) / 1000)
    if lease.identity is identity:
        return session.ask(PendingRenew(message, now))
    return session.work_through(_judge_and_ask(session, lease, message, now), message.id)


def _judge_and_ask(session: SessionCore, lease: Lease, message: Renew, now: float) -> Steps:
    said = yield from judge_again(session, lease)
    return said if session.held_lease() is None else [*said, *session.ask(PendingRenew(message, now))]


def answer_renew(
    session: SessionCore, pending: PendingRenew, position: Position, sent: int, now: float, lag_s: float
) -> list[Effect]:
    """Certify what was pushed up to `position`, which the hub has reached, as of `lag_s` before the request."""
    session.pending = None
    if session.gap_buffer is not None and session.gap_buffer.over(position.revision):
        session.gap_buffer = None
    lease = session.living_lease(now)
    if lease is None:
        return _no_lease(session, pending.request.id)
    return _renewed(session, lease, pending, position, sent, now, store_ok=True, lag_s=lag_s)


def fail_renew(
    session: SessionCore, pending: PendingRenew, error: RequestError, position: Position, sent: int, now: float
) -> list[Effect]:
    """Answer without a certificate: the lease is extended, even while the store is down (P-REN-10)."""
    session.pending = None
    lease = session.living_lease(now)
    if lease is None:
        return _no_lease(session, pending.request.id)
    if isinstance(error, Unavailable):
        if session.named is not None and not names_history_of(session, position):
            position = session.named  # the client is not led back into a history that is over
        return _renewed(session, lease, pending, position, sent, now, store_ok=False)
    return [send_error(error, pending.request.id)]


def refuse_renew(session: SessionCore, message: Renew, now: float) -> list[Effect]:
    """Answer that there is no lease to extend (P-REN-7)."""
    session.credentials(now)
    return _no_lease(session, message.id)


def _no_lease(session: SessionCore, request: Id) -> list[Effect]:
    return [send_error(session.lose_lease(), request)]


def _renewed(
    session: SessionCore,
    lease: Lease,
    pending: PendingRenew,
    position: Position,
    sent: int,
    now: float,
    *,
    store_ok: bool,
    lag_s: float = 0.0,
) -> list[Effect]:
    terms, request = session.terms(), pending.request
    ttl_ms = session.told_ttl_ms(lease, pending.at)
    match = request.count == lease.count and request.digest == digest_text(lease.digest)
    if not match and not (session.unresumed or session.unaware):  # else the client did not know (P-CONN-16, P-AUTH-5)
        session.repairs["mismatch"] += 1
    session.unresumed = False
    session.unaware = session.unaware and not match
    session.agreed = lease.digest if match else None
    changed = set_beat(session, request.beat_ms)
    renewed = Renewed(
        request.id,
        match=match,
        position=position,
        sent=sent,
        ttl_ms=ttl_ms,
        renew_ms=renew_ms(ttl_ms),
        poll=terms.poll,
        recover=terms.recover,
        store="ok" if store_ok else "down",
        lag_ms=math.ceil(lag_s * 1000),
        beat_ms=session.beat_ms,
        clock_ms=clock_ms(now),
        credentials_ms=session.credentials_ms(pending.at),
    )
    return [Send(renewed), *changed]
