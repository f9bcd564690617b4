"""The HTTP server: every accepted connection begins here, and stays here unless it becomes a WebSocket.

Requests are answered one after the other, as HTTP/1.1 pipelining demands. Nothing that a peer sends raises out of this
module; it catches only errors that a peer can cause.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, final

import trio

from softstate.errors import Invalid, NotFound, Overloaded, RequestError, Unavailable
from softstate.server.bulkhead import Failed, failed
from softstate.server.http.arguments import read_query
from softstate.server.http.context import HttpContext
from softstate.server.http.date import SharedDate
from softstate.server.http.host import EXEMPT, check_host, is_known_host
from softstate.server.http.message import Request, fail
from softstate.server.http.origin import check_origin, cors_headers, options_reply
from softstate.server.http.routes import (
    LEVEL_TOLD,
    NOT_STORED,
    VARIES,
    WEBSOCKET_PATH,
    answer,
    check_coding,
    find,
    methods_of,
    refusal,
    route_name,
    with_common_headers,
)
from softstate.server.http.stream import HttpStream, PeerGone
from softstate.server.http.upgrade import Handshake, check_upgrade
from softstate.server.http1 import Refused, Reply, RequestHead
from softstate.server.services import Services
from softstate.server.storage.asker import ASKER, Asker
from softstate.wire import JSON

Upgrade: TypeAlias = Callable[[trio.abc.Stream, Handshake, str], Awaitable[None]]
"""Answers a handshake and runs its WebSocket session to the end: stream, handshake and peer."""

SHARED_DATE = SharedDate()
"""The wall clock of this process, for the ``Date`` of replies."""

Admit: TypeAlias = Callable[[], float | None]
"""Tells whether a handshake may begin now: None, or the seconds after which to try again."""


@final
@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """Counts since the start: `replies` by (route, status), and `upgrades`; and counts of now.

    `connections` are those that speak HTTP at the moment, `holds` their requests that wait for a change.
    """

    replies: Mapping[tuple[str, int], int]
    upgrades: int
    connections: int
    holds: int


@final
class HttpServer:
    """Serves the connections of one node.

    `upgrade` is given every valid handshake that `admit` allows. The node enforces the limit of connections, by calling
    `refuse` for those beyond it. `date` writes the ``Date`` of replies; None stands for a server without a clock, which
    sends none (RFC 9110 section 6.6.1).
    """

    def __init__(
        self,
        services: Services,
        upgrade: Upgrade,
        admit: Admit = lambda: None,
        date: Callable[[], str] | None = SHARED_DATE,
    ) -> None:
        self._context = HttpContext(services)
        self._services = services
        self._config = services.config
        self._upgrade = upgrade
        self._admit = admit
        self._date = date
        self._replies: Counter[tuple[str, int]] = Counter()
        self._upgrades = 0
        self._open: dict[HttpStream, None] = {}

    def statistics(self) -> HttpStatistics:
        """Count replies and upgrades since the start, and connections and held requests now."""
        return HttpStatistics(dict(self._replies), self._upgrades, len(self._open), self._context.holds)

    def drain(self) -> None:
        """Answer held requests now, and close idle connections; call it once ``services.draining`` is true.

        Every other connection is closed by its next reply.
        """
        self._context.drain()
        for http in tuple(self._open):
            http.stop_waiting()

    async def serve_connection(self, stream: trio.abc.Stream, peer: str) -> None:
        """Serve one connection to its end, then close it. If cancelled, it is closed at once."""
        try:
            upgrade = await self._serve_http(stream)
            if upgrade is not None:
                self._upgrades += 1
                await self._upgrade(stream, upgrade, peer)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_http(self, stream: trio.abc.Stream) -> Handshake | None:
        # A function of its own, so that no state of HTTP is kept for as long as a WebSocket lasts.
        http = HttpStream(stream, self._config, self._date)
        self._open[http] = None
        ASKER.set(Asker(stream, http.hang_up))
        try:
            return await self._serve_requests(http)
        finally:
            self._open.pop(http, None)

    async def refuse(self, stream: trio.abc.Stream, error: RequestError) -> None:
        """Answer 503, or 500 for a bug, without reading anything, and close: for a connection that is not served."""
        http = HttpStream(stream, self._config, self._date)
        try:
            await self._send(http, None, fail(error, JSON, error.http_status if isinstance(error, Failed) else 503))
            await http.linger()
        except PeerGone:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_requests(self, http: HttpStream) -> Handshake | None:
        """Answer requests until the connection ends, or until a valid handshake: then return that."""
        with self._services.bulkhead.contain("request"):
            return await self._serve_until_gone(http)
        # A bug: the connection ends, with an answer unless one has begun (S18).
        if not http.answering:
            with self._services.bulkhead.contain("request: answering 500"), suppress(PeerGone):
                await self._send(http, None, fail(failed("answering this request"), JSON))
                await http.linger()
        return None

    async def _serve_until_gone(self, http: HttpStream) -> Handshake | None:
        try:
            while True:
                try:
                    head = await http.read_head()
                except Refused as refused:
                    await self._send(http, None, fail(refused.error, JSON, refused.status, refused.headers))
                    break
                if head is None:
                    return None
                upgrade = await self._exchange(http, head)
                if upgrade is not None:
                    return upgrade
                if not http.reusable:
                    break
            await http.linger()
        except PeerGone:
            pass
        return None

    async def _exchange(self, http: HttpStream, head: RequestHead) -> Handshake | None:
        """Answer one request; return a valid handshake instead."""
        request = Request.of(head)
        origin: str | None = None
        try:
            known_host = is_known_host(request, self._config.allow_host)
            if not known_host and request.path not in EXEMPT:
                check_host(request, self._config.allow_host)
            origin = check_origin(request, self._config.origins, known_host=known_host)
            if request.path == WEBSOCKET_PATH:
                read_query(request.query, {})
                handshake = self._check_handshake(head)
                return Handshake(handshake.codec, handshake.answer, http.take_rest())
            if request.method == "OPTIONS":
                reply = with_common_headers(self._context, request, options_reply(request, methods_of(request.path)))
            else:
                reply = await self._answer(http, head, request)
        except (Refused, Invalid) as error:
            reply = refusal(self._context, request, error)
        if origin is not None:
            reply = reply.with_headers(*cors_headers(origin))
        await self._send(http, request, reply)
        return None

    async def _answer(self, http: HttpStream, head: RequestHead, request: Request) -> Reply:
        operation = find(request)
        if head.body_bytes != 0:
            check_coding(request)
        request.body = await http.read_body(head)
        return await answer(self._context, request, operation)

    def _check_handshake(self, head: RequestHead) -> Handshake:
        if self._config.role == "poll":
            raise Refused(404, NotFound("this node serves no WebSocket (its role is poll): poll it, over HTTP"))
        handshake = check_upgrade(head)
        if self._services.draining:
            raise Refused(503, Unavailable("this node is shutting down: try another", retry_ms=0))
        wait_s = self._admit()
        if wait_s is not None:
            message = "too many clients connect at once: wait, and poll meanwhile"
            raise Refused(503, Overloaded(message, retry_ms=math.ceil(wait_s * 1000)))
        return handshake

    async def _send(self, http: HttpStream, request: Request | None, reply: Reply) -> None:
        if request is None:  # nothing tells that it was not below /v1/
            reply = reply.with_headers(LEVEL_TOLD, NOT_STORED, VARIES)
        self._replies[route_name(request.path) if request is not None else "none", reply.status] += 1
        await http.reply(reply, close=request is None or self._services.draining)
