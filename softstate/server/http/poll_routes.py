"""Polling: the changes of many topics and prefixes, in one conditional request, page by page.

The server keeps nothing between pages; see `softstate.server.http.validators`. The pages of one answer add up. When an
answer cannot be continued, because compaction has forgotten tombstones that its next page would have needed, the page
asked for is refused as `compacted` (410): the client drops what it noted of this answer (which names were listed;
changes already applied stay applied) and sends the request again without a cursor. A page of a new answer in the same
reply would not do: a topic that the old one listed, and that was deleted and forgotten since, would never be swept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache

from softstate.errors import Compacted, Invalid, NotFound, RequestError, TooLarge
from softstate.model import PAGE_RECORDS_MAX, Page, Query
from softstate.names import check_prefix, check_topic
from softstate.position import Position
from softstate.server.fanout.pages import encode_by_turns, encode_in_turns
from softstate.server.http.arguments import PollBody
from softstate.server.http.context import HttpContext, Settle
from softstate.server.http.credentials import check_read, credentials_ms, denied_names, narrowed_names, note_denied
from softstate.server.http.message import Request, position_headers
from softstate.server.http.validators import Cursor, next_cursor
from softstate.server.http1 import Header, Refused, Reply
from softstate.server.services import PollWatch
from softstate.server.storage.asker import ASKER, Asker
from softstate.server.storage.read_queue import ReadTicket
from softstate.wire import Codec
from softstate.wire.messages import Polled

TOPICS_KEPT = 4_096
"""Topics that are remembered as valid: 1 MiB of names at most. It takes 0.1 us to look one up, 2 us to check it."""

REPLIES_KEPT = 64
"""Replies to polls that have nothing to learn that are kept: those of the last milliseconds."""


def begin_poll(context: HttpContext, request: Request, settle: Settle, broken: Callable[[], None]) -> bool:
    """Begin to answer what `poll_unchanged` did not, without a task if the head, or one page, is all it takes."""
    asked: PollBody = request.content
    if not _is_small(context, request, asked) or asked.min_revision > context.hub.position.revision:
        return False
    for topic in asked.topics:
        _check_topic(topic)
    for prefix in asked.prefixes:
        check_prefix(prefix, "prefixes")
    if denied_names(request, (*asked.topics, *asked.prefixes)):
        return False
    query = Query(asked.topics, asked.prefixes, asked.witness)
    if not context.unchanged.knows(query, asked.min_revision):
        _read_page(context, request, query, settle, broken)
        return True

    asker = ASKER.get()  # what is called back is called in the context of the store's task

    def confirmed(page: Page | None) -> None:
        if page is not None:
            settle(_reply_unchanged(context, request, page, asker))
            return
        try:
            ASKER.set(asker)
            _read_page(context, request, query, settle, broken)
        except RequestError as error:
            settle(error)

    context.unchanged.confirm_soon(query, asked.min_revision, confirmed, broken)
    return True


def _read_page(
    context: HttpContext, request: Request, query: Query, settle: Settle, broken: Callable[[], None]
) -> None:
    arrived = context.unchanged.begin()
    codec = request.accepted()

    def end(outcome: Reply | RequestError) -> None:
        # Of no effect on a poll that was answered to its end. A page with more behind it is over as well: if it counted
        # as in progress from then on, the node would take itself for busy, and refuse all polls in the end.
        watch.left()
        settle(outcome)

    def failed() -> None:
        watch.left()
        broken()

    def answered(ticket: ReadTicket) -> None:
        page = ticket.answer
        if page is None:
            assert ticket.error is not None
            end(ticket.error)
            return
        context.unchanged.learn(query, page, arrived)

        def encoded(changes: Mapping[int, bytes]) -> None:
            end(_reply(request, query, page, watch, changes))

        encode_by_turns(context.turns, codec, page.records, codec.change, encoded, failed)

    context.reads.submit(query, ASKER.get(), answered, failed)
    # Only now: if that raises, nothing is called that would end it.
    watch = context.services.watch_poll(again=True)


async def poll(context: HttpContext, request: Request) -> Reply:
    """Answer ``POST /v1/poll``."""
    if context.config.role == "push":
        raise Refused(404, NotFound("this node does not serve polls (its role is push): ask another node"))
    asked: PollBody = request.content
    watch = context.services.watch_poll(again=True)
    try:
        await _check_names(context, asked.topics, asked.prefixes)
        denied = await _denied(context, request, (*asked.topics, *asked.prefixes))
        query = Query(_without(asked.topics, denied), _without(asked.prefixes, denied), asked.witness)
        if asked.cursor is None and (page := await context.unchanged.confirm(query, asked.min_revision)) is not None:
            return _reply(request, query, page, watch, {}, denied)
        return await _answer(context, request, query, asked.cursor, asked.min_revision, watch, denied)
    finally:
        watch.left()


def poll_unchanged(context: HttpContext, request: Request) -> Reply | None:
    """Answer a poll that has nothing to learn, without waiting; None if it has to be answered by `poll` (P-HTTP-17)."""
    asked: PollBody = request.content
    if not _is_small(context, request, asked):
        return None
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
    return None if page is None else _reply_unchanged(context, request, page, ASKER.get())


def _reply_unchanged(context: HttpContext, request: Request, page: Page, asker: Asker) -> Reply:
    next_ms = context.services.next_poll_ms(asker)
    codec, lag_ms, left_ms = request.accepted(), math.ceil(page.lag_s * 1000), credentials_ms(request)
    if left_ms is None:
        return _unchanged(codec, page.position, next_ms, lag_ms)
    before, behind, headers = _unchanged_but_for_credentials(codec, page.position, next_ms, lag_ms)
    return Reply(200, before + codec.number(left_ms) + behind, codec.content_type, headers)


@lru_cache(REPLIES_KEPT)
def _unchanged(codec: Codec, position: Position, next_ms: int, lag_ms: int) -> Reply:
    """Write the reply to a poll that has nothing to learn: it is the same for all, within a millisecond."""
    body = codec.encode(Polled(0, position, next_ms=next_ms, lag_ms=lag_ms))
    return Reply(200, body, codec.content_type, position_headers(position, lag_ms / 1000))


@lru_cache(REPLIES_KEPT)
def _unchanged_but_for_credentials(
    codec: Codec, position: Position, next_ms: int, lag_ms: int
) -> tuple[bytes, bytes, tuple[Header, ...]]:
    """Write that reply for those whose credentials end, cut where it tells for how long they are good."""
    told = Polled(0, position, next_ms=next_ms, lag_ms=lag_ms, credentials_ms=0)
    return *codec.cut(told, "credentials_ms"), position_headers(position, lag_ms / 1000)


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


@lru_cache(TOPICS_KEPT)
def _check_topic(topic: str) -> None:
    """Check a name of a poll's `topics`: clients poll for the same ones again and again."""
    check_topic(topic, "topics")


async def _check_names(context: HttpContext, topics: Mapping[str, int], prefixes: Mapping[str, int]) -> None:
    count = len(topics) + len(prefixes)
    if count > context.config.subscriptions_max:
        raise TooLarge(f"{count} names in one request, the limit (subscriptions) is {context.config.subscriptions_max}")
    portion = context.turns.names_max
    for number, topic in enumerate(topics, 1):
        _check_topic(topic)
        if number % portion == 0:
            await context.turns.spend(portion)
    for number, prefix in enumerate(prefixes, 1):
        check_prefix(prefix, "prefixes")
        if number % portion == 0:
            await context.turns.spend(portion)


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
    return _reply(request, query, page, watch, encoded, denied)


def _reply(
    request: Request,
    query: Query,
    page: Page,
    watch: PollWatch,
    encoded: Mapping[int, bytes],
    denied: Sequence[str] = (),
) -> Reply:
    codec = request.accepted()
    body = codec.encode(_polled(request, query, page, watch, denied), page.records, encoded)
    return Reply(200, body, codec.content_type, position_headers(page.position, page.lag_s))


def _polled(request: Request, query: Query, page: Page, watch: PollWatch, denied: Sequence[str]) -> Polled:
    position: Position = page.position
    if page.more:
        return Polled(0, position, more=True, cursor=next_cursor(query, page).text(query))
    return Polled(
        0,
        position,
        compacted=list(page.compacted),
        denied=list(denied),
        next_ms=watch.answered(),
        lag_ms=math.ceil(page.lag_s * 1000),
        credentials_ms=credentials_ms(request),
        narrow=narrowed_names(request, denied),
    )
