"""A store in PostgreSQL (15 or newer): any number of nodes on one schema, and applications beside them.

An acknowledged commit is on the server's disk, however `synchronous_commit` is set there; only `fsync = off` makes that
weak. Failing over to a standby that lags loses commits all the same, unless the server has `synchronous_standby_names`:
clients are then reset, as after a restored backup.

Another program publishes with one function, in the same transaction as its own rows::

    BEGIN;
    UPDATE orders SET state = 'paid' WHERE id = 42;
    SELECT softstate.publish('orders/42', '{"state": "paid"}');
    COMMIT;

and deletes with ``softstate.delete('orders/42')``. That puts a row into the inbox, which the next commit of a node
moves into the store, before anything of its own; an idle node is notified. SQLSTATE ``SS400`` or ``SS413`` tells of a
topic or value that softstate cannot carry. A program that wants the version, or to compare and set, calls
``softstate.publish_now`` or ``delete_now``, which take ``expect`` and raise ``SS412`` when that loses: from then until
its end the transaction holds the counter that gives every commit its revision, and all other publishes wait.

Each of these notifies the nodes. PostgreSQL lets one COMMIT that notifies end after the other, in all databases of the
server, so while one waits for a synchronous standby all others wait, those of nodes too. It refuses PREPARE TRANSACTION
behind a notification. With ``SET softstate.notify = off`` (``SET LOCAL`` for one transaction) ``publish(topic, value)``
and ``delete(topic)`` send none: the transaction waits for no other, may be prepared, and an idle node finds its entries
when it looks, within `CHECK_EVERY_S`.

`softstate.store.postgres.schema` lists the grants. A pooler in front must pool sessions: one of transactions is refused
at open (`softstate.store.postgres.pooler` says how it is found, and what is not).

To put a logical backup (pg_dump) back while nodes run, do it in one transaction: ``psql --single-transaction``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import TypeVar

import structlog
import trio

from softstate.errors import ConfigError, Rewound, StoreFault, Unavailable
from softstate.model import PAGE_RECORDS_MAX, Page, Query
from softstate.position import Position
from softstate.store.base import KEYS_MAX, PUBLISHERS_MAX, Committed, Dump, Feed, Store, StoreInfo, Write
from softstate.store.commit_waiter import CommitWaiter
from softstate.store.limits import CALL_S
from softstate.store.postgres.url import read_address
from softstate.store.rules.nonce import SYSTEM
from softstate.store.rules.writable import check_writable

try:
    from softstate.store.postgres.connection import Connection, PostgresConnection
    from softstate.store.postgres.dump import Adoption
    from softstate.store.postgres.engine import PostgresEngine, milliseconds
    from softstate.store.postgres.notifications import Notifications
    from softstate.store.postgres.schema import destroy
except ImportError as error:
    # psycopg raises it too when it finds no libpq.
    text = "store postgresql://… needs psycopg: pip install '.[postgres]', in a clone of softstate"
    raise ConfigError(f"{text} ({error})") from error

OPEN_S = 10.0
"""How long opening may take: connecting, making the schema if there is none, committing a lineage row."""

MIGRATE_S = 3600.0
"""How long opening may take when an older layout is migrated: each value is read once, each row written once."""

AUDIT_S = 600.0
"""How long looking at every row may take."""

COPY_S = 60.0
"""How long one page, or the inbox before the first, may take to be adopted, and how long the next one may be in coming.
"""

CONNECTIONS_MAX = 4
"""How many connections a store has: one that writes, one that reads, one that listens, and one while it adopts."""

T = TypeVar("T")

log = structlog.get_logger("softstate.store")


class PostgresStore(Store):
    """A store in a schema of a PostgreSQL database; get one with `PostgresStore.open`.

    A call that is cancelled, or takes longer than `CALL_S`, is cut off from the server, and its connection is replaced.
    """

    def __init__(self, engine: PostgresEngine, keys_max: int, publishers_max: int) -> None:
        self.name = engine.address.name
        self.keys_max = keys_max
        self.publishers_max = publishers_max
        self._engine = engine
        self._told = 0
        self._moving = False
        self._notifications = Notifications(engine.address, lambda revision: revision > engine.seen.revision)
        self._waiter = CommitWaiter(lambda: engine.seen.revision, self._in_trouble, listen=self._notifications.wait)
        self._closed = False
        self._take_over()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        keys_max: int = KEYS_MAX,
        publishers_max: int = PUBLISHERS_MAX,
        create: bool = True,
        read_only: bool = False,
        backup: bool = True,  # noqa: ARG003 (a migration is one transaction, and the server's backups are its operator's)
        random: Random = SYSTEM,
    ) -> PostgresStore:
        """Open the store at `url` (`softstate.store.postgres.url`), creating it if there is none; commit a lineage row.

        Without `create` nothing is made, now or by `reopen`: `StoreMissing`. If `read_only`, nothing is changed either,
        and what would change something raises `StoreRefused`. An older layout is migrated first. If the server
        takes no writes just now, the store opens all the same, and commits its row before its first change.

        Raises `ConfigError` for a wrong URL, `StoreRefused` when waiting will not help, `Unavailable` when it may.
        """
        engine = PostgresEngine(read_address(url), keys_max=keys_max, random=random, create=create, read_only=read_only)
        try:
            await _open(engine)
        except BaseException:
            with trio.CancelScope(shield=True):
                await engine.writer.close()
            raise
        return cls(engine, keys_max, publishers_max)

    @property
    def unwritten(self) -> str:  # type: ignore[override]
        """See `Store.unwritten`."""
        return self._engine.unwritten

    def _check_writable(self) -> None:
        check_writable(self.name, read_only=self._engine.read_only)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        answer = await self._engine.reader.call(work, CALL_S)
        self._take_over()
        return answer

    def _take_over(self) -> None:
        """Take over what a thread has found, and wake the tasks that wait for a commit."""
        self.durability, self.warnings = self._engine.durability, self._engine.warnings
        if self._engine.seen.revision > self._told:
            self._told = self._engine.seen.revision
            self._waiter.wake(self._told)

    async def publish(self, group: Sequence[Write]) -> Committed:
        """See `Store.publish`. Waits its turn behind other publishes; if cancelled then, nothing is applied."""
        self._check_writable()
        committed = await self._engine.writer.call(
            lambda on: self._engine.publish(on, group, self.publishers_max), CALL_S
        )
        self._take_over()
        return committed

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """See `Store.read`."""
        return await self._read(lambda on: self._engine.read(on, group))

    async def head(self) -> Position:
        """See `Store.head`."""
        return await self._read(self._engine.head)

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """See `Store.lineage_at`."""
        return await self._read(lambda on: self._engine.lineage_at(on, revisions))

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""
        return await self._read(lambda on: self._engine.feed(on, after, limit))

    async def wait(self, after: int) -> None:
        """See `Store.wait`. Woken by what this store does, by the server's notifications, and every `CHECK_EVERY_S`."""
        await self._waiter.wait(after)

    async def _in_trouble(self) -> bool:
        """Bring what was seen up to date; tell whether the store is in trouble."""
        try:
            await self.head()
        except (StoreFault, Unavailable):
            return True
        if self._engine.sent and not self._moving and not self._engine.read_only:
            await self._move()
        return False

    async def _move(self) -> None:
        """Move what the inbox holds. When that fails, the next commit or the next check does it."""
        self._moving = True
        try:
            await self._engine.writer.call(self._engine.move, CALL_S)
        except (StoreFault, Unavailable) as error:
            log.info("inbox not moved", store=self.name, because=str(error))
        finally:
            self._moving = False
        self._take_over()

    async def compact(self, *, tombstones: int, keys: int) -> int:
        """See `Store.compact`. Takes several short transactions; if cancelled, those done stay done."""
        self._check_writable()
        while True:
            floor, more = await self._engine.writer.call(lambda on: self._engine.compact(on, tombstones, keys), CALL_S)
            self._take_over()
            if not more:
                return floor

    async def reopen(self) -> Position:
        """See `Store.reopen`. Waits for calls under way."""
        self._check_writable()
        await self._notifications.close(for_good=self._closed)
        await self._engine.reader.close(for_good=self._closed)
        async with self._engine.reader.turn:
            position = await _open(self._engine)
        self._told = 0
        self._take_over()
        self._waiter.wake()
        return position

    async def info(self) -> StoreInfo:
        """See `Store.info`."""
        return await self._read(self._engine.info)

    async def audit(self) -> Sequence[str]:
        """See `Store.audit`. Also rows that no dump shows, and entries of the inbox that were refused."""
        return [*await super().audit(), *await self._engine.reader.call(self._engine.audit, AUDIT_S)]

    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        """See `Store.dump`."""
        return await self._read(lambda on: self._engine.dump(on, after, limit))

    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        """See `Store.adopt`. One transaction: until the last page, other nodes read on but cannot publish.

        Programs that publish directly wait until then, unless they have a lock_timeout.
        """
        self._check_writable()
        engine = self._engine
        settings = {"statement_timeout": "0", "idle_in_transaction_session_timeout": milliseconds(COPY_S)}
        connection = PostgresConnection(engine.address, "copier", {**engine.timeouts, **settings})
        adoption = Adoption(engine.address, engine.random)
        try:
            await connection.call(lambda on: adoption.begin(on, engine.seen, replace=replace), COPY_S, hold=True)
            async for page in pages:
                await connection.call(_taking(adoption, page), COPY_S, hold=True)
            async with engine.reader.turn, engine.writer.turn:
                position = await connection.call(adoption.finish, COPY_S)
                engine.begin_again(position)
        finally:
            with trio.CancelScope(shield=True):
                await connection.close()
        self._told = 0
        self._take_over()
        self._waiter.wake()
        return position

    async def destroy(self) -> None:
        """See `Store.destroy`. Deletes the schema, unless it holds anything else than softstate's own."""
        self._check_writable()
        await self._engine.writer.call(lambda on: destroy(on, self._engine.address), OPEN_S)
        await self.aclose()

    async def aclose(self) -> None:
        """See `Store.aclose`. Finishes even if cancelled."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await self._notifications.close()
            await self._engine.reader.close()
            await self._engine.writer.close()
        self._waiter.wake()


async def _open(engine: PostgresEngine) -> Position:
    """Open a store on a new connection, with the patience that it takes."""
    migrates = await engine.writer.call(engine.needs_migration, OPEN_S, opening=True, reconnect=True)
    return await engine.writer.call(engine.open, MIGRATE_S if migrates else OPEN_S, opening=True)


def _taking(adoption: Adoption, page: Dump) -> Callable[[Connection], None]:
    return lambda on: adoption.take(on, page)
