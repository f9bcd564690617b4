"""The handle that an application iterates over: the newest value of each topic it follows, never a backlog."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar, final

import anyio
import msgspec

from softstate.client.api.arguments import check_seconds, topic_of
from softstate.client.api.inbox import Inbox, UpdateEvent
from softstate.client.shell.bell import Bell
from softstate.errors import ClientClosed, Invalid, Stale
from softstate.http_client.loop import loop_clock
from softstate.model import Change
from softstate.names import covered

T = TypeVar("T")

TAKEN_MAX = 100
"""Events that are taken in a row without letting other tasks run, if there are so many."""

ASK_AGAIN_S = 0.2
"""How long `fresh` waits for one answer until it has another one asked for: a client renews no more often."""

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
        known_of: Callable[[str], Iterable[Change]] = lambda _: (),
        ask: Callable[[], None] = lambda: None,
        leave: Callable[[], None] = lambda: None,
        kind: type | None = None,
    ) -> None:
        self._inbox = inbox
        self._bell = bell
        self._progress = progress
        self._age_of = age_of
        self._unreadable_of = unreadable_of
        self._known_of = known_of
        self._ask = ask
        self._leave = leave
        self._kind = kind
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

    def get(self, topic: str) -> Change | None:
        """Return the newest known state of a topic under this handle, without waiting; None if nothing is known of it.

        It may be as old as `age`, whether it was iterated over or not.
        """
        topic_of(topic)
        if not covered(self._inbox.names, topic):
            return None
        return next((self._converted(each) for each in self._known_of(topic) if each.version > 0), None)

    def snapshot(self) -> dict[str, Change]:
        """Return the newest known state of every topic under this handle that has a value, by topic; see `get`."""
        found: dict[str, Change] = {}
        for name in self._inbox.names:
            for change in self._known_of(name):
                if change.version > 0 and not change.deleted:
                    found[change.topic] = self._converted(change)
        return found

    def close(self) -> None:
        """Unsubscribe, as leaving the block of `subscribe` does, also from another task of the client's loop.

        What is pending is dropped. Iterations end, those that wait as well; `synced` and `fresh` raise
        `softstate.ClientClosed` where they wait. Calling it again, or leaving the block then, does nothing.
        """
        self._leave()

    async def synced(self, *, timeout_s: float = math.inf) -> None:
        """Wait until the age is finite: the current state of every name has arrived, and can be iterated over.

        Raises what iterating raises; `softstate.ClientClosed` too when this handle is closed, `softstate.Stale` when
        `timeout_s` is over.
        """
        await self._until(lambda: self.age < math.inf, timeout_s)

    async def fresh(self, max_age: float, *, timeout_s: float = math.inf) -> None:
        """Wait until the age is at most `max_age` seconds, and have a node asked now if it is not.

        Of all that wait in this way, one request is on its way at a time. A `max_age` below a round trip is never
        reached. Raises what `synced` raises.
        """
        check_seconds(max_age, "max_age")
        with anyio.move_on_after(timeout_s):
            while self.age > max_age:
                self._ask()
                with anyio.move_on_after(ASK_AGAIN_S):
                    await self._until(lambda: self.age <= max_age, math.inf)
        await self._until(lambda: self.age <= max_age, 0.0)

    async def _until(self, reached: Callable[[], bool], timeout_s: float) -> None:
        check_seconds(timeout_s)
        await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(timeout_s):
            while not reached():
                self._inbox.raise_if_over()
                if self._inbox.closed:
                    raise ClientClosed("this subscription was closed")
                await self._progress.wait()
            return
        text = f"within {timeout_s:g} s nothing proved it: the state may be {self.age:.1f} s old"
        raise Stale(f"{text}: `Client.last_error` says why, if a node does not answer", self.age)

    def __repr__(self) -> str:
        return f"<softstate.Updates of {', '.join(self.names) or 'nothing'}, age {self.age:.1f} s>"

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        while True:
            event = await self._take()
            if isinstance(event, Change):
                return self._converted(event)

    def batches(self) -> AsyncIterator[list[Change]]:
        """Iterate over changes as above, all that are pending at once: lists of one change or more, of distinct topics.

        Each takes all that has come since the one before, and waits if that is nothing.
        """
        return _Taken(self._take_all)

    def _converted(self, change: Change) -> Change:
        """Return a change with its value as the type that was asked for. Raises `softstate.Invalid`."""
        if self._kind is None or change.deleted:
            return change
        try:
            value: object = msgspec.convert(change.value, self._kind)
        except msgspec.ValidationError as error:
            kind = getattr(self._kind, "__name__", str(self._kind))
            raise Invalid(f"{change.topic!r} at version {change.version} is no {kind}: {error}") from None
        return Change(change.topic, change.version, value)

    async def _take(self) -> UpdateEvent:
        """Wait for the next event and take it.

        Other tasks run, and cancellation is noticed, whenever it has to wait, and after `TAKEN_MAX` events or
        `BUSY_S_MAX` without that: a pass of the scheduler for each of a million changes costs more than the changes.
        """
        if self._now is None:
            self._now = loop_clock()
        inbox = self._inbox
        if not inbox.idle and (
            not inbox.pending or self._taken >= TAKEN_MAX or self._now() - self._rested_s >= BUSY_S_MAX
        ):
            await anyio.lowlevel.checkpoint()
            self._taken, self._rested_s = 0, self._now()
        while (event := inbox.take()) is None:
            await self._bell.wait()
            self._taken, self._rested_s = 0, self._now()
        self._taken += 1
        return event

    async def _take_event(self) -> UpdateEvent:
        event = await self._take()
        return self._converted(event) if isinstance(event, Change) else event

    async def _take_all(self) -> list[Change]:
        while True:
            event: UpdateEvent | None = await self._take()
            changes = []
            while event is not None:
                if isinstance(event, Change):
                    changes.append(event)
                event = self._inbox.take() if self._inbox.pending else None
            if changes:
                return [self._converted(change) for change in changes]

    def events(self) -> AsyncIterator[UpdateEvent]:
        """Iterate over changes as above and, among them, what became of the client, in the order it happened.

        `Reset`: the store's history changed; what follows belongs to the new one, and nothing of the old one follows.
        `ModeChanged`: the client went into another mode; only the newest is kept. `NodeRefused`: one node refuses this
        client, because of the name in its URL for example, or one of its polls; it goes on without. `TopicsUnreadable`:
        the stored records of some topics are damaged (see `unreadable`). No application has to act on any of them to
        stay correct. Both ways of iterating take from the same pending changes.
        """
        return _Taken(self._take_event)


@final
class _Taken(Generic[T]):
    """An iterator over what `take` returns; no generator, since one that is left half-way wants to be closed."""

    def __init__(self, take: Callable[[], Awaitable[T]]) -> None:
        self._take = take

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self._take()
