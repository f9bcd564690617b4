"""The answers of nodes over HTTP: what a status and a body mean, also if no node wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, final

from softstate.client.machine.state import FOREIGN
from softstate.errors import (
    ERRORS_BY_CODE,
    Denied,
    Invalid,
    Overloaded,
    RequestError,
    SoftstateError,
    Unauthenticated,
    Unavailable,
)
from softstate.http_client.exchange import QUOTE_CHARS_MAX, Response
from softstate.position import Position
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Error

T = TypeVar("T")

ERROR_CHARS_MAX = 1024
"""Longest error message taken over from a response: a node's own are shorter, and logs must not grow with others."""

RETRY_AFTER_S_MAX = 3_600
"""Longest Retry-After that is believed."""


LAG_HEADER = "softstate-lag-ms"
"""Header that tells how long ago what is told was read from the store."""

FORBIDDING = (Unauthenticated.http_status, Denied.http_status)
"""Statuses that a proxy uses, too."""


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
            raise HttpFailed(self._not_understood(error)) from None

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
        if self.status in FORBIDDING:
            return HttpFailed(text, error=foreign(self.status))
        return HttpFailed(text)

    def _not_understood(self, error: Invalid) -> str:
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if kind in (CBOR.content_type, JSON.content_type):
            return f"the response cannot be understood: {error.message}"
        shown = repr(kind[:QUOTE_CHARS_MAX]) if kind else "no type"
        text = f"HTTP status {self.status} with {shown}: no node of softstate answers so"
        return f"{text}. Check the URL, and the proxy in between if there is one"

    def _codec(self) -> Codec:
        return CBOR if (self.header("content-type") or "").startswith(CBOR.content_type) else JSON


def foreign(status: int) -> Denied:
    """Return the error for an answer 401 or 403 that no node gave: it bars its URL, and stops no client (P-CLI-6)."""
    text = f"HTTP status {status} that is not softstate's own: a proxy or firewall in front of the node refuses this"
    return Denied(f"{text} client. Give it what it asks for, by `headers` of connect perhaps", why=FOREIGN)


def retry_after_ms(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Read Retry-After, in milliseconds; None if absent, or given as a date.

    A date would need the wall clock, of which this client otherwise knows nothing.
    """
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return min(int(value[:9]), RETRY_AFTER_S_MAX) * 1000
    return None


def version_of(reply: Reply) -> int | None:
    """Read the version from an ETag, ``"epoch.lineage.version+cbor"``; None if there is none that can be read."""
    tag = reply.header("etag")
    named = "" if tag is None else tag.removeprefix("W/").strip('"')
    position = Position.parse(named.removesuffix("+json").removesuffix("+cbor"))
    return None if position is None else position.revision


def lag_s_of(reply: Reply) -> float:
    """Read how far the answer lagged behind the store when it was read, in seconds; 0 if it does not say."""
    told = reply.header(LAG_HEADER) or ""
    return int(told) / 1000 if told.isascii() and told.isdigit() and len(told) <= 12 else 0.0
