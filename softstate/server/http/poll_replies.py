"""The replies to polls: a page of an answer, or that there is nothing to learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from softstate.model import Page, Query
from softstate.position import Position
from softstate.server.http.context import HttpContext
from softstate.server.http.credentials import credentials_ms, narrowed_names
from softstate.server.http.message import Request, position_headers
from softstate.server.http.validators import next_cursor
from softstate.server.http1 import Header, Reply
from softstate.server.services import PollWatch
from softstate.server.storage.asker import Asker
from softstate.wire import Codec
from softstate.wire.messages import Polled

REPLIES_KEPT = 64
"""Replies to polls that have nothing to learn that are kept: those of the last milliseconds."""

HELD_HEADER = "Softstate-Held-Ms"
"""The header that tells how long a request was held before the read behind its answer, rounded down (P-HTTP-4)."""


def held_headers(held_ms: int | None) -> tuple[Header, ...]:
    """Return the header of a reply to a request that was held; none if it was not."""
    return () if held_ms is None else ((HELD_HEADER, str(held_ms)),)


def reply_unchanged(
    context: HttpContext, request: Request, page: Page, asker: Asker, wait_ms: int | None, held_ms: int | None = None
) -> Reply:
    """Write the reply to a poll that has nothing to learn; `wait_ms` is what it would wait for news, None if not."""
    next_ms = context.services.next_poll_ms(asker, wait_ms, request.content)
    codec, lag_ms, left_ms = request.accepted(), math.ceil(page.lag_s * 1000), credentials_ms(request)
    if held_ms is not None:
        told = Polled(
            0, page.position, next_ms=next_ms, lag_ms=lag_ms, credentials_ms=left_ms, held_ms=held_ms
        )  # fmt: skip
        headers = (*position_headers(page.position, lag_ms / 1000), *held_headers(held_ms))
        return Reply(200, codec.encode(told), codec.content_type, headers)
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


def reply_page(
    request: Request,
    query: Query,
    page: Page,
    watch: PollWatch,
    encoded: Mapping[int, bytes],
    denied: Sequence[str] = (),
    wait_ms: int | None = None,
    held_ms: int | None = None,
) -> Reply:
    """Write the reply that brings a page; its records may be `encoded` already."""
    codec = request.accepted()
    body = codec.encode(_polled(request, query, page, watch, denied, wait_ms, held_ms), page.records, encoded)
    headers = (*position_headers(page.position, page.lag_s), *held_headers(held_ms))
    return Reply(200, body, codec.content_type, headers)


def _polled(
    request: Request,
    query: Query,
    page: Page,
    watch: PollWatch,
    denied: Sequence[str],
    wait_ms: int | None,
    held_ms: int | None,
) -> Polled:
    position: Position = page.position
    if page.more:
        return Polled(0, position, more=True, cursor=next_cursor(query, page).text(query), held_ms=held_ms or 0)
    return Polled(
        0,
        position,
        compacted=list(page.compacted),
        denied=list(denied),
        next_ms=watch.answered(wait_ms, request.content),
        lag_ms=math.ceil(page.lag_s * 1000),
        credentials_ms=credentials_ms(request),
        narrow=narrowed_names(request, denied),
        held_ms=held_ms or 0,
    )
