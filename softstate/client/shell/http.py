"""Requests to nodes over HTTP: polls, publishes, reads. What a response means, and when a request is sent again.

Connections are kept alive between requests, which brings one race: a node may close an idle connection at the moment a
request is written to it (RFC 9112 section 9.3.1). Every request of ours may be sent twice without harm (reads, polls,
publishes with a number or a key), so such a request is sent again, once, on a fresh connection.
"""

from __future__ import annotations

from typing import TypeVar, final

import trio

from softstate.client.machine.credentials import TokenCell
from softstate.client.shell.trust import mistrust
from softstate.client.shell.websocket import ERROR_CHARS_MAX, MESSAGE_BYTES_MAX, retry_after_ms
from softstate.client.url import NodeUrl
from softstate.errors import ERRORS_BY_CODE, Invalid, Overloaded, RequestError, SoftstateError, Unavailable
from softstate.http_client.connection import HttpConnection
from softstate.http_client.exchange import QUOTE_CHARS_MAX, ConnectionBroken, ExchangeFailed, Request, Response
from softstate.http_client.pool import IdlePool
from softstate.http_client.streams import STREAM_ERRORS, OpenStream, reason
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.levels import LEVEL_HEADER, level_of
from softstate.wire.messages import Error

T = TypeVar("T")

IDLE_CONNECTIONS_MAX = 4
"""Connections kept alive for another request, all nodes together."""

POLL_PATH = "/v1/poll"
"""Polls have a connection to each node to themselves: a read that is given up, or broken off, does not cost them theirs
(P-CLI-14)."""

IDLE_S_MAX = 60.0
"""How long a connection is kept without a request: less than the 75 s after which a node closes it."""


class HttpFailed(SoftstateError):
    """No usable response: unreachable, broken off, too slow, too large, or not softstate. `str` says which.

    `unsent`: no connection came to be, so no node has seen the request. `error` tells what to do, if that is known.
    """

    def __init__(self, message: str, *, unsent: bool = False, error: RequestError | None = None) -> None:
        super().__init__(message)
        self.unsent = unsent
        self.error = error


@final
class Reply(Response):
    """A node's response, read to its end."""

    __slots__ = ()

    def decode(self, kind: type[T]) -> T:
        """Read the body of a good response (2xx) as `kind`.

        Raises the `RequestError` that a node answered with, or `HttpFailed` if no node wrote this response.
        """
        if not 200 <= self.status < 300:
            raise self.error()
        try:
            return self._codec().loads(self.body, kind)
        except Invalid as error:
            raise HttpFailed(f"the response cannot be understood: {error.message}") from None

    def error(self) -> RequestError | HttpFailed:
        """Return the error that this response stands for."""
        retry_ms = retry_after_ms(self.headers)
        try:
            error = self._codec().loads(self.body, Error)
        except Invalid:
            return self._foreign_error(retry_ms)
        kind = ERRORS_BY_CODE.get(error.code)
        message = error.message[:ERROR_CHARS_MAX]
        if kind is None:
            return HttpFailed(f"the node answered {self.status}, {error.code[:QUOTE_CHARS_MAX]}: {message}")
        if error.retry_ms is not None:
            retry_ms = error.retry_ms
        return kind(
            message,
            retry_ms=retry_ms,
            current=error.current,
            position=error.position,
            why=error.why,
            version=error.version,
        )

    def _foreign_error(self, retry_ms: int | None) -> RequestError | HttpFailed:
        # A proxy answered in a node's place. Only its request to wait for a while is of use here.
        text = f"HTTP status {self.status} without an error that softstate knows: a proxy may have answered"
        if self.status == Overloaded.http_status:
            return Overloaded(text, retry_ms=retry_ms)
        if self.status == Unavailable.http_status:
            return Unavailable(text, retry_ms=retry_ms)
        return HttpFailed(text)

    def _codec(self) -> Codec:
        return CBOR if (self.header("content-type") or "").startswith(CBOR.content_type) else JSON


@final
class HttpClient:
    """Requests to nodes. Any number of tasks may use it at once; each request in flight has a connection to itself."""

    def __init__(self, open_stream: OpenStream, codec: Codec, cell: TokenCell | None = None) -> None:
        self.codec = codec
        self._open_stream = open_stream
        self.cell = cell or TokenCell()
        """The token that requests present."""
        self._levels: dict[str, int] = {}
        self._pool: IdlePool[HttpConnection] = IdlePool(idle_max=IDLE_CONNECTIONS_MAX, idle_s_max=IDLE_S_MAX)

    async def request(
        self,
        url: NodeUrl,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        timeout_s: float,
        accept: str = "",
        once: bool = False,
    ) -> Reply:
        """Send one request and return the response, of any status. `path` is encoded already.

        If a kept connection ends before it answers anything, the request goes again on a new one, unless it is to go
        `once`: what a second attempt is answered, or that it reaches no node, tells nothing of the first (P-CLI-17).

        Raises `HttpFailed`, at the latest after `timeout_s`. If cancelled, the connection is closed; the node may carry
        out the request all the same.
        """
        headers = [("User-Agent", "softstate"), ("Accept", accept or self.codec.content_type)]
        if self.cell.token is not None:
            headers.append(("Authorization", f"Bearer {self.cell.token}"))
        if body:
            headers.append(("Content-Type", self.codec.content_type))
        request = Request(method, url.authority, url.target(path), headers, body)
        with trio.move_on_after(timeout_s):
            try:
                response = await self._send(url, request, once=once)
            except ExchangeFailed as failure:
                told = mistrust(url, failure.__cause__) if isinstance(failure.__cause__, STREAM_ERRORS) else None
                raise HttpFailed(str(failure) if told is None else told.message, error=told) from None
            reply = Reply(response.status, response.headers, response.body)
            self.told_level(url, level_of(reply.header(LEVEL_HEADER.lower())))
            return reply
        raise HttpFailed(f"{url} did not answer within {timeout_s:g} s")

    def level(self, url: NodeUrl) -> int:
        """Return the protocol level that a URL told last, 0 if none (P-WIRE-10)."""
        return self._levels.get(str(url), 0)

    def told_level(self, url: NodeUrl, level: int) -> None:
        """Take note of the protocol level that a URL tells."""
        self._levels[str(url)] = level

    async def _send(self, url: NodeUrl, request: Request, *, once: bool) -> Response:
        peer = (url.host, url.port, url.tls, request.target == url.target(POLL_PATH))
        if (kept := await self._pool.take(peer)) is not None:
            try:
                async with self._pool.using(kept):
                    return await kept.request(request, MESSAGE_BYTES_MAX)
            except ConnectionBroken as failure:
                if failure.answered or once:
                    raise
        try:
            stream = await self._open_stream(url.host, url.port, url.tls)
        except STREAM_ERRORS as error:
            told = mistrust(url, error)
            text = f"{url} cannot be reached: {reason(error)}" if told is None else told.message
            raise HttpFailed(text, unsent=True, error=told) from None
        async with self._pool.using(HttpConnection(stream, peer)) as fresh:
            return await fresh.request(request, MESSAGE_BYTES_MAX)

    async def drop_idle(self) -> None:
        """Close every idle connection."""
        await self._pool.drop()

    async def aclose(self) -> None:
        """Close every idle connection, and from now on each one whose request ends."""
        await self._pool.aclose()
