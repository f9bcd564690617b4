"""Head reads for renewals: one read of the store's head answers all that wait, once the hub has reached it.

The head is read after the last of them came in: a `renewed` at the hub's position then covers every change that was
committed before its client asked (S7, P-REN-2). Each read also moves the level, from which renewals that come soon
after it are answered at once (`softstate.server.storage.level`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import trio

from softstate.errors import RequestError, Unavailable
from softstate.position import Position
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.measure.histogram import Histogram
from softstate.server.storage.batcher import Batcher, Ticket, settle_each
from softstate.server.storage.guard import DOWN_RETRY_MS, StoreGuard
from softstate.server.storage.level import LEVEL_S_MAX, Level
from softstate.store.base import Store

HEAD_INTERVAL_S = 0.04
"""The least time from one head read to the next, in which renewals queue: 25 a second at most for any number of
clients."""

HEARD_S_MAX = 5.0
"""How long the hub may not have been found level with the store before answers under credentials wait until it is: a
node that reads, but hears no change, would not hear of a revocation either."""

BATCH_MAX = 2_048
"""Renewals that one head read answers at most, all in one turn of the loop. With the interval between two reads this
bounds renewals a second, too, at 50,000: several times the rate that nodes were seen to answer (`bench sessions`)."""

_LATE = "the feed of this node lags the store: try again later"

HeadTicket: TypeAlias = Ticket[None, Position]
"""One request for the head; its answer is the hub's position."""


class HeadReads:
    """Brings the hub level with the store, for all sessions that renew. At most ``sessions_max`` requests wait.

    A request is settled by calling back, in the turn in which the hub is found level, which saves a task switch, two
    deadlines and an event for each: with cheaper decoding, renewals per CPU second went from 0.53 to 0.76 of those of a
    bare trio-websocket (`bench sessions`). Each is settled within half of the time that clients wait for an answer
    (``timeout_ms``), with `Unavailable` if need be: a store that is too slow costs clients freshness, but no lease
    (P-REN-10).
    """

    def __init__(
        self, config: ServerConfig, store: Store, hub: Hub, guard: StoreGuard, bulkhead: Bulkhead, level: Level
    ) -> None:
        self.level = level
        self._bulkhead = bulkhead
        self.batcher: Batcher[None, Position] = Batcher(
            "renewals",
            self._catch_up,
            bulkhead,
            queued_max=config.sessions_max,
            call_s_max=config.store_s_max,
            interval_s=HEAD_INTERVAL_S,
            batch_max=BATCH_MAX,
        )
        self._store = store
        self._hub = hub
        self._guard = guard
        self.wait_s_max = config.timeout_ms / 2000
        """The longest that a request waits, in seconds."""
        self.renewals = 0
        self.durations = Histogram()
        """The time from when a renewal was taken to its answer."""
        self.newest = hub.position.revision
        """The revision of the last head that was read."""
        self._newest_at = -math.inf
        self._asked_at = math.inf
        self._queue: deque[tuple[float, HeadTicket]] = deque()
        self._submitted = trio.Event()
        self._reaching = trio.CancelScope()

    @property
    def slow(self) -> bool:
        """Whether the store takes longer to tell its head than a level is young."""
        return trio.current_time() - self._asked_at > LEVEL_S_MAX

    @property
    def lags(self) -> bool:
        """Whether the hub has not reached for `wait_s_max` a head that the store has told."""
        behind = self._hub.position.revision < self.newest
        return behind and trio.current_time() - self._newest_at > self.wait_s_max

    @property
    def heard(self) -> bool:
        """Whether the hub has passed all that was committed until `HEARD_S_MAX` ago, revocations among it."""
        return self.level.lag_s() <= HEARD_S_MAX

    def when_heard(self, settled: Callable[[RequestError | None], None], broken: Callable[[], None]) -> None:
        """Have `settled` called once `heard`, which may be at once, or with the reason why the hub is not there.

        `broken` is called if a bug ends a later call.
        """
        if self.heard:
            settled(None)
            return
        try:
            self.submit(lambda ticket: settled(ticket.error), broken)
        except RequestError as error:
            settled(error)

    async def hear(self) -> None:
        """Return once `heard`. Raises `Unavailable`, after `wait_s_max` at the latest, or `Overloaded`."""
        done = trio.Event()
        errors: list[RequestError | None] = []

        def settled(error: RequestError | None) -> None:
            errors.append(error)
            done.set()

        self.when_heard(settled, done.set)
        await done.wait()
        error = errors[0] if errors else Unavailable(_LATE, retry_ms=DOWN_RETRY_MS)
        if error is not None:
            raise error

    def renewal_lag_s(self) -> float | None:
        """Return how old the hub's position is, in seconds, if a renewal may be answered from it; else None."""
        self.renewals += 1
        lag_s = self.level.lag_s()
        return lag_s if lag_s <= LEVEL_S_MAX else None

    def refresh(self) -> None:
        """Read the head for the level's sake, unless it is being read already, or cannot be."""
        if not len(self.batcher):
            with suppress(RequestError):
                self.batcher.submit(None, lambda _ticket: None)

    def submit(self, settled: Callable[[HeadTicket], None], broken: Callable[[], None] = lambda: None) -> None:
        """Have `settled` called once the hub has reached a head read after this call. Raises as `Batcher.submit`.

        `broken` is called if a bug ends that call.
        """
        ticket = self.batcher.submit(None, settled, broken)
        queue = self._queue
        while queue and not queue[0][1].open:
            queue.popleft()
        queue.append((trio.current_time() + self.wait_s_max, ticket))
        self._submitted.set()

    def restart(self) -> None:
        """Read the head again for all that wait: the hub is on another history, and may never reach the old head."""
        self.newest = 0
        self._reaching.cancel()

    async def run(self) -> None:
        """Serve until cancelled; then answer all that wait, or come later, `Unavailable`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle_late)
            await self.batcher.run()

    async def _catch_up(self, batch: Sequence[None]) -> Sequence[Position | RequestError]:
        while True:
            with trio.CancelScope() as self._reaching:
                reading = self.level.begin()
                # Not by `call`: a head of a generation that is over is found out by its lineage, and read again.
                self._asked_at = trio.current_time()
                try:
                    head = await self._guard.report(self._store.head)
                finally:
                    self._asked_at = math.inf
                self.newest, self._newest_at = head.revision, trio.current_time()
                await self._hub.reached(head.revision)
                # Else the store was replaced and opened again, and the hub is about to be told: by its revision alone
                # it has long reached the new history's head.
                if head.same_lineage(self._hub.position):
                    self.level.reached(reading)
                    return [self._hub.position] * len(batch)
                await trio.sleep(HEAD_INTERVAL_S)

    async def _settle_late(self) -> None:
        while True:
            with self._bulkhead.contain("late renewals"):
                await self._settle_first_late()
                continue
            await trio.sleep(RETRY_S)

    async def _settle_first_late(self) -> None:
        if not self._queue:
            self._submitted = trio.Event()
            await self._submitted.wait()
        deadline, ticket = self._queue[0]
        if ticket.open:
            await trio.sleep_until(deadline)
            settle_each(self._bulkhead, "late renewals", [ticket], [Unavailable(_LATE, retry_ms=DOWN_RETRY_MS)])
        if self._queue and self._queue[0][1] is ticket:
            self._queue.popleft()
