"""The route of the description of the HTTP requests: the file that `softstate.server.http.describe` has written."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import trio

from softstate import wire
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Request
from softstate.server.http1 import Reply
from softstate.wire import JSON

OPENAPI_PATH = "/v1/openapi.json"

OPENAPI_FILE = Path(wire.__file__).with_name("openapi.json")
"""The description, as it is committed and shipped."""


@cache
def _description() -> bytes:
    return OPENAPI_FILE.read_bytes()


async def openapi(_context: HttpContext, _request: Request) -> Reply:
    """Answer ``GET /v1/openapi.json``: what requests there are, as OpenAPI 3.1."""
    # In a thread: the first time the file is read.
    return Reply(200, await trio.to_thread.run_sync(_description), JSON.content_type)
