"""The LISTEN connection. A wake-up hint only: a lost notification costs at most `CHECK_EVERY_S`."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import trio
from psycopg import sql

from softstate.errors import StoreFault, Unavailable
from softstate.store.limits import CALL_S, CHECK_EVERY_S, REVISION_DIGITS_MAX
from softstate.store.postgres.connection import Connection, PostgresConnection
from softstate.store.postgres.url import PostgresAddress

RETRY_S = CHECK_EVERY_S / 2
"""How long to wait, after connecting has failed or the connection was lost, before connecting again."""


class Notifications:
    """Receives the notifications that every commit sends. One task waits at a time, others queue behind it.

    `is_new` tells whether a commit of this revision is not known yet.
    """

    def __init__(self, address: PostgresAddress, is_new: Callable[[int], bool]) -> None:
        self.connection = PostgresConnection(address, "listener", {})
        self._listen = sql.SQL("LISTEN {}").format(sql.Identifier(address.schema))
        self._is_new = is_new
        self._lock = trio.Lock()
        self._connection: Connection | None = None
        self._retry_at = 0.0

    async def wait(self) -> None:
        """Return once notified of a commit that is new, and whenever a notification may have been missed."""
        async with self._lock:
            if self._connection is None:
                await trio.sleep_until(self._retry_at)
                try:
                    self._connection = await self.connection.call(self._begin, CALL_S)
                except (StoreFault, Unavailable, trio.ClosedResourceError):
                    self._retry_at = trio.current_time() + RETRY_S
                return
            try:
                while not self._notified(self._connection):
                    await trio.lowlevel.wait_readable(self._connection.fileno())
            except (psycopg.Error, OSError, trio.ClosedResourceError):
                # Lost, or closed by another task.
                await self._disconnect()

    def _begin(self, connection: Connection) -> Connection:
        connection.execute(self._listen)
        return connection

    def _notified(self, connection: Connection) -> bool:
        return any(self._is_worth_a_check(notify.payload) for notify in list(connection.notifies(timeout=0)))

    def _is_worth_a_check(self, payload: str) -> bool:
        # Any program may send anything on our channel: a payload that is no revision costs a check.
        return len(payload) > REVISION_DIGITS_MAX or not payload.isdecimal() or self._is_new(int(payload))

    async def _disconnect(self) -> None:
        self._connection = None
        self._retry_at = trio.current_time() + RETRY_S
        await self.connection.close(for_good=False)

    async def close(self, *, for_good: bool = True) -> None:
        """Stop listening; wakes the task that waits."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.closed:
            trio.lowlevel.notify_closing(connection.fileno())
        await self.connection.close(for_good=for_good)
