"""Turns of the loop: long work is done a portion at a time, and all connections of a node share a budget of it.

A node is one thread: while it works for one peer, all others wait. So what grows with what a peer sends (names to
check, enter and remove; bytes to decode) is cut into portions, and *one turn has a budget in names* for the whole
node, whichever connections they come from. Tasks that find the budget spent wait in line; the next turn with a budget
comes after a rest, in which requests that cost little overtake: a publish crosses the loop several times, and would
else wait for a full portion at each. Work above the budget gets a turn of its own.

Like the portions of incremental garbage collectors (Baker, "List processing in real time on a serial computer", CACM
1978), this bounds the pause, not the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context

import trio

from softstate.server.bulkhead import RETRY_S, Bulkhead

REST_S = 100e-6
"""Time between two turns with a budget, if tasks wait for it; a loop that has nothing else to do sleeps for it, which
takes it 1 ms at most.

It has to sleep: a loop that turns without work releases the interpreter's lock for a moment in each turn, takes it back
before the thread of a commit has woken up, and that thread never waits long enough in one piece to be given the lock. A
commit took up to 120 ms then, and the p99 of a publish beside bodies over HTTP 150 ms instead of 15 (`bench turns`).
"""

FREE_FRACTION = 16
"""Work of at most this fraction of a turn's budget is done at once."""

FREE_BYTES = 1_024
"""A message of at most so many bytes is decoded at once: it costs no more than any other."""

BYTES_PER_NAME = 16
"""Bytes of a message that take as long to decode, at worst, as a name to be entered into a lease."""


class Waiting:
    """Work that waits for the budget of a turn: `call` is called in it, and `failed` if a bug ends that call."""

    __slots__ = ("call", "failed", "names")

    def __init__(self, names: int, call: Callable[[], object], failed: Callable[[], object]) -> None:
        self.names = names
        self.call: Callable[[], object] | None = call
        self.failed = failed

    def abandon(self) -> None:
        """Wait no longer: nothing is charged."""
        self.call = None


class Turns:
    """The budget of one node's turns: `names_max` names each. Used by one thread of Trio."""

    def __init__(self, names_max: int, bulkhead: Bulkhead) -> None:
        self.names_max = names_max
        self.names_free = names_max // FREE_FRACTION
        """Names that cost no more than any message, and which are not charged to the budget."""
        self._left = names_max
        self._waiting: deque[Waiting] = deque()
        self._refilling = False
        self._bulkhead = bulkhead

    def take(self, names: int) -> bool:
        """Charge the present turn, and return True, if its budget covers so many names and nothing waits for it."""
        if self._waiting or self._left < min(names, self.names_max):
            return False
        self._left -= names
        self._refill_soon()
        return True

    def wait(self, names: int, call: Callable[[], object], failed: Callable[[], object]) -> Waiting:
        """Have `call` called in a turn whose budget covers so many names, in order of arrival; not before a later one.

        To be used once `take` has returned False. `failed` is called if `call` meets a bug.
        """
        waiting = Waiting(names, call, failed)
        self._waiting.append(waiting)
        self._refill_soon()
        return waiting

    async def spend(self, names: int) -> None:
        """Return when the budget of a turn covers so many names: at once, without a checkpoint, if it does now.

        In order of arrival. If cancelled, nothing is spent.
        """
        if self.take(names):
            return
        begun = trio.Event()
        waiting = self.wait(names, begun.set, begun.set)
        try:
            await begun.wait()
        except trio.Cancelled:
            waiting.abandon()
            raise

    def refund(self, names: int) -> None:
        """Give back what was spent for work that was done already."""
        self._left = min(self._left + names, self.names_max)

    async def spend_bytes(self, size: int) -> None:
        """Return when the budget of a turn covers the decoding of so many bytes."""
        await self.spend(size // BYTES_PER_NAME)

    def _refill_soon(self) -> None:
        if not self._refilling:
            self._refilling = True
            # In the context of the node, which is frozen as a whole in simulation, and not in Trio's own.
            trio.lowlevel.spawn_system_task(self._refill, context=copy_context())

    async def _refill(self) -> None:
        # An error that left a system task would end all of Trio.
        try:
            while self._left < self.names_max or self._waiting:
                with self._bulkhead.contain("turns"):
                    await self._begin_turn()
                    continue
                await trio.sleep(RETRY_S)
        finally:
            self._refilling = False

    async def _begin_turn(self) -> None:
        await trio.sleep(REST_S)
        # Of two tasks in one turn, one before this and one after it, the first must not have the old budget.
        self._left = 0
        await trio.lowlevel.checkpoint()
        self._left = self.names_max
        waiting = self._waiting
        while waiting:
            first = waiting[0]
            if first.call is None:
                waiting.popleft()
                continue
            if self._left < min(first.names, self.names_max):
                break
            waiting.popleft()
            self._left -= first.names
            self._bulkhead.each("connection", _call, (first,), failed=_fail)
            # One after the other, since what each costs is only an estimate.
            await trio.lowlevel.checkpoint()


def _call(waiting: Waiting) -> None:
    if waiting.call is not None:
        waiting.call()


def _fail(waiting: Waiting) -> None:
    waiting.failed()
