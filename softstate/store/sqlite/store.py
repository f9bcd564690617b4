"""The default store: one SQLite file, which several nodes on one host may share.

An acknowledged commit is in the write-ahead log and fsynced (`synchronous = FULL`) before it can be read, so it
survives kill -9 and, on a disk that honours fsync, a power cut. On macOS fsync does not reach the platter.

To put a backup in place of the file while nodes run, use ``softstate store restore``, SQLite's own ``.restore``, or
rename a complete file over it (``mv``). Copying bytes over an open database damages it, and nothing here can prevent
that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TypeVar

import trio

from softstate.errors import Rewound
from softstate.model import PAGE_RECORDS_MAX, Durability, Page, Query
from softstate.position import Position
from softstate.store.base import KEYS_MAX, LAYOUT, PUBLISHERS_MAX, Committed, Dump, Feed, Store, StoreInfo, Write
from softstate.store.commit_waiter import CommitWaiter
from softstate.store.rules.bounds import near_bounds
from softstate.store.rules.nonce import SYSTEM
from softstate.store.sqlite.call_thread import CallThread
from softstate.store.sqlite.connection import BUSY_S
from softstate.store.sqlite.engine import SqliteEngine
from softstate.store.sqlite.log import LOG_BYTES_WARN
from softstate.store.sqlite.notifications import WATCH_S, Looks

T = TypeVar("T")


class SqliteStore(Store):
    """A store in an SQLite file; get one with `SqliteStore.open`. Cancelled calls finish what they began first."""

    durability = Durability.DURABLE

    def __init__(self, engine: SqliteEngine, name: str, keys_max: int, publishers_max: int) -> None:
        self.name = name
        self.keys_max = keys_max
        self.publishers_max = publishers_max
        self._engine = engine
        self._writer = CallThread()
        self._reader = CallThread()
        self._notifications = engine.notifications
        self._looks = Looks()
        self._waiter = CommitWaiter(
            lambda: engine.seen.revision, self._check, listen=self._listen, next_check=self._next_check
        )
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        keys_max: int = KEYS_MAX,
        publishers_max: int = PUBLISHERS_MAX,
        random: Random = SYSTEM,
        busy_s: float = BUSY_S,
        create: bool = True,
        read_only: bool = False,
        backup: bool = True,
    ) -> SqliteStore:
        """Open the file at `path`, made if there is none and `create`, and commit a lineage row.

        `reopen` makes none: a file that is gone, or was emptied, may have been moved or lost, and what took its place
        would fork the history. A file of an earlier layout is carried over, after a `backup` beside it. If `read_only`,
        the file must exist, and no trace is left in it: nothing is carried over, and `publish` and the like raise
        `StoreRefused`.

        `busy_s` is how long to wait for another process's lock. Raises `StoreMissing` without a file to open,
        `StoreRefused` when it is not ours, is damaged or cannot be had, `Unavailable` when that may pass,
        `StoreReplaced` when it is being swapped at this moment.
        """
        engine = SqliteEngine(
            path, random=random, busy_s=busy_s, read_only=read_only, create=create and not read_only, backup=backup
        )
        await trio.to_thread.run_sync(engine.open)
        return cls(engine, f"sqlite:{path}", keys_max, publishers_max)

    @property
    def cautions(self) -> Sequence[str]:  # type: ignore[override]
        """A log that some reader keeps large, the copy of a file that was carried over, bounds that are near."""
        log, copied = self._engine.file.log, self._engine.copied
        cautions: list[str] = []
        if copied is not None:
            cautions.append(
                f"the store was carried over to layout {LAYOUT}, and {copied} holds it as it was: delete that once all"
                " is well"
            )
        if log.pinned_bytes >= LOG_BYTES_WARN:
            cautions.append(
                f"{log.path} is above {LOG_BYTES_WARN // 2**20} MiB: another program reads the store in a transaction"
                f" that it keeps open; find out which (fuser {log.path}) and end it, and the log is cut off"
            )
        state = self._engine.state
        cautions += near_bounds(
            keys=state.keys, keys_max=self.keys_max, publishers=state.publishers, publishers_max=self.publishers_max
        )
        return cautions

    @property
    def unwritten(self) -> str:  # type: ignore[override]
        """See `Store.unwritten`."""
        return self._engine.unwritten

    def gauges(self) -> Mapping[str, int]:
        """See `Store.gauges`: the size of the write-ahead log, and what is remembered of requests."""
        state = self._engine.state
        return {
            "store_log_bytes": self._engine.file.log.size_bytes,
            "store_keys": state.keys,
            "store_publishers": state.publishers,
        }

    async def _write(self, call: Callable[[], T]) -> T:
        answer = await self._run(call, self._writer)
        if self._notifications.doubtful:
            self._waiter.wake()
        return answer

    async def _read(self, call: Callable[[], T]) -> T:
        return await self._run(call, self._reader)

    async def _run(self, call: Callable[[], T], thread: CallThread) -> T:
        def unless_closed() -> T:
            # Asked in the thread, because `aclose` may have had its turn while this call waited for one.
            if self._closed:
                raise trio.ClosedResourceError("this store was closed")
            return call()

        return await thread.call(unless_closed)

    async def publish(self, group: Sequence[Write]) -> Committed:
        """See `Store.publish`. Waits its turn behind other publishes; if cancelled then, nothing is applied."""
        committed = await self._write(lambda: self._engine.publish(group, self.keys_max, self.publishers_max))
        if committed.records and self.wakes_for_own:
            self._waiter.wake(committed.position.revision)
        return committed

    async def read(self, group: Sequence[Query]) -> Sequence[Page | Rewound]:
        """See `Store.read`."""
        return await self._read(lambda: self._engine.read(group))

    async def head(self) -> Position:
        """See `Store.head`."""
        unchanged = self._unchanged()
        if unchanged is None:
            return await self._read(self._engine.head)
        await trio.lowlevel.checkpoint()
        return unchanged

    def _unchanged(self) -> Position | None:
        """Return the newest position if the loop may ask for it, and there was no commit since it was read."""
        return None if self._closed or self._reader.busy else self._engine.unchanged()

    async def lineage_at(self, revisions: Sequence[int]) -> Sequence[str | None]:
        """See `Store.lineage_at`."""
        return await self._read(lambda: self._engine.lineage_at(revisions))

    async def feed(self, after: Position, limit: int = PAGE_RECORDS_MAX) -> Feed:
        """See `Store.feed`."""
        return await self._read(lambda: self._engine.feed(after, limit))

    async def wait(self, after: int) -> None:
        """See `Store.wait`. Own commits wake it at once, those of other processes within `WATCH_S`."""
        await self._waiter.wait(after)

    async def _listen(self) -> None:
        if self._looks.looking:
            await trio.sleep_forever()
        file = self._engine.file
        self._notifications.follow(file.openings, file.path, file.log.path)
        await self._notifications.wait()

    def _next_check(self) -> float:
        if self._notifications.polls:
            return min(self._looks.next_at, trio.current_time() + WATCH_S)
        return self._looks.next_at

    async def _check(self) -> bool:
        """Look at the database, if there is a reason to; return whether it is in trouble."""
        if self._closed:
            raise trio.ClosedResourceError("this store was closed")
        now = trio.current_time()
        written = self._notifications.written()
        if not written and now < self._looks.next_at:
            return False
        found = trouble = False
        if self._unchanged() is None:
            engine, seen = self._engine, self._engine.seen.revision
            trouble = await self._read(engine.in_trouble)
            found = not trouble
            written = self._notifications.written() or written
            if engine.seen.revision > max(seen, engine.own_head):
                self._notifications.found(heard=written or self._looks.looking)
                self._waiter.wake(engine.seen.revision)
        self._looks.looked(now, written=written, found=found)
        return trouble

    async def compact(self, *, tombstones: int, keys: int) -> int:
        """See `Store.compact`. Takes several short transactions; if cancelled, those done stay done."""
        after: int | None = 0
        while after is not None:
            floor, after = await self._write(partial(self._engine.compact, tombstones, keys, after))
        return floor

    async def reopen(self) -> Position:
        """See `Store.reopen`. Waits for calls under way."""
        return await self._alone(self._engine.reopen)

    async def info(self) -> StoreInfo:
        """See `Store.info`."""
        return await self._read(self._engine.info)

    async def dump(self, after: int, limit: int = PAGE_RECORDS_MAX) -> Dump:
        """See `Store.dump`."""
        return await self._read(lambda: self._engine.dump(after, limit))

    async def audit(self) -> Sequence[str]:
        """See `Store.audit`. Also the file itself, and rows that have vanished."""
        return await self._read(self._engine.audit)

    async def adopt(self, pages: AsyncIterator[Dump], *, replace: bool) -> Position:
        """See `Store.adopt`. One transaction: until the last page, other processes read on but cannot publish.

        Other calls of this store wait meanwhile, so the pages must come from another store.
        """

        async def following() -> Dump | None:
            return await anext(pages, None)

        def adopt() -> Position:
            # The thread of one transaction asks for the pages: there is no state to keep between them, and no end
            # but its own, whether that is the last page, an error or a cancellation.
            return self._engine.adopt(iter(lambda: trio.from_thread.run(following), None), replace=replace)

        return await self._alone(adopt)

    async def _alone(self, call: Callable[[], Position]) -> Position:
        """Make a call with no other beside it, once those under way have ended; wake the tasks that wait."""
        async with self._writer, self._reader:
            if self._closed:
                raise trio.ClosedResourceError("this store was closed")
            position = await trio.to_thread.run_sync(call)
        self._waiter.wake()
        return position

    async def destroy(self) -> None:
        """See `Store.destroy`. Removes the file and SQLite's own files beside it."""
        self._engine.check_writable()
        await self.aclose()
        await trio.to_thread.run_sync(self._engine.file.remove)

    async def aclose(self) -> None:
        """See `Store.aclose`. Finishes even if cancelled."""
        with trio.CancelScope(shield=True):
            async with self._writer, self._reader:
                if not self._closed:
                    self._closed = True
                    await trio.to_thread.run_sync(self._engine.close)
        self._waiter.wake()
        self._notifications.close()
