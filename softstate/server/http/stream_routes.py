"""Streams of server-sent events: the request, its refusals, and the head of the reply (P-SSE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softstate.errors import Invalid, NotFound, RequestError
from softstate.position import Position
from softstate.server.events.endings import ENDINGS
from softstate.server.events.request import StreamRequest
from softstate.server.http.arguments import StreamBody
from softstate.server.http.context import HttpContext
from softstate.server.http.credentials import check_read, denied_names
from softstate.server.http.message import Request
from softstate.server.http.names import check_names
from softstate.server.http1 import Header, Refused, Reply
from softstate.wire.codec.events import EVENT_STREAM
from softstate.wire.event_stream import Ending, Gone, gone_event

STREAM_HEADERS: tuple[Header, ...] = (
    # Nothing on the way may keep, compress or hold back any of it: ages would be right, but large.
    ("Cache-Control", "no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
    ("Incremental", "?1"),
)


async def asked_stream(context: HttpContext, request: Request) -> StreamRequest:
    """Check a request for a stream (P-SSE-1). Raises `Refused`, and a `RequestError`."""
    if context.config.role == "poll":
        raise Refused(404, NotFound("this node serves no streams (its role is poll): poll it, or ask another node"))
    seen = _seen(request)
    body: StreamBody | None = request.content
    topics, prefixes = _names(request.given) if body is None else (body.topics, body.prefixes)
    names = [*topics, *prefixes]
    if not names:
        raise Invalid("name at least one topic or prefix: ?topic=orders/42, ?prefix=orders/ for all below, ?prefix=/")
    await check_names(context, topics, prefixes)
    denied = denied_names(request, names)
    if denied:
        context.gate.check_asked(request.identity, "read", denied)
    if len(denied) == len(names):
        check_read(context.gate, request, names[0])
    if seen is not None:
        return StreamRequest(dict.fromkeys(topics, 0), dict.fromkeys(prefixes, seen.revision), seen, seen.revision)
    return StreamRequest(topics, prefixes, body.witness if body is not None else None)


def _names(given: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    return dict.fromkeys(given.get("topic", ()), 0), dict.fromkeys(given.get("prefix", ()), 0)


def _seen(request: Request) -> Position | None:
    """Return the position that a stream goes on from: that of the last event is later than that of the address.

    A position that is none is refused even if it is not the one that counts: an address is wrong on a reconnect, too.
    """
    asked = {"Last-Event-ID": request.header("last-event-id"), "since": request.given.get("since")}
    seen = [_position(name, text) for name, text in asked.items() if text]
    return seen[0] if seen else None


def _position(name: str, text: str) -> Position:
    position = Position.parse(text)
    if position is None or not position.revision:
        raise Invalid(f"{name} must be the id of an event of a stream, epoch.lineage.revision")
    return position


def stream_reply() -> Reply:
    """Return the head of the reply that a stream is."""
    return Reply(200, b"", EVENT_STREAM, STREAM_HEADERS)


def ended_stream(error: RequestError, draw: float) -> Reply:
    """Return a stream that ends at once, for an error that time mends (P-SSE-7).

    A browser takes 503 for the end of it all.

    `draw`, between 0 and 1, spreads those that come back.
    """
    reason: Ending = "draining" if error.retry_ms == 0 else "overloaded"
    least_ms, spread_ms = ENDINGS[reason]
    gone = Gone(reason, error.retry_ms or least_ms, spread_ms)
    body = gone_event(gone, round(gone.retry_ms + draw * spread_ms))
    return Reply(200, body, EVENT_STREAM, STREAM_HEADERS)
