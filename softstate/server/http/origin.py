"""Checks which web pages may talk to this node, and tells browsers so (CORS; the Fetch standard).

Any page in any browser can reach a port on loopback, WebSocket included, and a browser always says which page it is:
so a foreign `Origin` is refused on every route, before anything is done (P-HTTP-9). Programs other than browsers send
none. A browser sends none either with a link or an image of another site; there `Sec-Fetch-Site` tells (Fetch Metadata,
W3C).
"""

from __future__ import annotations

from collections.abc import Collection

from softstate.errors import Denied
from softstate.server.config.hosts import SHOWN_CHARS_MAX, host_of, origin_of
from softstate.server.http.message import Request
from softstate.server.http1 import Header, Refused, Reply

PREFLIGHT_S = 600
"""Time that a browser may remember the answer to a preflight, in seconds."""

_EXPOSED = (
    "ETag, Retry-After, Softstate-Position, Softstate-Lag-Ms, Softstate-Held-Ms, Softstate-Level,"
    " Softstate-Credentials-Ms, WWW-Authenticate"
)
_REQUEST_HEADERS = "Accept, Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_origin(request: Request, origins: Collection[str], *, known_host: bool, secure: bool = False) -> str | None:
    """Return the request's Origin, if any. Raises `Refused` (403) unless it is one of `origins`, or same-origin.

    Same-origin counts only with a `known_host`: else the page's owner may have chosen the name (DNS rebinding). A
    request that its browser calls cross-site needs one of `origins`. With `secure`, it came by TLS of this node.
    """
    origin = request.header("origin")
    if origin is not None and (origin in origins or origin_of(origin) in origins):
        return origin
    if "cross-site" in (request.header("sec-fetch-site") or "").lower():
        raise _denied("pages of other sites may not talk to this node: start it with --origin and the page's origin")
    if origin is None or (known_host and _same(origin, request.header("host") or "", secure=secure)):
        return origin
    shown = repr(origin[:SHOWN_CHARS_MAX])
    raise _denied(f"pages of origin {shown} may not talk to this node: start it with --origin")


def _denied(message: str) -> Refused:
    return Refused(403, Denied(message, why="origin"))


def _same(origin: str, host: str, *, secure: bool) -> bool:
    # A request in plain text may have come by https to a proxy that ends TLS: only the page knows.
    scheme, separator, authority = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    page, node = host_of(authority), host_of(host)
    if not separator or port is None or page is None or node is None or (secure and scheme != "https"):
        return False
    return page.name == node.name and (page.port or port) == (node.port or port)


def cors_headers(origin: str) -> tuple[Header, ...]:
    """Return the headers that let a page of an allowed origin read a reply."""
    return ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED)


def options_reply(request: Request, methods: Collection[str]) -> Reply:
    """Answer OPTIONS for a route; a preflight learns what a page may send."""
    allowed = ", ".join(methods)
    if request.header("access-control-request-method") is None:
        return Reply(204, headers=(("Allow", allowed),))
    return Reply(
        204,
        headers=(
            ("Allow", allowed),
            ("Access-Control-Allow-Methods", allowed),
            ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
            ("Access-Control-Max-Age", str(PREFLIGHT_S)),
        ),
    )
