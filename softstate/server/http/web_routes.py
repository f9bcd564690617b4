"""The routes of the browser client: each node serves the one that fits it."""

from __future__ import annotations

import re

import trio

from softstate.server.http.context import HttpContext
from softstate.server.http.message import Request
from softstate.server.http.validators import ANY, parse_tags
from softstate.server.http1 import Reply
from softstate.web import web_files

_GZIP = re.compile(r"(?:^|[\s,])gzip(?!\s*;\s*q=0(?:\.0*)?(?:[\s,]|$))", re.IGNORECASE)


async def web_file(_context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /softstate.js`` and the like: caches ask before they use it again, and get a 304 if it is the same.

    Raises `Invalid` for an ``If-None-Match`` that is none.
    """
    # In a thread: the first time the files are made.
    files = await trio.to_thread.run_sync(web_files)
    file = files[request.path]
    zipped = _GZIP.search(request.header("accept-encoding") or "") is not None
    tag = f"{file.digest}-gzip" if zipped else file.digest
    headers = (("ETag", f'"{tag}"'), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding, Origin"))
    condition = request.header("if-none-match")
    if condition is not None and not {ANY, tag}.isdisjoint(parse_tags(condition, "If-None-Match")):
        return Reply(304, headers=headers)
    if zipped:
        return Reply(200, file.zipped, file.content_type, (*headers, ("Content-Encoding", "gzip")))
    return Reply(200, file.content, file.content_type, headers)
