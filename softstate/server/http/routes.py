"""The route table, the routes about the node itself, and the parts that all routes have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from softstate.errors import Invalid, NotFound, RequestError, Unavailable
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Refused, Reply, Request, fail, position_headers
from softstate.server.http.poll_routes import list_topics, poll
from softstate.server.http.topic_routes import PATH as TOPIC_PATH, delete_topic, get_topic, publish_batch, put_topic

Handler: TypeAlias = Callable[[HttpContext, Request], Awaitable[Reply]]

READY_RETRY_MS = 1_000
"""Delay after which to ask again whether a node is ready."""

# The node itself -----------------------------------------------------------------------------------------------------


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


# The table -----------------------------------------------------------------------------------------------------------

TOPIC_ROUTE = f"{TOPIC_PATH}{{topic}}"
WEBSOCKET_PATH = "/v1/ws"

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    TOPIC_ROUTE: {"GET": get_topic, "PUT": put_topic, "DELETE": delete_topic},
    "/v1/topics": {"GET": list_topics},
    "/v1/poll": {"POST": poll},
    "/v1/publish": {"POST": publish_batch},
    "/v1/status": {"GET": status},
    "/healthz": {"GET": healthz},
    "/readyz": {"GET": readyz},
    "/metrics": {"GET": metrics},
}


def route_name(path: str) -> str:
    """Return the route that a path belongs to, or ``other``: a peer cannot make the counters grow."""
    if path.startswith(TOPIC_PATH):
        return TOPIC_ROUTE
    return path if path in ROUTES or path == WEBSOCKET_PATH else "other"


def methods_of(path: str) -> list[str]:
    """List the methods that a path answers. Raises `Refused` with 404 and the list of routes if there is none."""
    return ["OPTIONS", *(["HEAD"] if "GET" in (found := _handlers(path)) else []), *found]


def find(request: Request) -> Handler:
    """Return the handler of a request. Raises `Refused` with 404, or with 405 and ``Allow``."""
    handlers = _handlers(request.path)
    method = "GET" if request.method == "HEAD" else request.method
    if method in handlers:
        return handlers[method]
    allowed = ", ".join(methods_of(request.path))
    raise Refused(405, Invalid(f"this route answers {allowed}, not {request.method[:32]}"), [("Allow", allowed)])


def _handlers(path: str) -> Mapping[str, Handler]:
    handlers = ROUTES.get(route_name(path))
    if handlers is None:
        raise Refused(404, NotFound(f"no such route; there are {', '.join([*ROUTES, WEBSOCKET_PATH])}"))
    return handlers


# Every route ---------------------------------------------------------------------------------------------------------


async def answer(context: HttpContext, request: Request, handler: Handler) -> Reply:
    """Run a handler; turn an error that it raises for the client into the reply."""
    try:
        return with_common_headers(context, request, await handler(context, request))
    except (RequestError, Refused) as error:
        return refusal(context, request, error)


def refusal(context: HttpContext, request: Request, error: RequestError | Refused) -> Reply:
    """Write an error as the reply to a request."""
    if isinstance(error, Refused):
        return with_common_headers(context, request, fail(error.error, request.accepted(), error.status, error.headers))
    return with_common_headers(context, request, fail(error, request.accepted()))


def with_common_headers(context: HttpContext, request: Request, reply: Reply) -> Reply:
    """Add the headers that every reply of its kind carries (P-HTTP-2).

    An answer without a read, such as most errors, carries the hub's position, which certifies nothing.
    """
    if not request.path.startswith("/v1/"):
        return reply.with_headers(("Cache-Control", "no-store"))
    if not reply.has_header("Softstate-Position"):
        reply = reply.with_headers(*position_headers(context.hub.position))
    return reply.with_headers(("Cache-Control", "no-cache"), ("Vary", "Accept, Origin"))
