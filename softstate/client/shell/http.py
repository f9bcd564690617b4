"""A small HTTP/1.1 client over h11 and the injected stream opener: polls, publishes over HTTP, reads.

It keeps a few connections alive, bounds what it reads and how long it waits, and knows the one race that keep-alive
brings: a node may close an idle connection at the moment a request is written to it (RFC 9112 section 9.3.1). Every
request of ours may be sent twice without harm (reads, polls, publishes with a key), so such a request is sent again,
once, on a fresh connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, final

import h11
import trio

from softstate.client.shell.websocket import MESSAGE_BYTES_MAX, RECEIVE_BYTES, STREAM_ERRORS, OpenStream, retry_after_ms
from softstate.client.url import NodeUrl
from softstate.errors import ERRORS_BY_CODE, Invalid, Overloaded, RequestError, SoftstateError, Unavailable
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Error

T = TypeVar("T")

HEAD_BYTES_MAX = 16 * 1024
"""Longest head of an answer."""

ECHO_CHARS_MAX = 256
"""How much of what a node sent instead of HTTP is quoted in an error."""

IDLE_CONNECTIONS_MAX = 4
"""Connections kept alive for another request, all nodes together."""

IDLE_S_MAX = 60.0
"""How long a connection is kept without a request: less than the 75 s after which a node closes it."""


class HttpFailed(SoftstateError):
    """No usable answer: unreachable, broken off, too slow, too large, or not softstate. `str` says which."""


@final
@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end. Header names are lower case."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that (lower-case) name, None if there is none."""
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), None)

    def decode(self, kind: type[T]) -> T:
        """Read the body of a good answer (2xx) as `kind`.

        Raises the `RequestError` that a node answered with, or `HttpFailed` if this is no answer of a node.
        """
        if not 200 <= self.status < 300:
            raise self.error()
        try:
            return self._codec().loads(self.body, kind)
        except Invalid as error:
            raise HttpFailed(f"the answer cannot be understood: {error.message}") from None

    def error(self) -> RequestError | HttpFailed:
        """Return the error that this answer stands for."""
        retry_ms = retry_after_ms(self.headers)
        try:
            error = self._codec().loads(self.body, Error)
        except Invalid:
            return self._foreign_error(retry_ms)
        kind = ERRORS_BY_CODE.get(error.code)
        if kind is None:
            return HttpFailed(f"the node answered {self.status}, {error.code}: {error.message}")
        if error.retry_ms is not None:
            retry_ms = error.retry_ms
        return kind(error.message, retry_ms=retry_ms, current=error.current, position=error.position)

    def _foreign_error(self, retry_ms: int | None) -> RequestError | HttpFailed:
        # What a proxy says in a node's place. Only its wish to be left in peace for a while is worth understanding.
        reason = f"answered {self.status}, without saying why in softstate's words"
        if self.status == Overloaded.http_status:
            return Overloaded(reason, retry_ms=retry_ms)
        if self.status == Unavailable.http_status:
            return Unavailable(reason, retry_ms=retry_ms)
        return HttpFailed(reason)

    def _codec(self) -> Codec:
        return CBOR if (self.header("content-type") or "").startswith(CBOR.content_type) else JSON


class _Stale(Exception):
    """A kept-alive connection ended before it answered anything."""


@final
class _Connection:
    """One connection to one node."""

    def __init__(self, url: NodeUrl, stream: trio.abc.Stream) -> None:
        self.authority = (url.authority, url.tls)
        self.stream = stream
        self.idle_since_s = 0.0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._kept = False
        self._heard = False

    async def exchange(self, request: h11.Request, body: bytes) -> Reply:
        """Send a request, read its answer. Raises `HttpFailed`, or `_Stale` on a connection kept from before."""
        self._heard = False
        try:
            await self._send(request, body)
            return await self._read()
        except h11.RemoteProtocolError as error:
            if self._kept and not self._heard:
                raise _Stale from None
            raise HttpFailed(f"the answer breaks HTTP: {str(error)[:ECHO_CHARS_MAX]}") from None
        except STREAM_ERRORS as error:
            if self._kept and not self._heard:
                raise _Stale from None
            raise HttpFailed(f"the connection broke: {error or type(error).__name__}") from None

    async def _send(self, request: h11.Request, body: bytes) -> None:
        parts = [self._http.send(request)]
        if body:
            parts.append(self._http.send(h11.Data(data=body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        # Even if this breaks, an early answer (413) may be waiting to be read; if there is none, reading fails too.
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(b"".join(part for part in parts if part))

    async def _read(self) -> Reply:
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self.stream.receive_some(RECEIVE_BYTES)
                self._heard = self._heard or bool(data)
                self._http.receive_data(bytes(data))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MESSAGE_BYTES_MAX:
                    raise HttpFailed(f"the answer is longer than {MESSAGE_BYTES_MAX} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return Reply(head.status_code, list(head.headers), bytes(body))

    def keep(self) -> bool:
        """Make ready for another request; False if that cannot be."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False  # more than was asked for: nothing that follows could be trusted
        self._http.start_next_cycle()
        self._kept = True
        self.idle_since_s = trio.current_time()
        return True


@final
class HttpClient:
    """Requests to nodes. Any number of tasks may use it at once; each request in flight has a connection to itself."""

    def __init__(self, open_stream: OpenStream, codec: Codec, token: str | None = None) -> None:
        self.codec = codec
        self._open_stream = open_stream
        self._headers = [(b"User-Agent", b"softstate"), (b"Accept", codec.content_type.encode())]
        if token is not None:
            self._headers.append((b"Authorization", f"Bearer {token}".encode()))
        self._idle: list[_Connection] = []
        self._closed = False

    async def request(
        self, url: NodeUrl, method: str, path: str, *, body: bytes = b"", timeout_s: float, accept: str = ""
    ) -> Reply:
        """Send one request and return the answer, whatever its status. `path` is encoded already.

        Raises `HttpFailed`, at the latest after `timeout_s`. If cancelled, the connection is closed; what was asked
        may be done all the same.
        """
        headers = [(b"Host", url.authority.encode("ascii")), *self._headers]
        if accept:
            headers = [(name, value) for name, value in headers if name != b"Accept"]
            headers.append((b"Accept", accept.encode()))
        if body:
            headers += [
                (b"Content-Type", self.codec.content_type.encode()),
                (b"Content-Length", str(len(body)).encode()),
            ]
        request = h11.Request(method=method, target=url.target(path), headers=headers)
        with trio.move_on_after(timeout_s):
            return await self._request(url, request, body)
        raise HttpFailed(f"{url} did not answer within {timeout_s:g} s")

    async def _request(self, url: NodeUrl, request: h11.Request, body: bytes) -> Reply:
        kept = await self._take(url)
        if kept is not None:
            try:
                return await self._exchange(kept, request, body)
            except _Stale:
                pass
        try:
            stream = await self._open_stream(url.host, url.port, url.tls)
        except STREAM_ERRORS as error:
            raise HttpFailed(f"{url} cannot be reached: {error or type(error).__name__}") from None
        return await self._exchange(_Connection(url, stream), request, body)

    async def _exchange(self, connection: _Connection, request: h11.Request, body: bytes) -> Reply:
        keep = False
        try:
            reply = await connection.exchange(request, body)
            keep = connection.keep() and not self._closed
        finally:
            if not keep:
                await trio.aclose_forcefully(connection.stream)
        if keep:
            self._idle.append(connection)
            if len(self._idle) > IDLE_CONNECTIONS_MAX:
                await trio.aclose_forcefully(self._idle.pop(0).stream)
        return reply

    async def _take(self, url: NodeUrl) -> _Connection | None:
        """Return the most recently used idle connection to a node, after closing all that are too old."""
        oldest_s = trio.current_time() - IDLE_S_MAX
        while self._idle and self._idle[0].idle_since_s < oldest_s:
            await trio.aclose_forcefully(self._idle.pop(0).stream)
        wanted = (url.authority, url.tls)
        for index in reversed(range(len(self._idle))):
            if self._idle[index].authority == wanted:
                return self._idle.pop(index)
        return None

    async def aclose(self) -> None:
        """Close every idle connection, and from now on each one whose request ends."""
        self._closed = True
        while self._idle:
            await trio.aclose_forcefully(self._idle.pop().stream)
