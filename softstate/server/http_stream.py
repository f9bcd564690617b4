"""HTTP/1.1 over one stream: h11 with every limit and deadline that a server needs, and nothing about routes.

The compromises that h11's own example server lists are settled here: a head has a size, a count and a deadline; a body
a size and a deadline; silence and slow reading end; a peer that is refused while it still sends gets to read why.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NoReturn

import h11
import trio

from softstate.errors import Invalid, TooLarge, Unsupported
from softstate.server.config import ServerConfig
from softstate.server.http import Refused, Reply

RECEIVE_BYTES: Final = 16 * 1024

LINGER_S_MAX: Final = 2.0
"""How long a refused peer may go on sending before its connection is closed all the same."""

LINGER_BYTES_MAX: Final = 1024 * 1024
"""How much a refused peer may go on sending; all of it is thrown away."""


class PeerGone(Exception):
    """The connection is of no use any more: lost, or its peer does not take what it asked for."""


class HttpStream:
    """One connection as a sequence of requests and replies. Used by one task."""

    def __init__(self, stream: trio.abc.Stream, config: ServerConfig) -> None:
        self._stream = stream
        self._config = config
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=config.head_bytes_max)
        self._fresh = True
        self._asked_for_head = False
        self._ended = False
        self._whole = False
        self._silence: trio.CancelScope | None = None

    @property
    def reusable(self) -> bool:
        """Whether another request may follow, now that a reply has been sent."""
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    @property
    def trailing(self) -> bytes:
        """What was received behind an upgrade request."""
        return self._http.trailing_data[0]

    # Reading --------------------------------------------------------------------------------------------------------

    async def read_head(self) -> h11.Request | None:
        """Return the next request's head; None once the peer has left, or has been silent for too long.

        A new connection has ``head_s_max`` to send a head; a kept one may be silent for ``idle_s_max``, then has
        ``head_s_max`` from the first byte on. Raises `Refused` or `PeerGone`.
        """
        config = self._config
        self._whole = False
        self._asked_for_head = False
        if not self._fresh:
            self._http.start_next_cycle()
        deadline = trio.current_time() + config.head_s_max
        if not self.trailing:
            with trio.move_on_at(deadline if self._fresh else trio.current_time() + config.idle_s_max) as silence:
                self._silence = None if self._fresh else silence
                await self._receive()
            self._silence = None
            if silence.cancelled_caught:
                return None
        if not self._fresh:
            deadline = trio.current_time() + config.head_s_max
        self._fresh = False
        with trio.move_on_at(deadline) as slow:
            return await self._head()
        assert slow.cancelled_caught
        raise Refused(408, Invalid(f"the request's head took longer than {config.head_s_max:g} s (head_s_max)"))

    def stop_waiting(self) -> None:
        """End the connection if it is a kept one on which nothing is under way.

        A new one is left alone: its request may be on its way, and nobody repeats a first request unasked.
        """
        if self._silence is not None:
            self._silence.cancel()

    async def _head(self) -> h11.Request | None:
        before = len(self.trailing)
        event = self._event()
        while event is h11.NEED_DATA:
            await self._receive()
            before = len(self.trailing)
            event = self._event()
        if isinstance(event, h11.ConnectionClosed):
            return None
        assert isinstance(event, h11.Request)
        if not event.http_version.startswith(b"1."):
            raise Refused(505, Unsupported("this server speaks HTTP/1.1"))
        self._asked_for_head = event.method == b"HEAD"
        size = before - len(self.trailing)
        if size > self._config.head_bytes_max:
            self._too_large(f"{size} bytes", f"{self._config.head_bytes_max} bytes (head_bytes_max)")
        if len(event.headers) > self._config.headers_max:
            self._too_large(f"{len(event.headers)} headers", f"{self._config.headers_max} (headers_max)")
        if not _has_body(event):
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
        if not _has_body(request):
            return b""
        limit = self._config.body_bytes_max
        if any(name == b"content-length" and int(value) > limit for name, value in request.headers):
            raise self._body_too_large()
        if self._http.they_are_waiting_for_100_continue:
            await self._send(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        with trio.move_on_after(self._config.body_s_max) as slow:
            return await self._body(limit)
        assert slow.cancelled_caught
        raise Refused(408, Invalid(f"the request's body took longer than {self._config.body_s_max:g} s (body_s_max)"))

    async def _body(self, limit: int) -> bytes:
        body = bytearray()
        while True:
            event = self._event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    raise self._body_too_large()
            else:
                assert isinstance(event, h11.EndOfMessage)
                self._whole = True
                return bytes(body)

    def _body_too_large(self) -> TooLarge:
        return TooLarge(f"the body is longer than the limit (body_bytes_max), {self._config.body_bytes_max} bytes")

    def _event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
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
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in reply.headers]
        if reply.content_type:
            headers.append((b"Content-Type", reply.content_type.encode("ascii")))
        empty = reply.status in (204, 304)
        if not empty:
            headers.append((b"Content-Length", str(len(reply.body)).encode("ascii")))
        if close or not self._whole:
            headers.append((b"Connection", b"close"))
        http = self._http
        reason = HTTPStatus(reply.status).phrase.encode("ascii")
        data = http.send(h11.Response(status_code=reply.status, headers=headers, reason=reason)) or b""
        if not empty and not self._asked_for_head:
            data += http.send(h11.Data(data=reply.body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        await self._send(data)

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(self._config.send_s_max):
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise PeerGone from None
            return
        raise PeerGone

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


def _has_body(request: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
        for name, value in request.headers
    )
