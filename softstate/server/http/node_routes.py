"""What a node says of itself: alive, ready, counters, and a snapshot for people."""

from __future__ import annotations

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from softstate.errors import Unavailable
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Reply, Request

READY_RETRY_MS = 1_000
"""When to look again at a node that is not ready."""


async def healthz(_context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /healthz``: 200 as long as this process answers at all."""
    codec = request.accepted()
    return Reply(200, codec.dumps({"status": "ok"}), codec.content_type)


async def readyz(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /readyz``: 200 while clients should be sent here, else 503."""
    if context.services.draining:
        raise Unavailable("this node is shutting down", retry_ms=READY_RETRY_MS)
    if not context.services.ready:
        raise Unavailable("the store does not answer, or the node lags behind it", retry_ms=READY_RETRY_MS)
    codec = request.accepted()
    return Reply(200, codec.dumps({"status": "ready"}), codec.content_type)


async def metrics(context: HttpContext, _request: Request) -> Reply:
    """Answer ``GET /metrics`` in Prometheus's text format."""
    return Reply(200, context.services.metrics(), CONTENT_TYPE_PLAIN_0_0_4)


async def status(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /v1/status``."""
    codec = request.accepted()
    return Reply(200, codec.dumps(await context.services.status()), codec.content_type)
