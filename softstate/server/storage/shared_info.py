"""The counts of a store, read once for all that ask: a count of its tables costs as much as the store is large."""

from __future__ import annotations

import trio

from softstate.errors import SoftstateError
from softstate.store.base import Store, StoreInfo

KEPT_S = 2.0
"""How long a count is told again, in seconds: an engine may have one connection for it and for all reads."""


class _Count:
    """One count under way; `done` is set at its end, however it ends."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.info: StoreInfo | None = None
        self.error: SoftstateError | None = None


class SharedInfo:
    """Counts what a store holds, in one call at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count: _Count | None = None
        self._kept: StoreInfo | None = None
        self._kept_until = 0.0

    async def info(self) -> StoreInfo:
        """Count, or wait for the count that is under way, or return one of `KEPT_S` ago at most.

        Raises as `Store.info`, and so to all that waited; the next one to ask counts again. If the task that counts is
        cancelled, another one of those that wait does it.
        """
        while True:
            if self._kept is not None and trio.current_time() < self._kept_until:
                return self._kept
            if self._count is None:
                return await self._ask()
            count = self._count
            await count.done.wait()
            if count.error is not None:
                raise count.error
            if count.info is not None:
                return count.info

    async def _ask(self) -> StoreInfo:
        self._count = count = _Count()
        try:
            info = await self._store.info()
        except SoftstateError as error:
            count.error = error
            raise
        finally:
            self._count = None
            count.done.set()
        count.info = self._kept = info
        self._kept_until = trio.current_time() + KEPT_S
        return info
