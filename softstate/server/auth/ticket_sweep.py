"""Forgetting tickets that nobody has redeemed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
import trio

from softstate.auth.tickets import TICKETS, is_over
from softstate.errors import RequestError
from softstate.model import Page, Query
from softstate.server.auth.warden import FORGET_S, Publish
from softstate.server.bulkhead import Bulkhead
from softstate.store.base import Write
from softstate.wire.request_digest import request_digest

Read: TypeAlias = Callable[[Query], Awaitable[Page]]
"""Reads a page of the store. Raises `RequestError`."""

log = structlog.get_logger("softstate.audit")


async def forget_tickets(read: Read, publish: Publish, wall: Callable[[], float], bulkhead: Bulkhead) -> None:
    """Delete tickets that are over, a page of them a minute, until cancelled. Several nodes at once do no harm."""
    while True:
        await trio.sleep(FORGET_S)
        with bulkhead.contain("tickets"):
            try:
                page = await read(Query(prefixes={TICKETS: 0}))
                for record in page.records:
                    if is_over(record.cbor, wall()):
                        digest = request_digest(record.topic, None, record.version, None)
                        await publish(Write(record.topic, None, record.version, None, None, digest))
            except RequestError as error:
                log.debug("tickets not forgotten", because=error.message)
