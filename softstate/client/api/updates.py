"""What an application iterates over: the newest value of each topic it wants, never a backlog.

A handle (`Updates`) keeps at most one pending change a topic: a newer one takes the place of the older, where it is.
So its memory is bounded by the number of topics, however slowly the application reads. Several handles may want the
same name; the client wants it as long as one of them does.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeAlias, final

import trio

from softstate.client.machine.events import ModeChanged, Reset
from softstate.errors import ClientClosed, Denied, SoftstateError
from softstate.model import Change
from softstate.names import prefixes_of

UpdateEvent: TypeAlias = Change | Reset | ModeChanged

_MODE = 0
_Key: TypeAlias = str | int
"""A topic, `_MODE`, or the number of a reset."""


@final
class Updates:
    """A handle on some topics and prefixes; iterate over it to follow them. `Client.subscribe` makes these.

    Iterating yields a `Change` whenever there is a newer state of a topic than the one yielded before. Changes that
    are overtaken while the application is busy are never seen: what counts is the newest state. It is safe to cancel
    an iteration at any point: nothing is lost, and iterating may begin again. Iterating raises:

    - `softstate.Denied`, once, when the node refuses some of the names (see `denied`); the others go on if you iterate
      again, and when none is left it is raised every time;
    - the error that stopped the client, such as `softstate.Unauthenticated`;
    - `softstate.ClientClosed` when the client is closed. When the handle itself is closed, iterating just ends.
    """

    def __init__(
        self, names: Iterable[str], age_of: Callable[[Iterable[str]], float], progress: trio.lowlevel.ParkingLot
    ) -> None:
        self._names = dict.fromkeys(names)
        self._age_of = age_of
        self._pending: dict[_Key, UpdateEvent] = {}
        self._denied: list[str] = []
        self._reset_count = 0
        self._resets_pending = 0
        self._complaint: Denied | None = None
        self._end: SoftstateError | None = None
        self._closed = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._progress = progress

    @property
    def names(self) -> tuple[str, ...]:
        """The topics and prefixes this handle is on, without those that were denied."""
        return tuple(self._names)

    @property
    def denied(self) -> tuple[str, ...]:
        """The names that the node refused, or that no longer fit into its limits."""
        return tuple(self._denied)

    @property
    def reset_count(self) -> int:
        """How many times the store's history changed under this handle (a restored backup, a wiped store)."""
        return self._reset_count

    @property
    def age(self) -> float:
        """How old, in seconds, what is known of these names may be at most, as of now.

        Everything that was committed longer ago than this has been taken into account. Infinite until the first
        complete answer, and after a reset until the next one.
        """
        if not self._names or self._closed:
            return math.inf
        return self._age_of(self._names)

    async def synced(self) -> None:
        """Wait until the age is finite: the current state of every name has arrived, and can be iterated over.

        Raises what iterating raises; `softstate.ClientClosed` too when this handle is closed.
        """
        await trio.lowlevel.checkpoint()
        while self.age == math.inf:
            self._raise_if_over()
            if self._closed:
                raise ClientClosed("this subscription was closed")
            await self._progress.park()

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while True:
            event = await self.next_event()
            if isinstance(event, Change):
                return event

    def events(self) -> AsyncIterator[UpdateEvent]:
        """Iterate over changes as above and, among them, what became of the client, in the order it happened.

        `Reset`: the store's history changed; what follows belongs to the new one, and nothing of the old one follows.
        `ModeChanged`: the client went into another state; only the newest is kept. No application has to act on
        either to stay correct. Both ways of iterating take from the same pending changes.
        """
        return _Events(self)

    async def next_event(self) -> UpdateEvent:
        """Return the next of `events`. Raises StopAsyncIteration when the handle is closed."""
        await trio.lowlevel.checkpoint()
        self._complain()
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._raise_if_over()
            await self._waiting.park()
        event = self._pending.pop(next(iter(self._pending)))
        self._resets_pending -= isinstance(event, Reset)
        return event

    def _complain(self) -> None:
        if self._complaint is not None:
            complaint = self._complaint
            if self._names:
                self._complaint = None
            raise complaint.with_traceback(None)

    def _raise_if_over(self) -> None:
        self._complain()
        if self._end is not None:
            raise self._end.with_traceback(None)

    # What the client tells it ----------------------------------------------------------------------------------------

    def push(self, change: Change) -> None:
        """Take the newest state of a topic. It takes the place of an older one, but never ahead of a reset."""
        if self._resets_pending:
            self._pending.pop(change.topic, None)
        self._put(change.topic, change)

    def reset(self, reset: Reset) -> None:
        """Take a change of history. Values pending are dropped: all of them follow anew, or as deleted.

        Deletions stay, ahead of the reset: nothing will say again that a topic is gone which the new history does not
        have either. Resets with nothing between them become one, so that not even they can pile up.
        """
        self._reset_count += 1
        pending, self._pending = self._pending, {}
        bare: _Key | None = None  # the last reset, as long as no deletion follows it
        for key, event in pending.items():
            if isinstance(event, Change):
                if not event.deleted:
                    continue
                bare = None
            elif isinstance(event, Reset):
                self._drop(bare)
                bare = key
            self._pending[key] = event
        self._drop(bare)
        self._resets_pending = 1 + sum(isinstance(event, Reset) for event in self._pending.values())
        self._put(self._reset_count, reset)

    def mode_changed(self, change: ModeChanged) -> None:
        """Take the client's new state; it comes behind all that is pending."""
        self._pending.pop(_MODE, None)
        self._put(_MODE, change)

    def deny(self, names: Iterable[str]) -> None:
        """Take note of names that were refused, and complain to the application once."""
        refused = [name for name in names if name in self._names]
        for name in refused:
            del self._names[name]
        self._denied += refused
        listed = ", ".join(map(repr, self._denied[:10])) + (" and more" if len(self._denied) > 10 else "")
        self._complaint = Denied(f"the node refuses these names, or they exceed its limits: {listed}")
        self._wake()

    def end(self, error: SoftstateError) -> None:
        """Raise `error` to the application, once it has taken what is pending."""
        self._end = self._end or error
        self._wake()

    def close(self) -> None:
        """Let iterations end."""
        self._closed = True
        self._pending.clear()
        self._resets_pending = 0
        self._wake()

    def _drop(self, key: _Key | None) -> None:
        if key is not None:
            del self._pending[key]

    def _put(self, key: _Key, event: UpdateEvent) -> None:
        self._pending[key] = event
        self._waiting.unpark_all()

    def _wake(self) -> None:
        self._waiting.unpark_all()
        self._progress.unpark_all()


@final
class _Events:
    """The iterator of `Updates.events`; no generator, since one that is left half-way wants to be closed."""

    def __init__(self, updates: Updates) -> None:
        self._updates = updates

    def __aiter__(self) -> AsyncIterator[UpdateEvent]:
        return self

    async def __anext__(self) -> UpdateEvent:
        return await self._updates.next_event()


@final
class Handles:
    """All open handles of a client, found by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Updates, None]] = {}
        self._all: dict[Updates, None] = {}

    def add(self, updates: Updates) -> list[str]:
        """Add a handle; return the names that no other one held."""
        self._all[updates] = None
        new = [name for name in updates.names if name not in self._by_name]
        for name in updates.names:
            self._by_name.setdefault(name, {})[updates] = None
        return new

    def remove(self, updates: Updates) -> list[str]:
        """Remove a handle; return the names that nobody holds any more."""
        self._all.pop(updates, None)
        freed = []
        for name in updates.names:
            holders = self._by_name[name]
            del holders[updates]
            if not holders:
                del self._by_name[name]
                freed.append(name)
        return freed

    def all(self) -> list[Updates]:
        """Return every handle."""
        return list(self._all)

    def deliver(self, change: Change) -> None:
        """Give a change to each handle that covers its topic."""
        found: dict[Updates, None] = {}
        for name in (change.topic, *prefixes_of(change.topic)):
            found.update(self._by_name.get(name, {}))
        for updates in found:
            updates.push(change)

    def deny(self, names: Iterable[str]) -> None:
        """Take denied names from all handles that hold them."""
        told: dict[Updates, list[str]] = {}
        for name in names:
            for updates in self._by_name.pop(name, {}):
                told.setdefault(updates, []).append(name)
        for updates, refused in told.items():
            updates.deny(refused)
