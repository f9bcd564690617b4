"""Polling: the changes of many topics and prefixes, in one conditional request, page by page.

The server keeps nothing between pages; see `softstate.server.http.validators`. The pages of one answer add up. When an
answer cannot be continued, because compaction has forgotten tombstones that its next page would have needed, the page
asked for is refused as `compacted` (410): the client drops what it noted of this answer (which names were listed;
changes already applied stay applied) and sends the request again without a cursor. A page of a new answer in the same
reply would not do: a topic that the old one listed, and that was deleted and forgotten since, would never be swept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import trio

from softstate.errors import Compacted, Invalid, NotFound, RequestError
from softstate.model import PAGE_RECORDS_MAX, Query
from softstate.names import check_prefix
from softstate.server.bulkhead import failed
from softstate.server.fanout.pages import encode_in_turns
from softstate.server.http.arguments import PollBody
from softstate.server.http.begun_poll import BegunPoll
from softstate.server.http.context import HttpContext, Settle
from softstate.server.http.credentials import check_read, denied_names, note_denied
from softstate.server.http.message import Request
from softstate.server.http.names import check_known_topic, check_names
from softstate.server.http.poll_replies import reply_page, reply_unchanged
from softstate.server.http.validators import Cursor
from softstate.server.http1 import Refused, Reply
from softstate.server.services import PollWatch
from softstate.server.storage.asker import ASKER


def begin_poll(context: HttpContext, request: Request, settle: Settle, broken: Callable[[], None]) -> bool:
    """Begin to answer what `poll_unchanged` did not, without a task if the head, or one page, is all it takes."""
    asked: PollBody = request.content
    if not _is_small(context, request, asked) or asked.min_revision > context.hub.position.revision:
        return False
    for topic in asked.topics:
        check_known_topic(topic)
    for prefix in asked.prefixes:
        check_prefix(prefix, "prefixes")
    if denied_names(request, (*asked.topics, *asked.prefixes)):
        return False
    BegunPoll(context, request, Query(asked.topics, asked.prefixes, asked.witness), settle, broken).begin()
    return True


async def poll(context: HttpContext, request: Request) -> Reply:
    """Answer ``POST /v1/poll``."""
    if context.config.role == "push":
        raise Refused(404, NotFound("this node does not serve polls (its role is push): ask another node"))
    asked: PollBody = request.content
    watch = context.services.watch_poll(again=True)
    try:
        await check_names(context, asked.topics, asked.prefixes)
        denied = await _denied(context, request, (*asked.topics, *asked.prefixes))
        if asked.wait_ms and asked.cursor is None and not denied:
            watch.left()
            return await _wait(context, request, Query(asked.topics, asked.prefixes, asked.witness))
        query = Query(_without(asked.topics, denied), _without(asked.prefixes, denied), asked.witness)
        if asked.cursor is None and (page := await context.unchanged.confirm(query, asked.min_revision)) is not None:
            return reply_page(request, query, page, watch, {}, denied, asked.wait_ms)
        return await _answer(
            context, request, query, asked.cursor, asked.min_revision, watch, denied, wait_ms=asked.wait_ms
        )
    finally:
        watch.left()


async def _wait(context: HttpContext, request: Request, query: Query) -> Reply:
    """Hold a poll of many names, as `begin_poll` holds one of few; nothing but this task knows what it asks for."""
    asked: PollBody = request.content
    if asked.min_revision > context.hub.position.revision:
        await context.read(query, asked.min_revision)
    done = trio.Event()
    outcomes: list[Reply | RequestError] = []

    def settle(outcome: Reply | RequestError) -> None:
        outcomes.append(outcome)
        done.set()

    begun = BegunPoll(context, request, query, settle, partial(settle, failed("answering this request")))
    try:
        begun.begin()
        await done.wait()
    finally:
        begun.abandon()
    (outcome,) = outcomes
    if isinstance(outcome, RequestError):
        raise outcome
    return outcome


def poll_unchanged(context: HttpContext, request: Request) -> Reply | None:
    """Answer a poll that has nothing to learn, without waiting; None if it has to be answered by `poll` (P-HTTP-17)."""
    asked: PollBody = request.content
    if asked.wait_ms or not _is_small(context, request, asked):
        return None  # one that waits is not to be answered, but held
    # Topics that are known were checked when they were learnt; a prefix that is none is for `poll` to refuse.
    try:
        for prefix in asked.prefixes:
            check_prefix(prefix)
    except Invalid:
        return None
    if denied_names(request, (*asked.topics, *asked.prefixes)):
        return None
    query = Query(asked.topics, asked.prefixes, asked.witness)
    page = context.unchanged.answer(query, asked.min_revision)
    return None if page is None else reply_unchanged(context, request, page, ASKER.get(), asked.wait_ms)


def _is_small(context: HttpContext, request: Request, asked: PollBody) -> bool:
    """Tell whether a poll is a whole question, of so few names that it is looked at in any turn."""
    names_max = min(context.config.subscriptions_max, context.turns.names_max // request.identity.grant.weight)
    return (
        context.config.role != "push" and asked.cursor is None and len(asked.topics) + len(asked.prefixes) <= names_max
    )


async def list_topics(context: HttpContext, request: Request) -> Reply:
    """Answer ``GET /v1/topics``: all topics under ``prefix`` (default ``/``), or those changed after ``since``."""
    given = request.given
    prefix = check_prefix(given.get("prefix", "/"))
    check_read(context.gate, request, prefix)
    query = Query(prefixes={prefix: given.get("since", 0)}, limit=given.get("limit", PAGE_RECORDS_MAX))
    watch = context.services.watch_poll(again=False)
    try:
        return await _answer(context, request, query, given.get("cursor"), given.get("at_least", 0), watch)
    finally:
        watch.left()


async def _denied(context: HttpContext, request: Request, names: Sequence[str]) -> Sequence[str]:
    """Find those of `names` that may not be read."""
    if request.identity.grant.admin:
        return ()
    denied: list[str] = []
    weight = request.identity.grant.weight
    portion = max(context.turns.names_max // weight, 1)
    for at in range(0, len(names), portion):
        if at or weight > 1:
            await context.turns.spend(min(portion, len(names) - at) * weight)
        denied += denied_names(request, names[at : at + portion])
    if denied:
        context.gate.check_asked(request.identity, "read", denied)
        note_denied(context.gate, request, "read", denied)
    return denied


def _without(asked: Mapping[str, int], denied: Collection[str]) -> Mapping[str, int]:
    lost = set(denied)
    return {name: known for name, known in asked.items() if name not in lost} if lost else asked


async def _answer(
    context: HttpContext,
    request: Request,
    query: Query,
    cursor_text: str | None,
    at_least: int,
    watch: PollWatch,
    denied: Sequence[str] = (),
    wait_ms: int | None = None,
) -> Reply:
    cursor = None
    if cursor_text is not None:
        cursor = Cursor.parse(cursor_text, query)
        query = cursor.resume(query)
    reading = context.unchanged.begin()
    page = await context.read(query, at_least)
    context.unchanged.learn(query, page, reading)
    if page.restart or (cursor is not None and not cursor.continues(page)):
        raise Compacted(
            "the store forgot deletions that the next page would have named: send the request again without cursor",
            position=page.position,
        )
    codec = request.accepted()
    encoded = await encode_in_turns(context.turns, codec, page.records, codec.change)
    return reply_page(request, query, page, watch, encoded, denied, wait_ms)
