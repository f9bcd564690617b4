"""The access log: a line for each answer over HTTP, and for each handshake, with what ties it to the caller's traces.

Query strings are left out, and bodies: a ticket stands in one, and values in the other.
"""

from __future__ import annotations

import structlog
import trio

from softstate.server.auth.gate import NodeGate
from softstate.server.http.forwarded import client_of
from softstate.server.http.message import Request

REQUEST_ID_CHARS_MAX = 128
"""Longest ``X-Request-Id`` that is shown; one that is longer is left out."""

log = structlog.get_logger("softstate.access")


def note_answer(gate: NodeGate, request: Request, status: int) -> None:
    """Write the line of a request that is answered now."""
    log.info(
        "request answered",
        method=request.method,
        path=request.path,
        status=status,
        ms=round((trio.current_time() - request.began) * 1000, 1),
        peer=client_of(gate, request),
        who=gate.shown(request.identity),
        **_ties(request),
    )


def _ties(request: Request) -> dict[str, str]:
    ties = {}
    request_id = request.header("x-request-id")
    if request_id is not None and 0 < len(request_id) <= REQUEST_ID_CHARS_MAX:
        ties["request_id"] = request_id
    traced = request.traceparent()
    if traced is not None:
        ties["trace"] = traced.split("-")[1]
    return ties
