"""Renewals: all those of a moment are answered by one read of the head, once the hub has reached it.

The head is read after the last of them came in: a `renewed` at the hub's position then covers every change that was
committed before its client asked (S7, P-REN-2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio

from softstate.errors import RequestError, StoreFault, Unavailable
from softstate.position import Position
from softstate.server.config import ServerConfig
from softstate.server.fanout.hub import Hub
from softstate.server.storage.batcher import DOWN_RETRY_MS, Batcher, Ticket
from softstate.store.base import Store

HEAD_PAUSE_S = 0.04
"""The least time between two head reads, in which renewals gather: 25 a second at most, however many clients."""

BATCH_MAX = 2_048
"""How many renewals one head read answers at most, all in one turn of the loop. With the pause between two reads this
bounds renewals a second, too, at 50,000: several times what a node has been seen to answer (`bench sessions`)."""

_LATE = "the feed of this node lags the store: try again later"

Renewal: TypeAlias = Ticket[None, Position]
"""One renewal on its way; its answer is the hub's position."""


class Renewals:
    """Brings the hub level with the store, for all who renew. At most ``sessions_max`` of them wait.

    A renewal is settled by calling back, in the turn in which the hub is found level, which saves a task switch, two
    deadlines and an event for each: with cheaper decoding, renewals per CPU second went from 0.53 to 0.76 of those of a
    bare trio-websocket (`bench sessions`). Each is settled within half of what clients wait for an answer
    (``timeout_ms``), as `Unavailable` if it must be: a store that is too slow costs freshness, no lease (P-REN-10).
    """

    def __init__(self, config: ServerConfig, store: Store, hub: Hub, fault: Callable[[StoreFault], None]) -> None:
        self.batcher: Batcher[None, Position] = Batcher(
            "renewals",
            self._catch_up,
            waiting_max=config.sessions_max,
            patience_s=config.store_s_max,
            pause_s=HEAD_PAUSE_S,
            batch_max=BATCH_MAX,
            fault=fault,
        )
        self._store = store
        self._hub = hub
        self._patience_s = config.timeout_ms / 2000
        self._asked: deque[tuple[float, Renewal]] = deque()
        self._first = trio.Event()
        self._reaching = trio.CancelScope()

    def ask(self, settled: Callable[[Renewal], None]) -> None:
        """Have `settled` called once the hub has reached a head read after this call. Raises as `Gather.submit`."""
        ticket = self.batcher.submit(None, settled)
        asked = self._asked
        while asked and not asked[0][1].open:
            asked.popleft()
        asked.append((trio.current_time() + self._patience_s, ticket))
        self._first.set()

    def forget(self) -> None:
        """Begin again with whatever waits: the history is another one, and may never reach the old one's head."""
        self._reaching.cancel()

    async def run(self) -> None:
        """Serve for ever. If cancelled, whoever waits, or comes later, is answered `Unavailable`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self.batcher.run()

    async def _catch_up(self, riders: Sequence[None]) -> Sequence[Position | RequestError]:
        while True:
            with trio.CancelScope() as self._reaching:
                head = await self._store.head()
                await self._hub.reached(head.revision)
                # Else the store was replaced and opened again, which the hub is about to hear: by its revision alone it
                # has long reached the new history's head.
                if head.same_lineage(self._hub.position):
                    return [self._hub.position] * len(riders)
                await trio.sleep(HEAD_PAUSE_S)

    async def _watch(self) -> None:
        while True:
            if not self._asked:
                self._first = trio.Event()
                await self._first.wait()
            deadline, ticket = self._asked[0]
            if ticket.open:
                await trio.sleep_until(deadline)
                ticket.settle(Unavailable(_LATE, retry_ms=DOWN_RETRY_MS))
            if self._asked and self._asked[0][1] is ticket:
                self._asked.popleft()
