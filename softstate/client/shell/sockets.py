"""WebSocket connections as the shell uses them, whichever library speaks: their interface, their ends, their limits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from softstate.client.requests.reply import ERROR_CHARS_MAX, FORBIDDING, foreign, retry_after_ms
from softstate.client.url import NodeUrl
from softstate.errors import ERRORS_BY_CODE, Invalid, RequestError, Unsupported
from softstate.wire import JSON
from softstate.wire.messages import Error

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""Longest message or HTTP body taken from a node: well above what nodes send by default (1 MiB)."""

CLOSE_TIMEOUT_S = 1.0
"""How long the closing handshake may take before the stream is simply closed."""

NO_CLOSE_CODE = (1005, 1006)
"""Codes that stand for the absence of one (RFC 6455 section 7.4.1)."""


class HandshakeFailed(Exception):
    """No WebSocket came to be. `status` is the HTTP status, `retry_ms` the Retry-After, if the node answered at all.

    `error` is what the body of its answer says, if that is an error of a node. `unsent`: no stream came to be.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        retry_ms: int | None = None,
        error: RequestError | None = None,
        *,
        unsent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_ms = retry_ms
        self.error = error
        self.unsent = unsent


class Gone(Exception):
    """The connection has ended. `code` is the close code, if there was one."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class WebSocket(Protocol):
    """One open connection. One task may send and one may receive at a time."""

    async def send(self, *messages: bytes | str) -> None:
        """Send messages, at once. Raises `Gone`. If cancelled, the connection has ended: close it."""

    async def receive(self) -> bytes | str:
        """Return the next message. Raises `Gone` when there will be none; always safe to cancel."""

    async def aclose(self, code: int = 1000) -> None:
        """Close, after a closing handshake of at most `CLOSE_TIMEOUT_S`. If cancelled, close without one."""


class Tasks(Protocol):
    """Starts tasks: a task group of anyio, or a nursery of Trio."""

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> object:
        """Start a task."""


def gone(code: int | None, reason: str | None) -> Gone:
    """Return how a connection ended that was closed with this code, None if it was not closed in order."""
    if code is None or code in NO_CLOSE_CODE:
        return Gone(None, "the connection ended without a close frame")
    return Gone(code, reason or f"closed with code {code}")


UPGRADE_REQUIRED = 426
"""Status of a node that was asked for no WebSocket. This client asks for one, so its request was changed on the way."""

TAKEN_AWAY = (
    "a proxy in front of the node does not pass `Upgrade` and `Connection` on, which a WebSocket handshake needs:"
    " change its configuration (nginx: proxy_http_version 1.1, and proxy_set_header for both). This client polls there"
)

PASSING = range(500, 600)
"""Statuses of a proxy that says no more than that its node cannot be reached now; so do 408 and 429."""


def _foreign(status: int) -> RequestError | None:
    """Return the error of an answer to a handshake that no node wrote; None if waiting may mend it."""
    if status in FORBIDDING:
        return foreign(status)
    if status in PASSING or status in (408, 429):
        return None
    text = f"HTTP status {status} in answer to a WebSocket handshake: a proxy in front of the node does not pass"
    return Unsupported(f"{text} `Upgrade`, or this is no node of softstate. This client polls there, where it can")


def refusal(
    url: NodeUrl, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes | bytearray
) -> HandshakeFailed:
    """Return what a node's refusal of a handshake means."""
    retry_ms = retry_after_ms(headers)
    try:
        told = JSON.loads(bytes(body), Error)
    except Invalid:
        return HandshakeFailed(f"{url} answered {status}", status, retry_ms, _foreign(status))
    if status == UPGRADE_REQUIRED:
        return HandshakeFailed(f"{url} takes no WebSocket: {TAKEN_AWAY}", status, retry_ms, Unsupported(TAKEN_AWAY))
    message = told.message[:ERROR_CHARS_MAX]
    kind = ERRORS_BY_CODE.get(told.code)
    error = None if kind is None else kind(message, retry_ms=retry_ms, why=told.why)
    return HandshakeFailed(f"{url} answered {status}: {message}", status, retry_ms, error)
