"""Tickets over HTTP: made for who presents a token, and redeemed once, by the store's compare-and-set (P-AUTH-14)."""

from __future__ import annotations

import secrets
from hashlib import sha256

from softstate.auth.answers import Unasked
from softstate.auth.identity import Why, refused
from softstate.auth.tickets import SECRET_BYTES, TICKET_S, opened, sealed, ticket_of, topic_of, unknown_ticket
from softstate.errors import Conflict, Invalid, Unauthenticated
from softstate.model import Query
from softstate.server.http.asking import ask_first
from softstate.server.http.context import HttpContext
from softstate.server.http.credentials import bearer
from softstate.server.http.message import Request
from softstate.server.http.replies import Ticket
from softstate.server.http1 import Reply
from softstate.store.base import Write
from softstate.wire.request_digest import request_digest


async def make_ticket(context: HttpContext, request: Request) -> Reply:
    """Answer ``POST /v1/ticket``: a ticket that stands for the token of this request."""
    if context.gate.open:
        raise Invalid("this node checks no credentials: nothing asks for a ticket")
    token = bearer(request)
    if token is None or request.certificate is not None:
        raise refused(Why.MISSING, "a ticket stands for a token: present one as Authorization: Bearer")
    ticket = ticket_of(secrets.token_bytes(SECRET_BYTES))
    topic, value = topic_of(ticket), sealed(ticket, token, context.gate.wall() + TICKET_S)
    context.gate.check_ticket(request.identity, request.address)
    context.gate.check_publish(request.identity, request.address, topic, len(value))
    await context.writes.publish(Write(topic, value, 0, None, None, request_digest(topic, value, 0, None)))
    codec = request.accepted()
    return Reply(200, codec.dumps(Ticket(ticket, TICKET_S * 1000)), codec.content_type)


async def redeem(context: HttpContext, request: Request, ticket: str) -> None:
    """Have a request present the token that a ticket stands for, which is of no use from then on.

    Raises `Unauthenticated`, the errors of a read and a publish, and, before it is used up, `Invalid` if other
    credentials are beside it, or if HEAD asks, which opens no stream; and `Overloaded` for too many that never were.
    """
    if request.credentials is not None or request.certificate is not None:
        raise Invalid("present a ticket or other credentials, a token or a certificate, not both")
    if request.method == "HEAD":
        raise Invalid("a ticket is good once, and HEAD would use it up: ask for the stream with GET")
    context.gate.check_failures(sha256(ticket.encode()).digest(), request.address)
    try:
        token = await _token_of(context, request, ticket)
    except Unauthenticated as error:
        context.gate.note_refused(error, None, request.address)
        raise
    request.credentials = b"Bearer " + token.encode()
    request.arrived = context.gate.now()
    try:
        request.identity = context.gate.present(token, request.arrived, request.address)
    except Unasked as unasked:
        await ask_first(context, unasked, request.address)
        request.identity = context.gate.present(token, request.arrived, request.address)


async def _token_of(context: HttpContext, request: Request, ticket: str) -> str:
    """Return what a ticket stands for, and use it up. One that never was counts as a token does that is not good."""
    try:
        topic = topic_of(ticket)
    except Unauthenticated:
        context.gate.note_failure(request.address)
        raise
    page = await context.reads.read(Query({topic: 0}))
    record = page.records[0] if page.records else None
    if record is None or record.cbor is None:
        # One that was used has a tombstone, and does not count: an `EventSource` comes back with it by itself.
        if record is None and not (await context.reads.with_tombstone(topic, page)).records:
            context.gate.note_failure(request.address)
        raise unknown_ticket()
    digest = request_digest(topic, None, record.version, None)
    try:
        await context.writes.publish(Write(topic, None, record.version, None, None, digest))
    except Conflict:
        raise unknown_ticket() from None  # another request has used it
    return opened(ticket, record.cbor, context.gate.wall())
