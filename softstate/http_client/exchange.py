"""HTTP/1.1 from the client's side, without I/O: requests become bytes, bytes become responses (RFC 9112, by h11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import h11

HEAD_BYTES_MAX = 16 * 1024
"""Longest head of a response, in bytes."""

QUOTE_CHARS_MAX = 256
"""How much of what a peer sent instead of HTTP is quoted in an error, in characters."""

RESPONSE_BYTES_MAX = 8 * 1024 * 1024
"""Longest body of a response, in bytes, unless the caller of a request says otherwise."""


class ExchangeFailed(Exception):
    """A request got no usable response. `str` says why."""


@final
class MalformedRequest(ExchangeFailed):
    """The request cannot be written as HTTP, for a line break in a header for instance. Nothing was sent."""


@final
class ConnectionBroken(ExchangeFailed):
    """The connection failed or ended before the response was complete.

    `answered` tells whether any byte of the response had arrived, `ended` whether the peer closed the connection in
    order. If nothing had arrived on a connection kept from earlier requests, the peer may simply have closed it while
    it was idle (RFC 9112 section 9.3.1).
    """

    def __init__(self, reason: str, *, answered: bool, ended: bool = False) -> None:
        super().__init__(f"the connection broke: {reason}")
        self.answered = answered
        self.ended = ended


@final
class MalformedResponse(ExchangeFailed):
    """The bytes that arrived are not HTTP, or the head is longer than `HEAD_BYTES_MAX`."""


@final
class ResponseTooLong(ExchangeFailed):
    """The body is longer than the caller allowed."""


@final
@dataclass(frozen=True, slots=True)
class Request:
    """A request. `Host` and, with a body, `Content-Length` are added to the headers."""

    method: str
    host: str
    target: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A response; its body is empty where only the head was asked for. Header names are lower case."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first header of that (lower-case) name, None if there is none."""
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), None)


@final
class Exchange:
    """Requests and responses on one connection, strictly one after the other."""

    def __init__(self) -> None:
        self.answered = False
        """Whether any byte of the present response has arrived."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._ended = False

    def start(self, request: Request) -> bytes:
        """Begin an exchange; return the bytes to send. Raises `MalformedRequest`."""
        self.answered = False
        headers = [("Host", request.host), *request.headers]
        if request.body:
            headers.append(("Content-Length", str(len(request.body))))
        try:
            head = h11.Request(method=request.method, target=request.target, headers=headers)
        except h11.LocalProtocolError as error:
            raise MalformedRequest(f"the request cannot be written as HTTP: {error}") from None
        parts = [self._http.send(head)]
        if request.body:
            parts.append(self._http.send(h11.Data(data=request.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    def receive(self, data: bytes) -> None:
        """Take bytes that have arrived; b"" is the end of the stream. Raises `ExchangeFailed`."""
        if data:
            self.answered = True
        else:
            self._ended = True
        with self._failures():
            self._http.receive_data(data)

    def head(self) -> Response | None:
        """Return the head of the response, None if more bytes are needed. Raises `ExchangeFailed`.

        Informational responses (100 to 199) are skipped.
        """
        with self._failures():
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    return Response(event.status_code, list(event.headers))
                if event is h11.NEED_DATA:
                    return None
                if not isinstance(event, h11.InformationalResponse):
                    raise MalformedResponse("the response is not HTTP/1.1: the peer has switched to another protocol")

    def part(self) -> bytes | None:
        """Return more of the body: b"" at its end, None if more bytes are needed. Raises `ExchangeFailed`."""
        with self._failures():
            event = self._http.next_event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        return b"" if isinstance(event, h11.EndOfMessage) else None

    def finish(self) -> bool:
        """Make ready for another request; tell whether the connection can take one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False  # more than was asked for: nothing that follows could be trusted
        self._http.start_next_cycle()
        return True

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except h11.RemoteProtocolError as error:
            if not self.answered:
                raise ConnectionBroken("closed without a response", answered=False, ended=True) from None
            if self._ended:
                raise ConnectionBroken("closed within the response", answered=True, ended=True) from None
            raise MalformedResponse(f"the response is not HTTP: {str(error)[:QUOTE_CHARS_MAX]}") from None
