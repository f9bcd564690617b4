"""The watch: a stream on which etcd reports every new head, and every entry that comes into the inbox.

A wake-up hint only: nothing is taken from it but that there is something to read, and a lost one costs at most
`CHECK_EVERY_S`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import trio

from softstate.errors import StoreFault, Unavailable
from softstate.store.etcd.connection import ANSWER_BYTES_MAX, Connection
from softstate.store.etcd.errors import NOT_JSON
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.messages import WatchLine
from softstate.store.etcd.schema import Layout, read_head
from softstate.store.limits import CHECK_EVERY_S


@dataclass(frozen=True, slots=True)
class Notification:
    """A message of the watch: the highest revision of a head, whether the inbox has got an entry, whether to check."""

    revision: int = 0
    inbox: bool = False
    check: bool = False


class Watch:
    """One stream, made when it is first read, and again when it was lost. One task reads at a time."""

    def __init__(self, gateway: Gateway, layout: Layout) -> None:
        self._gateway = gateway
        self._layout = layout
        self._connection: Connection | None = None
        self._rest = bytearray()
        self._turn = trio.Lock()
        self._open_at = -math.inf

    async def next(self) -> Notification:
        """Return the next notification. Cancellation loses nothing, unless the stream was just being made.

        A stream that was just made, or lost, is a reason to check: something may have been missed meanwhile.
        """
        async with self._turn:
            try:
                if self._connection is None:
                    await trio.sleep_until(self._open_at)
                    self._open_at = trio.current_time() + CHECK_EVERY_S
                    self._connection = await self._open()
                    return Notification(check=True)
                found = Notification()
                while found == Notification():
                    found = self._notification_in(await self._line(self._connection))
            except (Unavailable, StoreFault):
                await self.aclose()
                return Notification(check=True)
            return found

    async def _open(self) -> Connection:
        with self._gateway.time_limit():
            connection = await self._gateway.endpoints.connect()
            try:
                await self._begin(connection)
            except BaseException as error:
                if isinstance(error, Unavailable | trio.Cancelled):
                    self._gateway.endpoints.failed(connection.endpoint)
                with trio.CancelScope(shield=True):
                    await connection.aclose()
                raise
        return connection

    async def _begin(self, connection: Connection) -> None:
        begin, end = self._layout.watched
        body = msgspec.json.encode({"create_request": {"key": begin, "range_end": end}})
        await self._gateway.authenticate(connection)
        await connection.stream("/v3/watch", body, self._gateway.headers())
        self._rest.clear()
        line = await self._line(connection)
        if line.result is None or not line.result.created:
            raise self._ended(connection, line)

    async def _line(self, connection: Connection) -> WatchLine:
        while (end := self._rest.find(b"\n")) < 0:
            chunk = await connection.chunk()
            self._rest += chunk
            if not chunk or len(self._rest) > ANSWER_BYTES_MAX:
                raise Unavailable(f"{connection.where} has ended the watch")
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        try:
            return msgspec.json.decode(line, type=WatchLine, strict=False)
        except NOT_JSON as error:
            raise Unavailable(f"{connection.where} does not speak as etcd's watch does: {error}") from None

    def _notification_in(self, line: WatchLine) -> Notification:
        if self._connection is None or line.result is None or line.result.canceled:
            raise self._ended(self._connection, line)
        revision, inbox, check = 0, False, False
        for event in line.result.events:
            if event.kv.key != self._layout.head:
                inbox = inbox or event.type == "PUT"
            elif event.type == "PUT":
                revision = max(revision, read_head(event.kv.value, self._gateway.name).head.revision)
            else:
                check = True
        return Notification(revision, inbox, check)

    def _ended(self, connection: Connection | None, line: WatchLine) -> Exception:
        said = line.result.cancel_reason if line.result is not None else ""
        if isinstance(line.error, dict):
            said = str(line.error.get("message", ""))
        return self._gateway.failure(connection.where if connection else self._gateway.name, said)

    async def aclose(self) -> None:
        """End the stream, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
