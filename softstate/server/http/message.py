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

from softstate.auth.identity import Identity
from softstate.auth.lasting import NOBODY
from softstate.auth.presented import Certificate
from softstate.errors import Invalid, RequestError
from softstate.position import Position
from softstate.server.http.arguments import check_escapes
from softstate.server.http1 import Header, Reply, RequestHead
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import Error

ACCEPTS_KEPT = 64
"""Different ``Accept`` headers whose meaning is remembered; there are few."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 0: version, trace, span, flags."""


@dataclass(slots=True)
class Request:
    """A request. `path` is as sent, percent-encoding included; header names are lower case, repeated headers joined.

    `authority` is what a target in absolute form names before its path, None in origin form. The route table
    (`softstate.server.http.routes`) fills in `given`, the parameters, and `content`, the body as it was understood.
    `credentials` is its ``Authorization``, None if it has none, which is not among its headers.
    `peer` names the other end of its connection, which has presented `certificate` in the handshake of TLS; `address`
    is its client's (`softstate.server.http.forwarded`), empty if nothing asks for it. `identity` is whose it is, and
    `arrived` when that was found out, by the node's clock. `known` is the identity that its token made when its
    connection presented it before, None for one that has to be asked for. `began` is when it was looked at, by Trio's
    clock, if there is an access log.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    authority: str | None = None
    credentials: bytes | None = None
    peer: str = ""
    certificate: Certificate | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    content: Any = None
    identity: Identity = NOBODY
    arrived: float = 0.0
    address: str = ""
    known: Identity | None = None
    began: float = 0.0

    @classmethod
    def of(
        cls, head: RequestHead, credentials: bytes | None = None, peer: str = "", certificate: Certificate | None = None
    ) -> Request:
        """Take a request as its head was read; its body may still have to come."""
        return cls(
            head.method, head.path, head.query, head.headers, b"", head.authority, credentials, peer, certificate
        )

    def header(self, name: str) -> str | None:
        """Return a header's value, repeated ones joined by commas; None if it is absent."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    def traceparent(self) -> str | None:
        """Return the header that names the caller's trace and span; None if it is absent or malformed."""
        value = self.header("traceparent")
        return value if value is not None and _TRACEPARENT.fullmatch(value) else None

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
