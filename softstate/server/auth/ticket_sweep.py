"""Forgetting tickets that nobody has redeemed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import structlog
import trio

from softstate.auth.tickets import TICKETS, is_over
from softstate.errors import Conflict, RequestError
from softstate.model import Page, Query
from softstate.server.auth.warden import FORGET_S, Publish
from softstate.server.bulkhead import Bulkhead
from softstate.store.base import Write
from softstate.wire.request_digest import request_digest

Read: TypeAlias = Callable[[Query], Awaitable[Page]]
"""Reads a page of the store. Raises `RequestError`."""

log = structlog.get_logger("softstate.audit")


async def forget_tickets(read: Read, publish: Publish, wall: Callable[[], float], bulkhead: Bulkhead) -> None:
    """Delete all tickets that are over, once a minute, until cancelled. Several nodes at once do no harm."""
    while True:
        await trio.sleep(FORGET_S)
        with bulkhead.contain("tickets"):
            try:
                await _forget_all(read, publish, wall)
            except RequestError as error:
                log.debug("tickets not forgotten", because=error.message)


async def _forget_all(read: Read, publish: Publish, wall: Callable[[], float]) -> None:
    # To the end: a client with a token may make more than a page of them in a minute.
    query = Query(prefixes={TICKETS: 0})
    while True:
        page = await read(query)
        for record in page.records:
            if not record.deleted and is_over(record.cbor, wall()):
                digest = request_digest(record.topic, None, record.version, None)
                # A conflict: it was used just now, or another node was faster.
                with suppress(Conflict):
                    await publish(Write(record.topic, None, record.version, None, None, digest))
        if page.restart or not page.more:
            return
        listed = page.position.revision if query.listed is None else query.listed
        query = replace(query, after=page.next_after, listed=listed)
