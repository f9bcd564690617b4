"""The route table, the routes about the node itself, and the parts that all routes have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from softstate.auth.failures import FAILURES
from softstate.auth.lasting import NOBODY
from softstate.auth.name_answers import NamesUnasked
from softstate.errors import (
    Conflict,
    Invalid,
    NotFound,
    Overloaded,
    RequestError,
    TryLater,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from softstate.server.events.request import StreamRequest
from softstate.server.fanout.turns import FREE_BYTES
from softstate.server.http import about, parameters
from softstate.server.http.about import About
from softstate.server.http.arguments import (
    VALUE,
    AnyNames,
    BatchBody,
    Parameters,
    PollBody,
    check_size,
    names_of,
    read_body,
    read_query,
)
from softstate.server.http.asking import answered
from softstate.server.http.context import HttpContext, Settle
from softstate.server.http.credentials import (
    challenge,
    check_admin,
    credentials_header,
    credentials_ms,
    identify,
    presented_by,
    stands,
    still_stands,
)
from softstate.server.http.explain_route import EXPLAIN_PATH, explain
from softstate.server.http.message import Request, fail, position_headers
from softstate.server.http.openapi_route import OPENAPI_PATH, openapi
from softstate.server.http.poll_routes import begin_poll, list_topics, poll, poll_unchanged
from softstate.server.http.replies import Health, WhoAmI
from softstate.server.http.stream_routes import asked_stream, ended_stream
from softstate.server.http.ticket_routes import make_ticket, redeem
from softstate.server.http.topic_routes import (
    PATH as TOPIC_PATH,
    begin_put,
    delete_topic,
    get_topic,
    publish_batch,
    put_topic,
)
from softstate.server.http.web_routes import page_file, web_file
from softstate.server.http1 import Refused, Reply
from softstate.web import PAGE_PATHS, WEB_PATHS
from softstate.wire.levels import LEVEL, LEVEL_HEADER

Handler: TypeAlias = Callable[[HttpContext, Request], Awaitable[Reply]]
"""Answers a request, in a task of its own."""

HandlerNow: TypeAlias = Callable[[HttpContext, Request], Reply]
"""Answers a request at once."""

HandlerBegun: TypeAlias = Callable[[HttpContext, Request, Settle, Callable[[], None]], bool]
"""Begins to answer a request, and calls back once, also at once; returns False if that takes a task.

Its last argument is called if a bug ends what was begun.
"""

LEVEL_TOLD = (LEVEL_HEADER, str(LEVEL))
"""The header that tells the level of the protocol (P-WIRE-10)."""

NOT_STORED = ("Cache-Control", "no-store")
VARIES = ("Vary", "Accept, Authorization, Origin")
"""The headers of a request that a reply depends on; also ``Origin``, since a page of another one is refused."""

CODING_SHOWN_CHARS_MAX = 64
"""Characters of an unknown coding that its refusal repeats."""

RULES_RETRY_MS = 500
"""Delay after which a client is told to try again if the rules changed each time that its request was answered."""

RULES_CHANGES_MAX = 3
"""Most times that a request is answered again because the rules have changed while it was answered."""

READY_RETRY_MS = 1_000
"""Delay after which to ask again whether a node is ready."""

# The node itself -----------------------------------------------------------------------------------------------------


def healthz(_context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /healthz``: 200 as long as this process answers at all."""
    codec = request.accepted()
    return Reply(200, codec.dumps(Health("ok")), codec.content_type)


def readyz(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /readyz``: 200 while clients should be sent here, else 503.

    A store that is down must not empty a Kubernetes Service: its clients would lose what this node tells them of when
    to come back. Who asks for that as well says ``/readyz?store``.
    """
    services = context.services
    if services.draining:
        raise Unavailable("this node is shutting down", retry_ms=READY_RETRY_MS)
    because = services.lagging
    if because is None and "store" in request.query.split("&"):
        because = services.unready
    if because is not None:
        raise Unavailable(because, retry_ms=READY_RETRY_MS)
    codec = request.accepted()
    return Reply(200, codec.dumps(Health("ready")), codec.content_type)


async def metrics(context: HttpContext, _request: Request) -> Reply:
    """Answer ``GET /metrics`` in Prometheus's text format."""
    return Reply(200, await context.services.scrape(), CONTENT_TYPE_PLAIN_0_0_4)


async def status(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /v1/status``."""
    codec = request.accepted()
    return Reply(200, codec.dumps(await context.services.status()), codec.content_type)


def whoami(_context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /v1/whoami``: whose the credentials of this request are, and what they allow."""
    codec, identity, grant = request.accepted(), request.identity, request.identity.grant
    read, write = list(map(str, grant.patterns("read"))), list(map(str, grant.patterns("write")))
    told = WhoAmI(identity.issuer, identity.subject, grant.admin, read, write, credentials_ms(request))
    return Reply(200, codec.dumps(told), codec.content_type)


# The table -----------------------------------------------------------------------------------------------------------

TOPIC_ROUTE = f"{TOPIC_PATH}{{topic}}"
WEBSOCKET_PATH = "/v1/ws"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route: its handler, and all that its query string and its body may hold.

    `body` is the kind of the body: None where there is none. A route that never waits is answered `now`. `about` is
    what is told of it; None for what is no part of the protocol.
    """

    about: About | None
    handler: Handler | None = None
    parameters: Parameters = field(default_factory=dict)
    body: Any = None
    public: bool = False
    """Whether it asks for no credentials."""
    admin: bool = False
    """Whether it is for administrators."""
    again: bool = False
    """Whether it changes nothing, so that it is answered again if the rules change meanwhile."""
    strict: bool = True
    """Whether a query string and a body that nothing reads are refused."""
    now: HandlerNow | None = None
    begin: HandlerBegun | None = None
    """Answers by callback what needs no task, instead of `handler`."""
    queued: bool = False
    """Whether it waits to be admitted, as a poll..."""
    known: Callable[[HttpContext, Request], Reply | None] | None = None
    """... unless this answers it from memory."""
    stream: bool = False
    """Whether it is answered by a stream of events, and waits to be admitted as a handshake does."""

    def judge(self, context: HttpContext, request: Request) -> None:
        """Have the request be of an identity under the present rules: its body may have taken long.

        Raises `Unauthenticated` or `Denied`.
        """
        if not self.public and not stands(context.gate, request) and self.admin:
            check_admin(context.gate, request)

    def read(self, context: HttpContext, request: Request) -> None:
        """Read the parameters and the body into the request, once, and count it if it is a poll.

        Raises `Invalid` or `TooLarge`, and `Overloaded` for one poll too many.
        """
        # If it has a content, it was read already, when it was tried without a task.
        if self.strict and request.content is None:
            request.given = read_query(request.query, self.parameters)
            request.content = read_body(request.body, request.body_codec(), self.body)
            if request.content is not None:
                request.body = b""  # it may be held for long
            if self.again and context.gate.limits.of_polls:
                cursor = getattr(request.content, "cursor", None) or request.given.get("cursor")
                context.gate.check_poll(request.identity, request.address, page=cursor is not None)

    async def count(self, context: HttpContext, request: Request) -> None:
        """Wait until a turn's budget covers decoding a body; refuse one that is too large before (P-WIRE-11)."""
        if len(request.body) <= FREE_BYTES or not self.strict:
            return
        read_query(request.query, self.parameters)
        body, codec, turns = request.body, request.body_codec(), context.turns
        check_size(body, codec, self.body, context.config)
        await turns.spend_bytes(len(body))
        for _ in codec.check_items(body, context.config.message_items_max):
            await turns.spend(turns.names_max)


STREAM_PATH = "/v1/events"

ROUTES: Mapping[str, Mapping[str, Operation]] = {
    TOPIC_ROUTE: {
        "GET": Operation(about.GET_TOPIC, get_topic, parameters.READ, again=True),
        "PUT": Operation(about.PUT_TOPIC, put_topic, parameters.WRITE, VALUE, begin=begin_put),
        "DELETE": Operation(about.DELETE_TOPIC, delete_topic, parameters.WRITE),
    },
    "/v1/topics": {"GET": Operation(about.LIST_TOPICS, list_topics, parameters.LIST, queued=True, again=True)},
    "/v1/poll": {
        "POST": Operation(
            about.POLL, poll, body=PollBody, begin=begin_poll, queued=True, known=poll_unchanged, again=True
        )
    },
    STREAM_PATH: {
        "GET": Operation(about.STREAM, parameters=parameters.STREAM, stream=True),
        "POST": Operation(about.STREAM, parameters=parameters.STREAM_BY_BODY, body=AnyNames, stream=True),
    },
    "/v1/publish": {"POST": Operation(about.PUBLISH, publish_batch, body=BatchBody)},
    "/v1/ticket": {"POST": Operation(about.TICKET, make_ticket)},
    "/v1/whoami": {"GET": Operation(about.WHOAMI, now=whoami)},
    "/v1/status": {"GET": Operation(about.STATUS, status, admin=True)},
    EXPLAIN_PATH: {"GET": Operation(about.EXPLAIN, explain, parameters.EXPLAIN, admin=True)},
    OPENAPI_PATH: {"GET": Operation(about.OPENAPI, openapi, public=True)},
    # Balancers put what they like behind a probe's path.
    "/healthz": {"GET": Operation(about.HEALTHZ, now=healthz, strict=False, public=True)},
    "/readyz": {"GET": Operation(about.READYZ, now=readyz, strict=False, public=True)},
    "/metrics": {"GET": Operation(about.METRICS, metrics, admin=True)},
    # A page may put a version behind the path of a script.
    **{path: {"GET": Operation(None, web_file, strict=False, public=True)} for path in WEB_PATHS},
    **{path: {"GET": Operation(None, now=page_file, strict=False, public=True)} for path in PAGE_PATHS},
}
"""Every route: its methods; of each the parameters, the body and the answers, with types and limits (P-HTTP-13).

`python -m softstate.server.http.describe` writes all that is made of it.
"""


_PUBLISHES = frozenset({TOPIC_ROUTE, "/v1/publish"})
_WRITES = frozenset({"PUT", "DELETE", "POST"})


def route_name(path: str) -> str:
    """Return the route that a path belongs to, or ``other``: a peer cannot make the counters grow."""
    if path.startswith(TOPIC_PATH):
        return TOPIC_ROUTE
    return path if path in ROUTES or path == WEBSOCKET_PATH else "other"


def is_publish(request: Request) -> bool:
    """Tell whether a request is for a route that publishes, by a method that writes, allowed or not."""
    return request.method in _WRITES and route_name(request.path) in _PUBLISHES


def methods_of(path: str) -> list[str]:
    """List the methods that a path, or with ``*`` the node, answers. Raises `Refused` (404) with the list of routes."""
    if path == "*":
        return list(dict.fromkeys(method for each in ROUTES for method in methods_of(each)))
    return ["OPTIONS", *(["HEAD"] if "GET" in (found := _operations(path)) else []), *found]


def find(request: Request) -> Operation:
    """Return the operation that a request asks for. Raises `Refused` with 404, or with 405 and ``Allow``."""
    operations = _operations(request.path)
    method = "GET" if request.method == "HEAD" else request.method
    if method in operations:
        return operations[method]
    allowed = ", ".join(methods_of(request.path))
    raise Refused(405, Invalid(f"this route answers {allowed}, not {request.method[:32]}"), [("Allow", allowed)])


def check_rights(context: HttpContext, request: Request, operation: Operation) -> None:
    """Find out whose a request is, and whether the operation is for them. Raises `Unauthenticated` or `Denied`."""
    if operation.public or _has_ticket(request, operation):
        return
    identify(context.gate, request)
    if operation.admin:
        check_admin(context.gate, request)


def check_coding(request: Request) -> None:
    """Raise `Refused` (415) for a body that is compressed, naming its coding (RFC 9110 section 15.5.16)."""
    coding = (request.header("content-encoding") or "identity").strip()
    if coding.lower() != "identity":
        message = (
            f"a body with Content-Encoding {coding[:CODING_SHOWN_CHARS_MAX]!r} is not understood: send it as it is"
        )
        raise Refused(415, Unsupported(message), [("Accept-Encoding", "identity")])


def _operations(path: str) -> Mapping[str, Operation]:
    operations = ROUTES.get(route_name(path))
    if operations is None:
        raise Refused(404, NotFound(f"no such route; there are {', '.join([*ROUTES, WEBSOCKET_PATH])}"))
    return operations


# Every route ---------------------------------------------------------------------------------------------------------


async def answer(context: HttpContext, request: Request, operation: Operation) -> Reply:
    """Run an operation; turn an error that it raises for the client into the reply."""
    try:
        operation.judge(context, request)
        await operation.count(context, request)
        if operation.handler is None:
            return answer_now(context, request, operation)
        operation.read(context, request)
        for _ in range(1 + RULES_CHANGES_MAX):
            reply: Reply | Conflict
            try:
                reply = await answered(context, request, partial(operation.handler, context, request))
            except Conflict as error:
                reply = error  # it tells the version
            if not operation.again:
                return _told(context, request, reply)
            await context.hear()
            if stands(context.gate, request):
                return _told(context, request, reply)
            # As it was judged, it might tell what may not be read any more. What was waited for has come.
            request.given = {**request.given, "wait_ms": 0} if "wait_ms" in request.given else request.given
        raise Unavailable("the rules of this node change all the time: try again", retry_ms=RULES_RETRY_MS)
    except (RequestError, Refused) as error:
        return refusal(context, request, error)


def _told(context: HttpContext, request: Request, outcome: Reply | RequestError) -> Reply:
    if isinstance(outcome, Reply):
        return with_common_headers(context, request, outcome)
    return refusal(context, request, outcome)


def answer_now(context: HttpContext, request: Request, operation: Operation) -> Reply:
    """Run an operation that never waits, on a body of `FREE_BYTES` at most; otherwise as `answer`."""
    assert operation.now is not None
    try:
        operation.judge(context, request)
        operation.read(context, request)
        return with_common_headers(context, request, operation.now(context, request))
    except (RequestError, Refused) as error:
        return refusal(context, request, error)


def answer_known(context: HttpContext, request: Request, operation: Operation) -> Reply | None:
    """Answer a request from memory, on a body of `FREE_BYTES` at most; None if that takes more."""
    assert operation.known is not None
    try:
        operation.judge(context, request)
        operation.read(context, request)
        reply = operation.known(context, request)
        return None if reply is None else with_common_headers(context, request, reply)
    except (RequestError, Refused) as error:
        return refusal(context, request, error)


def begin_answer(
    context: HttpContext,
    request: Request,
    operation: Operation,
    settled: Callable[[Reply | None], None],
    broken: Callable[[], None],
) -> bool:
    """Begin an operation that has `settled` called with its reply, and return True; False if it takes a task.

    `settled` is called with None if it takes a task after all, since the rules have changed meanwhile, or may have. The
    body has `FREE_BYTES` at most. `broken` is called if a bug is met later.
    """
    assert operation.begin is not None

    def settle(outcome: Reply | RequestError) -> None:
        if operation.again and not (context.heard and still_stands(context.gate, request)):
            settled(None)
        else:
            settled(_told(context, request, outcome))

    try:
        operation.judge(context, request)
        operation.read(context, request)
        return operation.begin(context, request, settle, broken)
    except NamesUnasked:
        return False  # which waits for an answer in its task
    except (RequestError, Refused) as error:
        settled(refusal(context, request, error))
        return True


def _has_ticket(request: Request, operation: Operation) -> bool:
    """Tell whether a request may present a ticket, which is redeemed when it is admitted."""
    return operation.stream and parameters.TICKET in names_of(request.query)


async def begin_stream(context: HttpContext, request: Request, operation: Operation) -> StreamRequest | Reply:
    """Check a request for a stream; return what it asks for, or its refusal."""
    try:
        if not _has_ticket(request, operation):
            operation.judge(context, request)
        await operation.count(context, request)
        operation.read(context, request)
        if parameters.TICKET in request.given:
            await redeem(context, request, request.given[parameters.TICKET])
        asked = await answered(context, request, partial(asked_stream, context, request))
        await context.hear()
        return replace(asked, presented=presented_by(context.gate, request))
    except TryLater as error:
        return later(context, request, error)
    except (RequestError, Refused) as error:
        return refusal(context, request, error)


def later(context: HttpContext, request: Request, error: TryLater) -> Reply:
    """Return the refusal of a stream that time mends."""
    return with_common_headers(context, request, ended_stream(error, context.streams.draw()))


def refusal(context: HttpContext, request: Request, error: RequestError | Refused) -> Reply:
    """Write an error as the reply to a request."""
    if isinstance(error, Refused):
        reply = fail(error.error, request.accepted(), error.status, error.headers)
    elif isinstance(error, Unauthenticated):
        reply = fail(error, request.accepted(), headers=[challenge(error)])
    else:
        reply = fail(error, request.accepted())
    if is_publish(request):
        context.writes.errors[(error.error if isinstance(error, Refused) else error).code] += 1
    unseen = isinstance(error, Overloaded) and error.why == FAILURES
    return with_common_headers(context, request, reply, position=not unseen)


def with_common_headers(context: HttpContext, request: Request, reply: Reply, *, position: bool = True) -> Reply:
    """Add the headers that every reply of its kind carries (P-HTTP-2).

    An answer without a read, such as most errors, carries the hub's position, which certifies nothing. Those without
    good credentials are not told how much is published here, and, without `position`, nobody is.
    """
    names = {name for name, _ in reply.headers}
    if not request.path.startswith("/v1/"):
        return reply.with_headers(*(header for header in (NOT_STORED, VARIES) if header[0] not in names))
    stranger = request.identity is NOBODY and not context.gate.open
    without = stranger or reply.status == 401 or not position or "Softstate-Position" in names
    positions = () if without else position_headers(context.hub.position)
    stored = () if "Cache-Control" in names else (NOT_STORED,)
    return reply.with_headers(*positions, LEVEL_TOLD, *credentials_header(request), *stored, VARIES)
