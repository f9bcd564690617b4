"""The connection that listens: told of every commit at once, and trusted with nothing, since it may be deaf."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import trio
from psycopg import sql

from softstate.errors import StoreFault, Unavailable
from softstate.position import REVISION_MAX
from softstate.store.postgres.connection import Connection, Session
from softstate.store.postgres.url import Place

REVISION_DIGITS_MAX = len(str(REVISION_MAX))


class Notifications:
    """Hears the notifications that every commit sends. One task listens at a time, others wait for it.

    `news` tells whether a commit of this revision is news. `pause_s` is how long it stays deaf, once it could not
    connect, before it tries again; `within_s` bounds trying.
    """

    def __init__(self, place: Place, news: Callable[[int], bool], pause_s: float, within_s: float) -> None:
        self.session = Session(place, "listener", {})
        self._listen = sql.SQL("LISTEN {}").format(sql.Identifier(place.schema))
        self._news = news
        self._pause_s = pause_s
        self._within_s = within_s
        self._lock = trio.Lock()
        self._connection: Connection | None = None
        self._deaf_until = 0.0

    async def hear(self) -> None:
        """Return once told of a commit that is news, and whenever something may have been missed."""
        async with self._lock:
            if self._connection is None:
                await trio.sleep_until(self._deaf_until)
                try:
                    self._connection = await self.session.call(self._begin, self._within_s)
                except (StoreFault, Unavailable, trio.ClosedResourceError):
                    self._deaf_until = trio.current_time() + self._pause_s
                return
            try:
                while not self._told(self._connection):
                    await trio.lowlevel.wait_readable(self._connection.fileno())
            except (psycopg.Error, OSError, trio.ClosedResourceError):
                # Gone, or closed from elsewhere.
                await self._hang_up()

    def _begin(self, connection: Connection) -> Connection:
        connection.execute(self._listen)
        return connection

    def _told(self, connection: Connection) -> bool:
        # Anybody may notify our channel of anything: what is no revision is taken for news, and costs a look.
        return any(self._is_news(notify.payload) for notify in list(connection.notifies(timeout=0)))

    def _is_news(self, payload: str) -> bool:
        return len(payload) > REVISION_DIGITS_MAX or not payload.isdecimal() or self._news(int(payload))

    async def _hang_up(self) -> None:
        self._connection = None
        self._deaf_until = trio.current_time() + self._pause_s
        await self.session.close(for_good=False)

    async def close(self, *, for_good: bool = True) -> None:
        """Stop listening; wakes whoever hears."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.closed:
            trio.lowlevel.notify_closing(connection.fileno())
        await self.session.close(for_good=for_good)
