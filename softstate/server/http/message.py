"""Requests and replies over HTTP, sans-I/O: the arguments and results of routes (P-HTTP-1).

This is the part of RFC 9110 that softstate needs: two media types, exact parameters, errors in JSON or CBOR.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from softstate.errors import Invalid, RequestError
from softstate.position import Position
from softstate.server.http.arguments import check_escapes
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Error

ACCEPTS_KEPT = 64
"""Different ``Accept`` headers whose meaning is remembered; there are few."""

_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)

Header = tuple[str, str]


class Refused(Exception):
    """A request that is refused with `status` instead of the usual one of its error's code, and with `headers`."""

    def __init__(self, status: int, error: RequestError, headers: Sequence[Header] = ()) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = tuple(headers)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. The HTTP server adds the length, and the headers that concern the connection."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: tuple[Header, ...] = ()

    def has_header(self, name: str) -> bool:
        """Tell whether a header is set already."""
        return any(key.lower() == name.lower() for key, _ in self.headers)

    def with_headers(self, *headers: Header) -> Reply:
        """Return this reply with more headers."""
        return Reply(self.status, self.body, self.content_type, self.headers + headers)


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` is as sent, percent-encoding included; header names are lower case.

    `authority` is what a target in absolute form names before its path, None in origin form. `given` holds the
    parameters, `content` the body, both as the route table (`softstate.server.http.routes`) has read them.
    """

    method: str
    path: str
    query: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    authority: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    content: Any = None

    @classmethod
    def of(cls, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Request:
        """Take a request as h11 parsed it, its target in origin or absolute form (RFC 9112 section 3.2)."""
        text = target.decode("latin-1")
        absolute = _ABSOLUTE.match(text)
        authority = None
        if absolute is not None:
            authority = absolute[1]
            text = text[absolute.end() :] or "/"
        path, _, query = text.partition("?")
        # h11 makes a new pair whenever one of its headers is read: after one copy, reading them costs nothing.
        return cls(method.decode("ascii"), path, query, tuple(headers), authority=authority)

    def header(self, name: str) -> str | None:
        """Return a header's value, repeated ones joined by commas; None if it is absent."""
        wanted = name.encode()
        found = [value.decode("latin-1") for key, value in self.headers if key == wanted]
        return ", ".join(found) if found else None

    def accepted(self) -> Codec:
        """Return the codec of the reply: CBOR if `Accept` names and prefers it, else JSON."""
        return _accepted(self.header("accept") or "")

    def body_codec(self) -> Codec:
        """Return the codec of the body: CBOR if `Content-Type` says so, else JSON.

        Other types are not refused, since curl calls every body that follows ``-d`` a form; a body that is not JSON is.
        """
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        return CBOR if kind == CBOR.content_type else JSON


@lru_cache(ACCEPTS_KEPT)
def _accepted(accept: str) -> Codec:
    weights = _weights(accept)
    cbor = weights.get(CBOR.content_type, 0.0)
    json = max(weights.get(kind, 0.0) for kind in (JSON.content_type, "application/*", "*/*"))
    if JSON.content_type in weights:
        json = weights[JSON.content_type]
    return CBOR if cbor > 0 and cbor >= json else JSON


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for item in accept.split(","):
        kind, *options = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for option in options:
            if re.fullmatch(r"q=[01](\.[0-9]{0,3})?", option):
                weight = float(option[2:])
        weights[kind] = weight
    return weights


def decode_segment(text: str) -> str:
    """Undo percent-encoding. Raises `Invalid` if it is malformed or not UTF-8."""
    check_escapes(text)
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Invalid("the topic in the path must be percent-encoded UTF-8") from None


def position_headers(position: Position, lag_s: float = 0.0) -> tuple[Header, ...]:
    """Return the headers with the position that an answer is of, and how old it may be, rounded up."""
    return ("Softstate-Position", str(position)), ("Softstate-Lag-Ms", str(math.ceil(lag_s * 1000)))


def fail(error: RequestError, codec: Codec, status: int | None = None, headers: Sequence[Header] = ()) -> Reply:
    """Write an error as a reply: its fields in the body, and ``Retry-After`` as a header, too."""
    more = list(headers)
    if error.retry_ms is not None:
        more.append(("Retry-After", str(math.ceil(error.retry_ms / 1000))))
    body = Error(
        error.code, error.message,
        retry_ms=error.retry_ms, current=error.current, position=error.position, why=error.why,
        version=error.version,
    )  # fmt: skip
    return Reply(status or error.http_status, codec.dumps(body), codec.content_type, tuple(more))
