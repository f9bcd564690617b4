"""Requests that wait for the callout (P-AUTH-12, P-AUTH-15), and those that it leaves without an answer."""

from __future__ import annotations

from softstate.errors import RequestError
from softstate.session.effects import Effect, Submit
from softstate.session.request import PendingInquiry, send_error
from softstate.session.state import SessionCore
from softstate.session.subscription import refuse_subscribe
from softstate.wire.messages import Hello, Publish, Subscribe


def fail_inquiry(session: SessionCore, pending: PendingInquiry, error: RequestError) -> list[Effect]:
    """Answer that nobody can tell just now; credentials, and the rights to other names, stay as they are."""
    session.pending = None
    match pending.request:
        case Subscribe() as request:
            return refuse_subscribe(session, request, error)
        case Publish() as request:
            return [Submit(request, refused=error)]
        case Hello():
            return [send_error(error, None)]
        case request:
            return [send_error(error, request.id)]
