"""Waiting for commits: `Store.wait`, the same in every engine that does not run inline.

Three things end a wait: a commit of this process, a notification of the engine, and a check of the store itself, which
is made when neither has come for a while, since a notification may be lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from softstate.position import REVISION_MAX
from softstate.store.limits import CHECK_EVERY_S


def in_a_while() -> float:
    """Return the time of the next check: `CHECK_EVERY_S` from now."""
    return trio.current_time() + CHECK_EVERY_S


class CommitWaiter:
    """The tasks that wait for commits of one store.

    `seen` returns the highest revision that this process has met. `check` brings that up to date, and returns whether
    the store is in trouble. `listen` returns when a check is worthwhile; it is cancelled when one is due by
    `next_check`, or when the wait is over, and must lose nothing by that.
    """

    def __init__(
        self,
        seen: Callable[[], int],
        check: Callable[[], Awaitable[bool]],
        *,
        listen: Callable[[], Awaitable[None]] = trio.sleep_forever,
        next_check: Callable[[], float] = in_a_while,
    ) -> None:
        self._seen = seen
        self._check = check
        self._listen = listen
        self._next_check = next_check
        self._notified = 0
        self._waiting: dict[trio.CancelScope, int] = {}

    def wake(self, revision: int = REVISION_MAX) -> None:
        """Wake the tasks that wait for a commit of this revision; by default all of them, to check the store."""
        for scope, after in self._waiting.items():
            if revision > after:
                scope.cancel()

    def notify(self, revision: int) -> None:
        """End a wait for a commit of this revision, which a notification tells of and nothing was read of yet."""
        self._notified = max(self._notified, revision)
        self.wake(revision)

    def forget(self) -> None:
        """Forget notifications: the store was reopened, perhaps on another history."""
        self._notified = 0

    async def wait(self, after: int) -> None:
        """See `Store.wait`."""
        if self._passed(after):
            await trio.lowlevel.checkpoint()
            return
        while True:
            with trio.CancelScope(deadline=self._next_check()) as scope:
                self._waiting[scope] = after
                try:
                    await self._listen()
                finally:
                    del self._waiting[scope]
            if self._passed(after) or await self._check() or self._passed(after):
                return

    def _passed(self, after: int) -> bool:
        if self._seen() > after:
            return True
        if self._notified > after:
            # Told once only: if what the notification tells of is not there, the next wait must not end by it again.
            self._notified = 0
            return True
        return False
