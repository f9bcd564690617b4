"""The handle that an application iterates over: the newest value of each topic it follows, never a backlog."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import final

import anyio

from softstate.client.api.inbox import Inbox, UpdateEvent
from softstate.client.shell.bell import Bell
from softstate.errors import ClientClosed
from softstate.http_client.loop import loop_clock
from softstate.model import Change

TAKEN_MAX = 100
"""Events that are taken in a row without letting other tasks run, if there are so many."""

BUSY_S_MAX = 0.001
"""How long events are taken without letting other tasks run, as long as there are any."""


@final
class Updates:
    """A handle on some topics and prefixes; iterate over it to follow them. `Client.subscribe` makes these.

    Iterating yields a `Change` whenever there is a newer state of a topic than the one yielded before. Changes that
    are overtaken while the application is busy are never seen: what counts is the newest state. It is safe to cancel
    an iteration at any point: nothing is lost, and iterating may begin again. While many changes are pending, other
    tasks run, and a cancellation is noticed, after at most 100 changes or a millisecond. Iterating raises:

    - `softstate.Denied`, once, when the node refuses some of the names (see `denied`); the others go on if you iterate
      again, and when none is left it is raised every time;
    - the error that stopped the client, such as `softstate.Unauthenticated`;
    - `softstate.ClientClosed` when the client is closed. When the handle itself is closed, iterating just ends.
    """

    def __init__(
        self,
        inbox: Inbox,
        bell: Bell,
        progress: Bell,
        age_of: Callable[[Iterable[str]], float],
        unreadable_of: Callable[[Iterable[str]], Iterable[str]] = lambda _: (),
    ) -> None:
        self._inbox = inbox
        self._bell = bell
        self._progress = progress
        self._age_of = age_of
        self._unreadable_of = unreadable_of
        self._taken = TAKEN_MAX
        self._rested_s = -math.inf
        self._now: Callable[[], float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The topics and prefixes this handle is on, without those that were denied."""
        return tuple(self._inbox.names)

    @property
    def denied(self) -> tuple[str, ...]:
        """The names that the node refused, or that no longer fit into its limits."""
        return tuple(self._inbox.denied)

    @property
    def reset_count(self) -> int:
        """How many times the store's history changed under this handle (a restored backup, a wiped store)."""
        return self._inbox.reset_count

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The topics under this handle whose stored records are damaged, as far as is known.

        The values that were seen of them before stay valid as values, but nothing tells how old they are. Each heals
        when it is published again, without `expect`; `softstate.Client.get` raises `softstate.Unreadable` until then.
        """
        return tuple(self._unreadable_of(self._inbox.names))

    @property
    def age(self) -> float:
        """How old, in seconds, what is known of these names may be at most, as of now.

        Everything that was committed longer ago than this has been taken into account. Infinite until the first
        complete answer, and after a reset until the next one. Topics that are `unreadable` are left out; of those alone
        the age is infinite.
        """
        if not self._inbox.names or self._inbox.closed:
            return math.inf
        return self._age_of(self._inbox.names)

    async def synced(self) -> None:
        """Wait until the age is finite: the current state of every name has arrived, and can be iterated over.

        Raises what iterating raises; `softstate.ClientClosed` too when this handle is closed.
        """
        await anyio.lowlevel.checkpoint()
        while self.age == math.inf:
            self._inbox.raise_if_over()
            if self._inbox.closed:
                raise ClientClosed("this subscription was closed")
            await self._progress.wait()

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while True:
            event = await self._take()
            if isinstance(event, Change):
                return event

    async def _take(self) -> UpdateEvent:
        """Wait for the next event and take it.

        Other tasks run, and cancellation is noticed, whenever it has to wait, and after `TAKEN_MAX` events or
        `BUSY_S_MAX` without that: a pass of the scheduler for each of a million changes costs more than the changes.
        """
        if self._now is None:
            self._now = loop_clock()
        if not self._inbox.pending or self._taken >= TAKEN_MAX or self._now() - self._rested_s >= BUSY_S_MAX:
            await anyio.lowlevel.checkpoint()
            self._taken, self._rested_s = 0, self._now()
        while (event := self._inbox.take()) is None:
            await self._bell.wait()
        self._taken += 1
        return event

    def events(self) -> AsyncIterator[UpdateEvent]:
        """Iterate over changes as above and, among them, what became of the client, in the order it happened.

        `Reset`: the store's history changed; what follows belongs to the new one, and nothing of the old one follows.
        `ModeChanged`: the client went into another mode; only the newest is kept. `NodeRefused`: one node refuses this
        client, because of the name in its URL for example, or one of its polls; it goes on without. `TopicsUnreadable`:
        the stored records of some topics are damaged (see `unreadable`). No application has to act on any of them to
        stay correct. Both ways of iterating take from the same pending changes.
        """
        return _Events(self)


@final
class _Events:
    """The iterator of `Updates.events`; no generator, since one that is left half-way wants to be closed."""

    def __init__(self, updates: Updates) -> None:
        self._updates = updates

    def __aiter__(self) -> AsyncIterator[UpdateEvent]:
        return self

    async def __anext__(self) -> UpdateEvent:
        return await self._updates._take()  # noqa: SLF001 - this module's own
