"""Requests to nodes over HTTP, sent: polls, publishes, reads. When a request is sent again on another connection.

Connections are kept alive between requests, which brings one race: a node may close an idle connection at the moment a
request is written to it (RFC 9112 section 9.3.1). Every request of ours may be sent twice without harm (reads, polls,
publishes with a number or a key), so such a request is sent again, once, on a fresh connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import anyio

from softstate.client.machine.credentials import TokenCell
from softstate.client.requests.posting import POLL_PATH, Levels
from softstate.client.requests.reply import HttpFailed, Reply
from softstate.client.requests.steps import Ask
from softstate.client.shell.sockets import MESSAGE_BYTES_MAX
from softstate.client.shell.trust import mistrust
from softstate.client.url import NodeUrl
from softstate.http_client.connection import HttpConnection
from softstate.http_client.exchange import ConnectionBroken, ExchangeFailed, Request, Response
from softstate.http_client.pool import IdlePool
from softstate.http_client.streams import STREAM_ERRORS, OpenStream, reason
from softstate.wire import Codec
from softstate.wire.levels import LEVEL_HEADER, level_of

IDLE_CONNECTIONS_MAX = 4
"""Connections kept alive for another request, all nodes together."""

IDLE_S_MAX = 60.0
"""How long a connection is kept without a request: less than the 75 s after which a node closes it."""


def authorization(token: str | None) -> list[tuple[str, str]]:
    """Return the header that presents a token, if there is one (P-AUTH-8)."""
    return [] if token is None else [("Authorization", f"Bearer {token}")]


@final
class HttpClient:
    """Requests to nodes. Any number of tasks may use it at once; each request in flight has a connection to itself."""

    def __init__(
        self,
        open_stream: OpenStream,
        codec: Codec,
        cell: TokenCell | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.codec = codec
        self._headers = headers
        self._open_stream = open_stream
        self.cell = cell or TokenCell()
        """The token that requests present."""
        self.levels = Levels()
        """The protocol levels that URLs have told."""
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
        headers = [("User-Agent", "softstate"), ("Accept", accept or self.codec.content_type), *self._headers]
        headers += authorization(self.cell.token)
        if body:
            headers.append(("Content-Type", self.codec.content_type))
        request = Request(method, url.authority, url.target(path), headers, body)
        with anyio.move_on_after(timeout_s):
            try:
                response = await self._send(url, request, once=once)
            except ExchangeFailed as failure:
                told = mistrust(url, failure.__cause__) if isinstance(failure.__cause__, STREAM_ERRORS) else None
                raise HttpFailed(str(failure) if told is None else told.message, error=told) from None
            reply = Reply(response.status, response.headers, response.body)
            self.levels.told(url, level_of(reply.header(LEVEL_HEADER.lower())))
            return reply
        raise HttpFailed(f"{url} did not answer within {timeout_s:g} s")

    async def ask(self, asked: Ask) -> Reply:
        """Send what a generator of `softstate.client.requests` asks. Raises `HttpFailed`."""
        return await self.request(
            asked.url,
            asked.method,
            asked.path,
            body=asked.body,
            timeout_s=asked.timeout_s,
            accept=asked.accept,
            once=asked.once,
        )

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
