"""HTTP/1.1 over one stream: h11 with every limit and deadline that a server needs (P-HTTP-11); no routes.

It does without the compromises that h11's own example server lists: a head has a size, a count and a deadline; a body
a size and a deadline; silence and slow reading end; a peer that is refused while it still sends can read why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from http import HTTPStatus
from itertools import count
from typing import NoReturn, TypeAlias

import h11
import trio

from softstate.errors import Invalid, TooLarge, Unsupported
from softstate.server.config import ServerConfig
from softstate.server.http.message import Header, Refused, Reply

RECEIVE_BYTES = 16 * 1024

CHUNKS_PER_TURN = 64
"""Chunks of a body that are taken in one turn of the loop: 15 us each, and 3,000 may have been received at once."""

_REASONS = {status.value: status.phrase for status in HTTPStatus}

LINGER_S_MAX = 2.0
"""Time that a refused peer may go on sending before its connection is closed all the same."""

LINGER_BYTES_MAX = 1024 * 1024
"""Bytes that a refused peer may go on sending; all of them are thrown away."""


_Event: TypeAlias = type[h11.NEED_DATA | h11.PAUSED] | h11.Event


class PeerGone(Exception):
    """The connection is of no more use: lost, or its peer does not take its replies."""


class HttpStream:
    """One connection as a sequence of requests and replies. Used by one task."""

    def __init__(self, stream: trio.abc.Stream, config: ServerConfig) -> None:
        self._stream = stream
        self._config = config
        self._http = _parser(config)
        self._fresh = True
        self._answered = False
        self._asked_for_head = False
        self._head_bytes = 0
        self._ended = False
        self._whole = False
        self._idle_scope: trio.CancelScope | None = None
        self.answering = False
        """Whether a reply to the present request has begun to go out."""

    @property
    def reusable(self) -> bool:
        """Whether another request may follow, now that a reply has been sent."""
        return self._answered or (self._http.our_state is h11.DONE and self._http.their_state is h11.DONE)

    @property
    def trailing(self) -> bytes:
        """The bytes received behind an upgrade request."""
        return self._http.trailing_data[0]

    # Reading --------------------------------------------------------------------------------------------------------

    async def read_head(self) -> h11.Request | None:
        """Return the next request's head; None once the peer has left, or has been silent for too long.

        A new connection has ``head_s_max`` to send a head; a kept one may be silent for ``idle_s_max``, then has
        ``head_s_max`` from the first byte on. Raises `Refused` or `PeerGone`.
        """
        config = self._config
        self._whole = self.answering = False
        self._asked_for_head = False
        if self._answered:
            self._answered = False
        elif not self._fresh:
            self._http.start_next_cycle()
        deadline = trio.current_time() + config.head_s_max
        if not self.trailing:
            with trio.move_on_at(deadline if self._fresh else trio.current_time() + config.idle_s_max) as silence:
                self._idle_scope = None if self._fresh else silence
                await self._receive()
            self._idle_scope = None
            if silence.cancelled_caught:
                return None
        if not self._fresh:
            deadline = trio.current_time() + config.head_s_max
        self._fresh = False
        # Nearly every head, and body, is here whole by now, and gets no cancel scope of its own: one scope costs 10 us,
        # a twentieth of a poll (cProfile and `bench polls`).
        event = self._head_event()
        if event is h11.NEED_DATA:
            with trio.move_on_at(deadline) as slow:
                while event is h11.NEED_DATA:
                    await self._receive()
                    event = self._head_event()
            if slow.cancelled_caught:
                limit = f"{config.head_s_max:g} s (head_s_max)"
                raise Refused(408, Invalid(f"the request's head took longer than {limit}"))
        return self._head(event)

    def stop_waiting(self) -> None:
        """End the connection if it is a kept one without a request under way.

        A new one is left alone: its request may be on its way, and clients do not repeat a first request by themselves.
        """
        if self._idle_scope is not None:
            self._idle_scope.cancel()

    def _head_event(self) -> _Event:
        before = len(self.trailing)
        event = self._event()
        self._head_bytes = before - len(self.trailing)
        return event

    def _head(self, event: _Event) -> h11.Request | None:
        if isinstance(event, h11.ConnectionClosed):
            return None
        assert isinstance(event, h11.Request)
        if not event.http_version.startswith(b"1."):
            raise Refused(505, Unsupported("this server speaks HTTP/1.1"))
        self._asked_for_head = event.method == b"HEAD"
        if self._head_bytes > self._config.head_bytes_max:
            self._too_large(f"{self._head_bytes} bytes", f"{self._config.head_bytes_max} bytes (head_bytes_max)")
        if len(event.headers) > self._config.headers_max:
            self._too_large(f"{len(event.headers)} headers", f"{self._config.headers_max} (headers_max)")
        if _announced(event) == 0:
            end = self._event()
            assert isinstance(end, h11.EndOfMessage)
            self._whole = True
        return event

    def _too_large(self, what: str, limit: str) -> NoReturn:
        raise Refused(431, TooLarge(f"the request's head has {what}, the limit is {limit}"))

    async def read_body(self, request: h11.Request) -> bytes:
        """Return the body that follows `request`. Raises `TooLarge`, `Refused` (408) or `PeerGone`.

        A peer that waits for ``100 Continue`` is told to go on, unless it has announced too much.
        """
        announced = _announced(request)
        if announced == 0:
            return b""
        if announced is not None and announced > self._config.body_bytes_max:
            raise self._body_too_large()
        if self._http.they_are_waiting_for_100_continue:
            await self._send(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body = bytearray()
        if not await self._add_to(body):
            with trio.move_on_after(self._config.body_s_max) as slow:
                await self._receive()
                while not await self._add_to(body):
                    await self._receive()
            if slow.cancelled_caught:
                limit_s = f"{self._config.body_s_max:g} s (body_s_max)"
                raise Refused(408, Invalid(f"the request's body took longer than {limit_s}"))
        return bytes(body)

    async def _add_to(self, body: bytearray) -> bool:
        """Add what was received of the body; tell whether it is whole."""
        limit = self._config.body_bytes_max
        for number in count(1):
            if number % CHUNKS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            event = self._event()
            if event is h11.NEED_DATA:
                return False
            if not isinstance(event, h11.Data):
                assert isinstance(event, h11.EndOfMessage)
                self._whole = True
                return True
            body += event.data
            if len(body) > limit:
                raise self._body_too_large()
        raise AssertionError

    def _body_too_large(self) -> TooLarge:
        return TooLarge(f"the body is longer than the limit (body_bytes_max), {self._config.body_bytes_max} bytes")

    def _event(self) -> _Event:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            if status == 431:
                limit = f"{self._config.head_bytes_max} bytes (head_bytes_max)"
                raise Refused(431, TooLarge(f"the request's head is longer than {limit}")) from None
            raise Refused(status, Invalid(f"this is not valid HTTP/1.1: {error}")) from None

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGone from None
        self._ended = not data
        self._http.receive_data(bytes(data))

    # Writing --------------------------------------------------------------------------------------------------------

    async def reply(self, reply: Reply, *, close: bool = False) -> None:
        """Send a reply whole, in one write. Raises `PeerGone` also when it is not taken within ``send_s_max``."""
        headers = list(reply.headers)
        if reply.content_type:
            headers.append(("Content-Type", reply.content_type))
        empty = reply.status in (204, 304)
        if not empty:
            headers.append(("Content-Length", str(len(reply.body))))
        body = b"" if empty or self._asked_for_head else reply.body
        # h11 takes 40 us to write a head of 250 bytes when the next step is the next request: as much as to read one,
        # and a seventh of a poll (timeit; `bench polls`). h11 writes the replies that end the connection.
        if self._whole and not close and self._http.their_state is h11.DONE:
            data = _head_text(reply.status, headers) + body
            self._next_cycle()
        else:
            data = self._written_by_h11(reply.status, headers, body, close=close)
        self.answering = True
        await self._send(data)

    def _written_by_h11(self, status: int, headers: list[Header], body: bytes, *, close: bool) -> bytes:
        written = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        if close or not self._whole:
            written.append((b"Connection", b"close"))
        http = self._http
        data = http.send(h11.Response(status_code=status, headers=written, reason=_REASONS[status].encode())) or b""
        if body:
            data += http.send(h11.Data(data=body)) or b""
        return data + (http.send(h11.EndOfMessage()) or b"")

    def _next_cycle(self) -> None:
        """Expect the next request, with the bytes of it that were received already."""
        trailing, ended = self._http.trailing_data
        self._http = _parser(self._config)
        self._answered = True
        if trailing:
            self._http.receive_data(trailing)
        if ended:
            self._http.receive_data(b"")

    async def _send(self, data: bytes) -> None:
        sent = self._try_send(data)
        if sent == len(data):
            # Reading on is a checkpoint, unless the next request is here already.
            if self.trailing:
                await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(self._config.send_s_max):
            try:
                await self._stream.send_all(data[sent:])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise PeerGone from None
            return
        raise PeerGone

    def _try_send(self, data: bytes) -> int:
        """Write what the socket takes now, which is all of it if the peer reads; return the number of bytes.

        Saves a cancel scope, a lock and a turn of the loop: 35 us, an eighth of a poll (cProfile and `bench polls`).
        """
        if not isinstance(self._stream, trio.SocketStream):
            return 0
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:
            raise PeerGone from None

    async def linger(self) -> None:
        """Let the peer read the last reply: closing with its bytes unread would reset the connection under it.

        Ends when the peer closes, at the latest after `LINGER_S_MAX` seconds or `LINGER_BYTES_MAX` bytes. RFC 9112
        section 9.6 asks for it.
        """
        left = 0 if self._ended else LINGER_BYTES_MAX
        with trio.move_on_after(LINGER_S_MAX):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while left > 0:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                    left = left - len(data) if data else 0
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


def _announced(request: h11.Request) -> int | None:
    """Return the length of the body that a request announces; None if it announces none."""
    announced = 0
    for name, value in request.headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            announced = int(value)
    return announced


def _parser(config: ServerConfig) -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=config.head_bytes_max)


def _head_text(status: int, headers: Sequence[Header]) -> bytes:
    """Write the head of a reply."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    text = "".join(lines)
    # Text of a peer within a value must not make another header, or another reply.
    if not text.count("\n") == text.count("\r") == len(lines):
        raise AssertionError(f"a header holds a line end: {headers}")
    return text.encode("latin-1") + b"\r\n"
