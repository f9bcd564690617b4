"""One connection that speaks HTTP: answers its requests, and hands it over in place when it becomes a WebSocket.

What can be answered at once, or by a callback of the store, is, without a task; every other route is an async function,
and each of its requests is a task. Handshakes and polls wait until they are admitted
(`softstate.server.edge.admission`). Nothing that a peer sends raises out of this module; it catches only errors that a
peer can cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import trio

from softstate.addresses import address_of, network_of
from softstate.auth.answers import Unasked
from softstate.auth.failures import FAILURES
from softstate.auth.identity import Identity
from softstate.auth.presented import NOTHING_PRESENTED, Presented
from softstate.errors import Denied, Invalid, NotFound, Overloaded, RequestError, TryLater, Unauthenticated, Unavailable
from softstate.server.bulkhead import Failed, failed
from softstate.server.config import ServerConfig
from softstate.server.edge.admission import Kind
from softstate.server.edge.wire import Wire
from softstate.server.events.request import StreamRequest
from softstate.server.fanout.turns import FREE_BYTES
from softstate.server.http.access_log import note_answer
from softstate.server.http.arguments import read_query
from softstate.server.http.channel import HttpChannel, Step
from softstate.server.http.context import HttpContext
from softstate.server.http.credentials import presented
from softstate.server.http.forwarded import client_of
from softstate.server.http.host import EXEMPT, check_host, is_known_host
from softstate.server.http.message import Request, fail
from softstate.server.http.origin import check_origin, cors_headers, options_reply
from softstate.server.http.routes import (
    LEVEL_TOLD,
    NOT_STORED,
    VARIES,
    WEBSOCKET_PATH,
    Operation,
    answer,
    answer_known,
    answer_now,
    begin_answer,
    begin_stream,
    check_coding,
    check_rights,
    find,
    is_publish,
    later,
    methods_of,
    refusal,
    route_name,
    with_common_headers,
)
from softstate.server.http.shedding import Shedding, shed
from softstate.server.http.stream_routes import stream_reply
from softstate.server.http.topic_routes import topics_of
from softstate.server.http.upgrade import Handshake, answer_key, check_upgrade
from softstate.server.http1 import Refused, Reply, RequestHead
from softstate.server.http1.reply import write_reply
from softstate.server.observe.spans import PublishSpan
from softstate.server.storage.asker import ASKER, Asker
from softstate.wire import JSON, Codec


@dataclass(slots=True)
class Plan:
    """The part of a request's meaning that its head and the node's options decide: the same for all equal heads.

    `origin` is the page's, which may talk to this node, with rules that give something without a token (`ambient`) or
    that do not; `operation` is None until it was looked for, and `codec`, that of a handshake, until that was checked.
    """

    origin: str | None
    ambient: bool
    operation: Operation | None = None
    codec: Codec | None = None


def _plan(request: Request, head: RequestHead, config: ServerConfig, ambient: bool, secure: bool) -> Plan:
    """Check by which name the node was called, and the page that calls. Raises `Refused`.

    All connections of a node are `secure`, or none is, so that this holds for each that sends the same head.
    """
    known_host = not ambient or is_known_host(request, config.allow_host)
    if not known_host and request.path not in EXEMPT:
        check_host(request, config.allow_host)
    origin = check_origin(request, config.origins, known_host=known_host, secure=secure)
    plan = head.plan = Plan(origin, ambient)
    return plan


@final
class HttpPeer(HttpChannel):
    """Answers the requests of one connection. `name` is the address of its other end; it has waited to be accepted."""

    __slots__ = (
        "_asker", "_context", "_greeting", "_handshake", "_kind", "_known", "_name", "_operation", "_origin",
        "_request", "_scope", "_shedding", "_since", "_span", "_worked_since", "counted",
    )  # fmt: skip

    def __init__(self, context: HttpContext, shedding: Shedding, wire: Wire, name: str, waited_s: float) -> None:
        self._context = context
        self._shedding = shedding
        # Since when its first request has waited, if that came with the connection, and since when it is worked on; and
        # whether it is unanswered.
        self._worked_since = trio.current_time()
        self._since: float | None = self._worked_since - waited_s
        self._greeting = True
        # The kind of request for which it waits to be admitted, and the handshake, if it is one.
        self._kind: Kind | None = None
        self._handshake: Handshake | None = None
        self._name = name
        # The identity and the address of the last request, if they may be those of an equal one.
        self._known: tuple[Identity, str] | None = None
        # The request that is being answered, what it asks for, and the task that answers it, if it takes one.
        self._request: Request | None = None
        self._operation: Operation | None = None
        self._origin: str | None = None
        self._scope: trio.CancelScope | None = None
        self._span: PublishSpan | None = None
        self._asker: Asker | None = None
        self.counted: str | None = None
        """The address for whose limit of connections it counts, if it does."""
        context.peers[self] = None
        context.greeting += 1
        super().__init__(wire, context.services.patience, context.config, context.heads, context.date)

    def refuse(self, error: RequestError, status: int = 503) -> None:
        """Answer 503, or 500 for a bug, without reading anything, and close: for a connection that is not served."""
        self._send(None, fail(error, JSON, error.http_status if isinstance(error, Failed) else status))

    def count_in(self) -> Overloaded | None:
        """Count the connection for its address. Returns the error to refuse it with if that has too many already.

        Connections of a trusted proxy are those of all its clients: its WebSockets count for the client of each.
        """
        address, proxy = address_of(self._name), self._context.gate.proxy
        if proxy is not None and proxy.trusts(address):
            return None
        full = self._full(address)
        if full is None:
            self.counted = network_of(address)
            self._context.per_address.enter(self.counted)
        return full

    def _full(self, address: str) -> Overloaded | None:
        full = self._context.per_address.refusal(network_of(address))
        if full is not None:
            self._context.gate.note_limited(full.why, None, address)
        return full

    def fail(self) -> None:
        """See `Peer.fail`: the connection ends, with an answer unless one has begun (S18)."""
        if self.answering or self._step is Step.OVER:
            self.end()
            return
        self._cancel()
        self._origin = None
        with self._context.services.bulkhead.contain("request: answering 500", self.end, peer=self._name):
            self.refuse(failed("answering this request"))

    def _left(self) -> None:
        self._context.peers.pop(self, None)
        self._greeted()
        self._cancel()
        if self.counted is not None:
            self._context.per_address.leave(self.counted)
            self.counted = None
        if self._span is not None:
            self._span.end(None, None)
        self._request = self._operation = self._asker = self._span = None
        self._context.left()

    def on_hang_up(self, call: Callable[[], None] | None) -> bool:
        """See `HttpChannel.on_hang_up`. One whose request is held does not wait for the node any more."""
        if call is not None:
            self._greeted()
        return super().on_hang_up(call)

    def _greeted(self) -> None:
        if self._greeting:
            self._greeting = False
            self._context.greeting -= 1
            self._context.left()

    def _cancel(self) -> None:
        if self._kind is not None:
            self._context.admission.leave(self._kind, self)
            self._kind = self._handshake = None
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None

    # Requests -------------------------------------------------------------------------------------------------------

    def _take_head(self, head: RequestHead) -> None:
        request = self._request = self._request_of(head)
        try:
            ambient = self._context.gate.ambient
            plan: Plan | None = head.plan
            if plan is None or plan.ambient is not ambient:
                plan = _plan(request, head, self._context.config, ambient, self._wire.secure)
            self._origin = plan.origin
            if request.path == WEBSOCKET_PATH:
                self._handshake = self._check_handshake(request, head, plan)
                # Its client may give it up while it waits; nothing is read just now if it was sent behind a request.
                self._want_read(True)
                self._ask(Kind.UPGRADE)
            elif request.method == "OPTIONS":
                reply = options_reply(request, methods_of(request.path))
                self._answer(with_common_headers(self._context, request, reply))
            else:
                if plan.operation is None:
                    plan.operation = find(request)
                self._operation = plan.operation
                check_rights(self._context, request, self._operation)
                self._remember(request)
                if head.body_bytes != 0:
                    check_coding(request)
                body = self._conversation.body
                if body is None:
                    self._await_body()
                else:
                    self._take_body(body)
        except Unasked as unasked:
            asked = partial(self._asked, request, head)
            self._context.gate.ask(unasked, request.address, asked, self.fail)
        except (Refused, Invalid, Unauthenticated, Denied, TryLater) as error:
            if isinstance(error, Overloaded) and error.why == FAILURES and self._is_alike(request):
                self._reply_alike(request, 429, self._shedding.unseen(self._context, request, error))
            else:
                self._answer(refusal(self._context, request, error))

    def _request_of(self, head: RequestHead) -> Request:
        """Take a request; if an equal one came right before, so may be whose that was, and from which address."""
        gate, conversation = self._context.gate, self._conversation
        request = Request.of(head, conversation.credentials, self._name, self._wire.certificate)
        if self._context.config.access_log:
            request.began = trio.current_time()
        if self._context.tracing and self._span is None and is_publish(request):
            self._span = PublishSpan(request.traceparent(), request.header("tracestate"))
        known = self._known if conversation.repeated else None
        if known is not None and known[0].generation == gate.generation:
            request.known, request.address = known
        else:
            self._known = None
            if gate.asks_address:
                request.address = client_of(gate, request)
        return request

    def _remember(self, request: Request) -> None:
        known = request.known
        if known is not None and (self._known is None or self._known[0] is not known):
            self._known = known, request.address

    def _asked(self, request: Request, head: RequestHead, error: RequestError | None) -> None:
        """Take a request again about whose token somebody was asked."""
        if self._request is not request:
            return  # it has ended
        if error is None:
            self._take_head(head)
        else:
            self._answer(refusal(self._context, request, error))

    def _take_body(self, body: bytes) -> None:
        request, operation = self._request, self._operation
        assert request is not None
        assert operation is not None
        request.body, self._conversation.body = body, None
        if operation.stream:
            self._want_read(True)  # its client may give it up while it waits
            self._ask(Kind.UPGRADE)
            return
        if not operation.queued:
            if self._span is None:
                self._perform(request, operation)
            else:
                self._span.run(self._perform, request, operation)
            return
        if operation.known is not None and len(body) <= FREE_BYTES:
            self._set_asker()
            reply = answer_known(self._context, request, operation)
            if reply is not None:
                self._answer(reply)
                return
        self._ask(Kind.POLL)

    def _perform(self, request: Request, operation: Operation) -> None:
        """Answer a request at once, by a callback, or else by a task."""
        if len(request.body) <= FREE_BYTES:
            if operation.now is not None:
                self._answer(answer_now(self._context, request, operation))
                return
            if operation.begin is not None:
                self._set_asker()
                if begin_answer(self._context, request, operation, partial(self._settled, request), self.fail):
                    return
        self._wire.start_soon(self._answer_later)

    async def _answer_later(self) -> None:
        request, operation = self._request, self._operation
        if request is None or operation is None:
            return  # it has ended
        with trio.CancelScope() as self._scope, self._context.services.bulkhead.contain("request", self.fail):
            self._set_asker()
            self._settled(request, await answer(self._context, request, operation))

    def _set_asker(self) -> None:
        """Have the reads that are made next be made for this connection."""
        if self._asker is None:
            self._asker = Asker(self._wire.hung_up, self.hang_up, self.on_hang_up, self.is_over)
        ASKER.set(self._asker)

    def _settled(self, request: Request, reply: Reply | None) -> None:
        # Another request may be answered by now if this one's connection met a bug.
        if self._request is not request:
            return
        self._scope = None
        if reply is None:
            self._wire.start_soon(self._answer_later)
        else:
            self._answer(reply)

    def _refuse(self, refused: Refused) -> None:
        if self._request is not None:
            self._answer(refusal(self._context, self._request, refused))
        else:
            self._send(None, fail(refused.error, JSON, refused.status, refused.headers))

    def _answer(self, reply: Reply) -> None:
        if self._origin is not None:
            reply = reply.with_headers(*cors_headers(self._origin))
        self._send(self._request, reply)

    def _send(self, request: Request | None, reply: Reply) -> None:
        if request is None:  # nothing tells that it was not below /v1/
            reply = reply.with_headers(LEVEL_TOLD, NOT_STORED, VARIES)
        self._note_reply(request, reply.status)
        self._reply(reply, close=request is None or self._context.services.draining)

    def _note_reply(self, request: Request | None, status: int) -> None:
        self._count(request, status)
        if self._span is not None:
            self._span.end(None if self._request is None else topics_of(self._request), status)
        self._request = self._operation = self._origin = self._since = self._span = None
        self._greeted()

    def _count(self, request: Request | None, status: int) -> None:
        self._context.replies[route_name(request.path) if request is not None else "none", status] += 1
        if request is not None and self._context.config.access_log:
            note_answer(self._context.gate, request, status)

    # Waiting to be admitted -----------------------------------------------------------------------------------------

    def _ask(self, kind: Kind) -> None:
        self._kind = kind
        now = trio.current_time()
        since, self._since = self._since, None
        if since is None:
            since = self._worked_since = now
        self._context.admission.ask(kind, self, since, now)

    def _await_more(self) -> None:
        # The peer has not sent it yet: a client may connect long before it has anything to ask.
        self._since = None
        super()._await_more()

    def readable(self) -> None:
        """See `Peer.readable`. A client that gives up its handshake is not waited for."""
        if self._kind is Kind.UPGRADE:
            if self._keep() and self._conversation.ended:
                self.end()
        else:
            super().readable()

    def admitted(self) -> None:
        """See `softstate.server.edge.admission.Applicant`."""
        handshake, self._kind, self._handshake = self._handshake, None, None
        if handshake is None:
            assert self._request is not None
            assert self._operation is not None
            if self._operation.stream:
                self._wire.start_soon(self._stream_later)
            else:
                self._perform(self._request, self._operation)
        elif self._context.services.draining:
            self._refuse(Refused(503, _draining()))
        elif self.counted is None and (full := self._full(handshake.presented.address)) is not None:
            self._refuse(Refused(429, full))
        else:
            self._upgrade(handshake)

    def shed(self) -> None:
        """See `softstate.server.edge.admission.Applicant`."""
        kind, request, context = self._kind, self._request, self._context
        assert kind is not None
        assert request is not None
        self._kind = self._handshake = None
        if self._operation is not None and self._operation.stream:
            refused = shed(context, kind).error
            assert isinstance(refused, TryLater)
            self._answer(later(context, request, refused))
        elif self._is_alike(request):
            self._reply_alike(request, 503, self._shedding.next(context, kind, request))
        else:
            self._refuse(shed(context, kind))

    def _is_alike(self, request: Request) -> bool:
        """Tell whether a refusal that was prepared for others does for a request, too."""
        alike = self._origin is None and request.method != "HEAD" and not self._context.services.draining
        return alike and self._conversation.keeps

    def _reply_alike(self, request: Request, status: int, data: bytes) -> None:
        self._note_reply(request, status)
        self._reply_prepared(data)

    # Streams --------------------------------------------------------------------------------------------------------

    async def _stream_later(self) -> None:
        request, operation = self._request, self._operation
        if request is None or operation is None:
            return  # it has ended
        with trio.CancelScope() as self._scope, self._context.services.bulkhead.contain("request", self.fail):
            self._set_asker()
            asked = await begin_stream(self._context, request, operation)
            if self._request is not request:
                return
            self._scope = None
            if isinstance(asked, StreamRequest):
                self._stream(request, asked)
            else:
                self._answer(asked)

    def _stream(self, request: Request, asked: StreamRequest) -> None:
        """Give the wire to a stream, or answer why not."""
        context = self._context
        head = with_common_headers(context, request, stream_reply())
        if request.method == "HEAD":
            self._answer(head)
            return
        error: TryLater | None = None
        if context.services.draining:
            error = _draining()
        elif self.counted is None and asked.presented.address:
            error = self._full(asked.presented.address)
        if error is None:
            if self._origin is not None:
                head = head.with_headers(*cors_headers(self._origin))
            self._want_read(True)
            data = write_reply(head, context.date(), close=True, bodiless=False, endless=True)
            error = context.streams.open(self._wire, asked, data, self._name, self._worked_since)
        if error is not None:
            self._answer(later(context, request, error))
            return
        self._count(request, 200)
        self._leave()

    # Handshakes -----------------------------------------------------------------------------------------------------

    def _check_handshake(self, request: Request, head: RequestHead, plan: Plan) -> Handshake:
        if plan.codec is None:
            read_query(request.query, {})
            if self._context.config.role == "poll":
                raise Refused(404, NotFound("this node serves no WebSocket (its role is poll): poll it, over HTTP"))
            plan.codec = check_upgrade(head)
        answer = answer_key(self._conversation.key, plan.codec)
        if self._context.services.draining:
            raise Refused(503, _draining())
        return Handshake(plan.codec, answer, presented=self._presented(request))

    def _presented(self, request: Request) -> Presented:
        """Return what a handshake presents, which is refused at once if it is not good."""
        gate = self._context.gate
        if gate.open:
            return Presented(address=request.address) if request.address else NOTHING_PRESENTED
        found = presented(gate, request)
        if found.credentials is not None:
            gate.present(found.credentials, gate.now(), found.address)
        return found

    def _upgrade(self, handshake: Handshake) -> None:
        handshake.behind = self._conversation.take_rest()
        # The next peer takes each wire for one that is read. It is not just now if much came behind the handshake.
        self._want_read(True)
        if self._context.config.access_log and self._request is not None:
            note_answer(self._context.gate, self._request, 101)
        self._context.upgrade(self._wire, handshake, self._name, self._worked_since)
        self._context.upgrades += 1
        # From here on the socket is another peer's, and nothing of HTTP is kept.
        self._leave()


def _draining() -> Unavailable:
    return Unavailable("this node is shutting down: try another", retry_ms=0)
