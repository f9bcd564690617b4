"""The routes of the browser client: each node serves the one that fits it, and with ``--ui`` a page that uses it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import trio

from softstate.errors import NotFound
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Request
from softstate.server.http.validators import ANY, parse_tags
from softstate.server.http1 import Reply
from softstate.web import WebFile, page_files, web_files

_GZIP = re.compile(r"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?(?:[\s,]|$))", re.IGNORECASE)

SELF = "'self'"
_NONE = ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "object-src 'none'")
_NO_REFERRER = ("Referrer-Policy", "no-referrer")


async def web_file(_context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /softstate.js`` and the like: caches ask before they use it again, and get a 304 if it is the same.

    Raises `Invalid` for an ``If-None-Match`` that is none.
    """
    # In a thread: the first time the files are made.
    files = await trio.to_thread.run_sync(web_files)
    return _reply(request, files[request.path])


def page_file(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /ui`` and the paths below it. They are public; what the page shows needs the rights of its token.

    Raises `NotFound` unless the node was told to serve the page.
    """
    if not context.config.ui:
        raise NotFound("this node serves no page: it was not started with --ui")
    nodes = context.config.ui_nodes
    policy = "; ".join(("default-src 'self'", f"connect-src {' '.join((SELF, *nodes))}", *_NONE))
    headers = (("Content-Security-Policy", policy), _NO_REFERRER)
    return _reply(request, page_files(nodes)[request.path], headers)


def _reply(request: Request, file: WebFile, more: Sequence[tuple[str, str]] = ()) -> Reply:
    zipped = _GZIP.search(request.header("accept-encoding") or "") is not None
    tag = f"{file.digest}-gzip" if zipped else file.digest
    headers = (("ETag", f'"{tag}"'), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding, Origin"), *more)
    condition = request.header("if-none-match")
    if condition is not None and not {ANY, tag}.isdisjoint(parse_tags(condition, "If-None-Match")):
        return Reply(304, headers=headers)
    if zipped:
        return Reply(200, file.zipped, file.content_type, (*headers, ("Content-Encoding", "gzip")))
    return Reply(200, file.content, file.content_type, headers)
