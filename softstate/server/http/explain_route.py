"""The route by which people ask a node what it knows of a client, or of a topic."""

from __future__ import annotations

from softstate.errors import Invalid
from softstate.server.http.context import HttpContext
from softstate.server.http.message import Request
from softstate.server.http1 import Reply

EXPLAIN_PATH = "/v1/explain"


async def explain(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /v1/explain``."""
    given = request.given
    if ("client" in given) == ("topic" in given):
        raise Invalid(
            "say what to explain: ?client=NAME, by the name that a client has given itself, or ?topic=orders/42"
        )
    explainer = context.services.explainer
    told = await (explainer.client(given["client"]) if "client" in given else explainer.topic(given["topic"]))
    codec = request.accepted()
    return Reply(200, codec.dumps(told), codec.content_type)
