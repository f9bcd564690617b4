"""A real client in a simulated world, with an application that records everything delivered to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, final

import trio

from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.receipt import Receipt
from softstate.client.api.updates import Updates
from softstate.client.machine.events import NodeRefused, Reset, TopicsUnreadable
from softstate.errors import ClientClosed, Conflict, Denied, SoftstateError
from softstate.model import Change
from softstate.names import covered
from softstate.testing.simulation.clocks import SimClock
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.freezer import start_on
from softstate.testing.trace import (
    AgeSampled,
    ChangeDelivered,
    ClientEnded,
    ModeChanged,
    NamesDenied,
    PublishAcknowledged,
    PublishFailed,
    PublishStarted,
    ResetDelivered,
    Subscribed,
    Unsubscribed,
)

PUBLISHES_QUEUED_MAX = 100_000
"""Publishes that may wait for the application, as while its host is frozen."""


@final
class _Handle:
    """A subscription of the application, and the changes delivered to it since the last reset."""

    def __init__(self, number: int, names: tuple[str, ...], narrow: bool = False) -> None:
        self.number = number
        self.names = names
        self.narrow = narrow
        self.held = names
        self.known: dict[str, Change] = {}
        self.updates: Updates | None = None
        self.scope = trio.CancelScope()


@final
class SimClient:
    """One client on a host of its own. Its application runs on that host: it does nothing while the host is frozen."""

    def __init__(
        self, environment: Environment, name: str, names: Sequence[str], urls: Sequence[str], options: dict[str, Any]
    ) -> None:
        self.name = name
        self.clock = SimClock()
        self.client: Client | None = None
        self._environment = environment
        self._urls = list(urls)
        self._options = options
        self._random = environment.seeds.random(f"client {name}")
        self._scope = trio.CancelScope()
        self._closing = trio.Event()
        self._ended = trio.Event()
        self._tasks: trio.Nursery | None = None
        self._handles: dict[int, _Handle] = {}
        self._handle_number = 0
        self._publishes = 0
        self._queue_in, self._queue_out = trio.open_memory_channel[PublishStarted](PUBLISHES_QUEUED_MAX)
        self._initial_names = tuple(names)
        self._how = "closed"
        self._lost: dict[str, None] = {}

    def start(self) -> None:
        """Begin to connect."""
        start_on(self.name, self._environment.nursery, self._run)

    async def _run(self) -> None:
        counts: dict[str, int] = {}
        try:
            with self._scope:
                async with connect(
                    self._urls, name=self.name, random=self._random, clock=self.clock,
                    open_stream=self._environment.network.opener(self.name), **{"ordered": True, **self._options},
                ) as client, trio.open_nursery() as self._tasks:  # fmt: skip
                    self.client = client
                    self._tasks.start_soon(self._publish_queued)
                    if self._initial_names:
                        self.subscribe(*self._initial_names)
                    await self._closing.wait()
                    counts = asdict(client.statistics())
                    self._tasks.cancel_scope.cancel()
        finally:
            if self.client is not None:
                counts = asdict(self.client.statistics())
            self.client = None
            self._handles.clear()
            nonzero = tuple((name, count) for name, count in counts.items() if count)
            self._environment.trace.add(ClientEnded(trio.current_time(), self.name, self._how, nonzero))
            self._ended.set()

    async def aclose(self) -> None:
        """Close the client in order; returns once it is closed."""
        self._closing.set()
        await self._ended.wait()

    def end(self, how: str = "killed") -> None:
        """End the client's process at this instant: ``killed``, or ``power``, which the nodes do not notice."""
        if self._ended.is_set():
            return
        self._how = how
        self._environment.network.end_process(self.name, silently=how == "power")
        self._environment.freezer.thaw(self.name)
        self._scope.cancel()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.client is not None

    @property
    def mode(self) -> str:
        """The client's own mode; ``closed`` if it does not run."""
        return self.client.mode if self.client is not None else "closed"

    def known(self, handle: int = 1) -> dict[str, Change]:
        """Return the changes delivered on a handle since its last reset, deletions included, by topic."""
        return dict(self._handles[handle].known)

    def age(self, handle: int = 1) -> float:
        """Return `Updates.age` of a handle, in seconds."""
        updates = self._handles[handle].updates
        return updates.age if updates is not None else float("inf")

    # Subscriptions-----------------------------------------------------------------------------------------------------

    def subscribe(self, *names: str, narrow: bool = False) -> int:
        """Subscribe to more names, or to those below them that may be read; return the number of the handle."""
        assert self._tasks is not None, "not connected yet: name the topics in World.client, or wait for the connection"
        self._handle_number += 1
        handle = self._handles[self._handle_number] = _Handle(self._handle_number, names, narrow)
        start_on(self.name, self._tasks, self._follow, handle)
        return handle.number

    def ask_again(self) -> None:
        """Subscribe to the names that were denied, if the client runs."""
        lost, self._lost = tuple(self._lost), {}
        if lost and self.client is not None:
            self.subscribe(*lost)

    def unsubscribe(self, handle: int) -> None:
        """Give up a handle."""
        if (found := self._handles.pop(handle, None)) is not None:
            self._record(Unsubscribed(trio.current_time(), self.name, handle))
            found.scope.cancel()

    async def _follow(self, handle: _Handle) -> None:
        assert self.client is not None
        if handle.number not in self._handles:
            return  # given up before it began, while its host was frozen
        beat_s = (self._options["beat_ms"] or math.inf) / 1000
        self._record(Subscribed(trio.current_time(), self.name, handle.number, handle.names, beat_s))
        with handle.scope:
            try:
                async with self.client.subscribe(*handle.names, narrow=handle.narrow) as handle.updates:
                    await self._take(handle, handle.updates)
            except ClientClosed:
                pass
            except SoftstateError:
                self._how = "stopped"
        handle.updates = None

    async def _take(self, handle: _Handle, updates: Updates) -> None:
        events = updates.events()
        while True:
            try:
                event = await anext(events)
            except StopAsyncIteration:
                return
            except Denied:
                left = self._note_names(handle, updates)
                self._lost.update(dict.fromkeys(name for name in handle.names if name not in left))
                if not left:
                    return
                continue
            self._note_names(handle, updates)
            now = trio.current_time()
            if isinstance(event, Change):
                handle.known[event.topic] = event
                self._record(_delivered(now, self.name, handle.number, event, updates.age))
            elif isinstance(event, Reset):
                handle.known.clear()
                self._record(ResetDelivered(now, self.name, handle.number))
            elif not isinstance(event, NodeRefused | TopicsUnreadable):  # no promise is about it
                self._record(ModeChanged(now, self.name, handle.number, event.mode))

    def _note_names(self, handle: _Handle, updates: Updates) -> tuple[str, ...]:
        """Record the names that a handle is on, if others were denied; return them."""
        left = updates.names
        if left != handle.held:
            handle.held = left
            self._record(NamesDenied(trio.current_time(), self.name, handle.number, left))
            handle.known = {topic: each for topic, each in handle.known.items() if covered(left, topic)}
        return left

    def sample(self) -> None:
        """Record the age and the known state of every handle."""
        for handle in self._handles.values():
            if handle.updates is None:
                continue
            if handle.narrow:
                self._note_names(handle, handle.updates)
            known = tuple(
                (change.topic, change.version, change.deleted) for _, change in sorted(handle.known.items())
            )  # fmt: skip
            age_s = handle.updates.age
            unreadable = tuple(sorted(handle.updates.unreadable))
            sample = AgeSampled(trio.current_time(), self.name, handle.number, age_s, self.mode, known, unreadable)
            self._record(sample)

    # Publishing ------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, value: Any, *, expect: int | None = None, key: str | None = None) -> int:
        """Begin to publish; return the number of the publish in the trace."""
        return self._enqueue(topic, value, expect, key, deleted=False)

    def delete(self, topic: str, *, expect: int | None = None, key: str | None = None) -> int:
        """Begin to delete; return the number of the publish in the trace."""
        return self._enqueue(topic, None, expect, key, deleted=True)

    def _enqueue(self, topic: str, value: Any, expect: int | None, key: str | None, *, deleted: bool) -> int:
        self._publishes += 1
        publish = PublishStarted(trio.current_time(), self.name, self._publishes, topic, value, deleted, expect, key)
        self._queue_in.send_nowait(publish)
        return self._publishes

    async def _publish_queued(self) -> None:
        # One task, so that publishes keep their order, and none begins while the host is frozen.
        assert self.client is not None
        assert self._tasks is not None
        async for publish in self._queue_out:
            publish = replace(publish, at_s=trio.current_time())
            self._record(publish)
            try:
                if publish.deleted:
                    receipt = self.client.delete_soon(publish.topic, expect=publish.expect, key=publish.key)
                else:
                    receipt = self.client.publish_soon(
                        publish.topic, publish.value, expect=publish.expect, key=publish.key, each=True
                    )
            except SoftstateError as error:
                self._fail(publish, error)
            else:
                self._tasks.start_soon(self._await_receipt, publish, receipt)

    async def _await_receipt(self, publish: PublishStarted, receipt: Receipt) -> None:
        try:
            published = await receipt.wait()
        except SoftstateError as error:
            self._fail(publish, error)
        else:
            now = trio.current_time()
            self._record(PublishAcknowledged(now, self.name, publish.number, publish.topic, published.version))

    def _fail(self, publish: PublishStarted, error: SoftstateError) -> None:
        current = error.current if isinstance(error, Conflict) else None
        now, kind = trio.current_time(), type(error).__name__
        self._record(PublishFailed(now, self.name, publish.number, publish.topic, kind, current))

    def _record(self, event: Any) -> None:
        self._environment.trace.add(event)


def _delivered(now: float, client: str, handle: int, change: Change, age_s: float) -> ChangeDelivered:
    return ChangeDelivered(now, client, handle, change.topic, change.version, change.value, change.deleted, age_s)
