"""The end of a lease, and the end of a connection."""

from __future__ import annotations

from softstate.errors import Invalid, RequestError
from softstate.session.effects import Close, DropPending, Effect, Send
from softstate.session.request import send_error
from softstate.session.state import SessionCore
from softstate.wire.close_codes import CLOSE_FOR, CloseCode
from softstate.wire.messages import ClientBye, Farewell, Id, Message, Reason, Revoked, ServerBye

# The lease -----------------------------------------------------------------------------------------------------------


def expire(session: SessionCore, reason: Reason, retry_ms: int | None) -> list[Effect]:
    """End the lease and say so, keep the connection (P-CONN-8). What waits to be written rests on it, and is dropped.

    A poll under way goes on: it needs no lease.
    """
    session.lapse()
    if session.pending is not None and session.pending.rests_on_lease:
        session.pending = None
    return [DropPending(), Send(Revoked(reason, retry_ms, session.terms().recover.spread_ms))]


def revoke(session: SessionCore, reason: Reason, retry_ms: int | None) -> list[Effect]:
    """End the lease before its time, which is counted as a repair."""
    session.repairs[reason] += 1
    return expire(session, reason, retry_ms)


def deny(session: SessionCore, reason: Reason, retry_ms: int | None) -> list[Effect]:
    """Revoke the lease, and refuse every subscribe and poll until other credentials are presented: no repair.

    Others may have been presented since the lease ended. These are good, so that a lease is all that is missing.
    """
    if _has_other_credentials(session):
        return expire(session, "expired", None)
    session.denied = True
    return expire(session, reason, retry_ms)


def reset_outbox(session: SessionCore, _reason: Reason, _retry_ms: int | None) -> list[Effect]:
    """End a lease that the client does not know to have: there is nothing to tell.

    `DropPending` also clears the outbox's overflow flag; otherwise it would discard the pushes of a later lease.
    """
    session.end_lease()
    return [DropPending()]


def deny_ahead(session: SessionCore, reason: Reason, retry_ms: int | None) -> list[Effect]:
    """Refuse every subscribe and poll, though there is no lease to revoke."""
    session.denied = not _has_other_credentials(session)
    return reset_outbox(session, reason, retry_ms)


def _has_other_credentials(session: SessionCore) -> bool:
    lease = session.lease
    return lease is not None and lease.identity is not None and lease.identity.token != session.identity.token


# The connection ------------------------------------------------------------------------------------------------------


def accept_bye(session: SessionCore, _message: ClientBye, _now: float) -> list[Effect]:
    """Release the lease at once (P-CONN-9)."""
    session.end_lease()
    session.detach()
    return [Close(CloseCode.DRAINING, "bye")]


def refuse(session: SessionCore, error: RequestError, code: CloseCode) -> list[Effect]:
    """End a connection that cannot go on, with the reason. The lease keeps its TTL."""
    session.detach()
    return [send_error(error, None), Close(code, error.message[:100])]


def refuse_unless_hello(session: SessionCore, _message: Message, _now: float) -> list[Effect]:
    """End a connection that does not begin with hello (P-CONN-1)."""
    return refuse(session, Invalid("the first message must be hello"), CloseCode.PROTOCOL)


def refuse_unreadable(session: SessionCore, error: RequestError, _request: Id | None) -> list[Effect]:
    """End a connection whose first message cannot be decoded."""
    return refuse(session, error, CloseCode.PROTOCOL)


def report_unreadable(_session: SessionCore, error: RequestError, request: Id | None) -> list[Effect]:
    """Say that a message could not be decoded; the connection goes on (P-WIRE-9)."""
    return [send_error(error, request)]


def leave(session: SessionCore, reason: Farewell, retry_ms: int) -> list[Effect]:
    """Say goodbye. The lease keeps its TTL."""
    session.detach()
    bye = ServerBye(reason, retry_ms, session.terms().recover.spread_ms)
    return [Send(bye), Close(CLOSE_FOR[reason], reason)]


def leave_and_release(session: SessionCore, reason: Farewell, retry_ms: int) -> list[Effect]:
    """Say goodbye, and release the lease."""
    session.end_lease()
    return leave(session, reason, retry_ms)


def leave_to_other(session: SessionCore, reason: Farewell, retry_ms: int) -> list[Effect]:
    """Say goodbye: another connection has resumed the session, and has its lease (P-RES-6)."""
    session.lease = None
    return leave(session, reason, retry_ms)


def detach(session: SessionCore) -> list[Effect]:
    """Take note that the connection is gone: the lease keeps its names alone, until its TTL ends (P-RES-1)."""
    session.detach()
    return []
