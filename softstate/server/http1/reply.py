"""Replies, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softstate.errors import RequestError

Header = tuple[str, str]

REASONS = {
    200: "OK", 204: "No Content", 304: "Not Modified",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 410: "Gone", 412: "Precondition Failed", 413: "Content Too Large",
    415: "Unsupported Media Type", 417: "Expectation Failed", 421: "Misdirected Request", 422: "Unprocessable Content",
    426: "Upgrade Required", 428: "Precondition Required", 429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
"""The statuses that a node answers with, and their phrases (RFC 9110 section 15, RFC 6585)."""

_BEGINNINGS = {
    status: f"HTTP/1.1 {status} {reason}\r\nX-Content-Type-Options: nosniff\r\n" for status, reason in REASONS.items()
}
_LINES_OF_BEGINNING = 2

BODILESS = frozenset({204, 304})
"""Final statuses whose replies have no body, and no length (RFC 9110 section 8.6)."""


class Refused(Exception):
    """A request that is refused with `status` instead of the usual one of its error's code, and with `headers`."""

    def __init__(self, status: int, error: RequestError, headers: Sequence[Header] = ()) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = tuple(headers)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. Writing it adds the length, the date, and the headers that concern the connection."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[Header, ...] = ()

    def with_headers(self, *headers: Header) -> Reply:
        """Return this reply with more headers."""
        return Reply(self.status, self.body, self.content_type, self.headers + headers)


def write_reply(reply: Reply, date: str, *, close: bool, bodiless: bool, endless: bool = False) -> bytes:
    """Write a reply; `date` is of the form of RFC 9110 section 5.6.7, or empty; `bodiless`: HEAD was asked.

    `endless`: its body goes on until the connection is closed (RFC 9112 section 6.3), so that no length is told.

    Raises `AssertionError` for a header with a line end: text of a peer must not make another header, or another reply.
    """
    status, body = reply.status, reply.body
    lines = [_BEGINNINGS[status]]
    lines += [f"{name}: {value}\r\n" for name, value in reply.headers]
    count = _LINES_OF_BEGINNING + len(reply.headers)
    if date:
        lines.append(f"Date: {date}\r\n")
        count += 1
    if reply.content_type:
        lines.append(f"Content-Type: {reply.content_type}\r\n")
        count += 1
    if status not in BODILESS and not endless:
        lines.append(f"Content-Length: {len(body)}\r\n")
        count += 1
    if close:
        lines.append("Connection: close\r\n")
        count += 1
    text = "".join(lines)
    if not text.count("\n") == text.count("\r") == count:
        raise AssertionError(f"a header holds a line end: {reply.headers}")
    head = text.encode("latin-1") + b"\r\n"
    return head if bodiless or status in BODILESS else head + body
