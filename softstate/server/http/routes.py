"""The route table, and what every route has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from softstate.errors import Invalid, NotFound, RequestError
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Refused, Reply, Request, fail, stamps
from softstate.server.http.node_routes import healthz, metrics, readyz, status
from softstate.server.http.poll_routes import list_topics, poll
from softstate.server.http.topic_routes import PATH as TOPIC_PATH, delete_topic, get_topic, publish_batch, put_topic

Handler: TypeAlias = Callable[[HttpContext, Request], Awaitable[Reply]]

WEBSOCKET_PATH = "/v1/ws"

_TOPIC: Mapping[str, Handler] = {"GET": get_topic, "PUT": put_topic, "DELETE": delete_topic}

_ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/v1/topics": {"GET": list_topics},
    "/v1/poll": {"POST": poll},
    "/v1/publish": {"POST": publish_batch},
    "/v1/status": {"GET": status},
    "/healthz": {"GET": healthz},
    "/readyz": {"GET": readyz},
    "/metrics": {"GET": metrics},
}

_LIST = ", ".join([f"{TOPIC_PATH}{{topic}}", *_ROUTES, WEBSOCKET_PATH])


def route_name(path: str) -> str:
    """Return the route that a path belongs to, for counting: one of few words, whatever a peer sends."""
    if path.startswith(TOPIC_PATH):
        return f"{TOPIC_PATH}{{topic}}"
    return path if path in _ROUTES or path == WEBSOCKET_PATH else "other"


def methods_of(path: str) -> list[str]:
    """List the methods that a path answers. Raises `Refused` with 404 and the list of routes if it is none."""
    return ["OPTIONS", *(["HEAD"] if "GET" in (found := _handlers(path)) else []), *found]


def find(request: Request) -> Handler:
    """Return what answers a request. Raises `Refused` with 404, or with 405 and ``Allow``."""
    handlers = _handlers(request.path)
    method = "GET" if request.method == "HEAD" else request.method
    if method in handlers:
        return handlers[method]
    allowed = ", ".join(methods_of(request.path))
    raise Refused(405, Invalid(f"this route answers {allowed}, not {request.method[:32]}"), [("Allow", allowed)])


def _handlers(path: str) -> Mapping[str, Handler]:
    if path.startswith(TOPIC_PATH):
        return _TOPIC
    if path not in _ROUTES:
        raise Refused(404, NotFound(f"no such route; there are {_LIST}"))
    return _ROUTES[path]


async def answer(context: HttpContext, request: Request, handler: Handler) -> Reply:
    """Run a handler; an error that it raises on purpose becomes the reply."""
    try:
        return stamp(context, request, await handler(context, request))
    except (RequestError, Refused) as error:
        return refusal(context, request, error)


def refusal(context: HttpContext, request: Request, error: RequestError | Refused) -> Reply:
    """Write an error as the reply to a request."""
    if isinstance(error, Refused):
        return stamp(context, request, fail(error.error, request.accepted(), error.status, error.headers))
    return stamp(context, request, fail(error, request.accepted()))


def stamp(context: HttpContext, request: Request, reply: Reply) -> Reply:
    """Add the headers that every reply of its kind carries (P-HTTP-2).

    An answer that no read is behind, such as most errors, names the hub's position: it certifies nothing.
    """
    if not request.path.startswith("/v1/"):
        return reply.plus(("Cache-Control", "no-store"))
    if not reply.has("Softstate-Position"):
        reply = reply.plus(*stamps(context.hub.position))
    return reply.plus(("Cache-Control", "no-cache"), ("Vary", "Accept, Origin"))
