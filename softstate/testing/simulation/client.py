"""A real client in a simulated world, and an application that notes all it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, final

import trio

from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.receipt import Receipt
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Reset
from softstate.errors import ClientClosed, Conflict, Denied, SoftstateError
from softstate.model import Change
from softstate.testing.simulation.clocks import NodeClock
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.freezer import start_on
from softstate.testing.trace import (
    Acknowledged,
    AgeSampled,
    Applied,
    Asked,
    ClientEnded,
    ModeSeen,
    Refused,
    ResetSeen,
    Unwanted,
    Wanted,
)

ASKED_MAX = 100_000
"""Publishes that an application may have begun while its host was frozen."""


@final
class _Handle:
    """A subscription of the application's, and what it was given of it since the last reset."""

    def __init__(self, number: int, names: tuple[str, ...]) -> None:
        self.number = number
        self.names = names
        self.known: dict[str, Change] = {}
        self.updates: Updates | None = None
        self.scope = trio.CancelScope()


@final
class SimClient:
    """One client on a host of its own. What its application does, it does on that host: nothing while it is frozen."""

    def __init__(
        self, environment: Environment, name: str, names: Sequence[str], urls: Sequence[str], options: dict[str, Any]
    ) -> None:
        self.name = name
        self.clock = NodeClock()
        self.client: Client | None = None
        self._environment = environment
        self._urls = list(urls)
        self._options = options
        self._random = environment.seeds.random(f"client {name}")
        self._scope = trio.CancelScope()
        self._leaving = trio.Event()
        self._ended = trio.Event()
        self._tasks: trio.Nursery | None = None
        self._handles: dict[int, _Handle] = {}
        self._handle_number = 0
        self._tickets = 0
        self._outgoing, self._asked = trio.open_memory_channel[Asked](ASKED_MAX)
        self._first = tuple(names)
        self._how = "closed"

    def start(self) -> None:
        """Begin to connect."""
        start_on(self.name, self._environment.nursery, self._run)

    async def _run(self) -> None:
        counts: dict[str, int] = {}
        try:
            with self._scope:
                async with connect(
                    self._urls, name=self.name, random=self._random, clock=self.clock,
                    open_stream=self._environment.network.opener(self.name), **self._options,
                ) as client, trio.open_nursery() as self._tasks:  # fmt: skip
                    self.client = client
                    self._tasks.start_soon(self._publish_asked)
                    if self._first:
                        self.subscribe(*self._first)
                    await self._leaving.wait()
                    counts = asdict(client.statistics())
                    self._tasks.cancel_scope.cancel()
        finally:
            if self.client is not None:
                counts = asdict(self.client.statistics())
            self.client = None
            self._handles.clear()
            told = tuple((name, count) for name, count in counts.items() if count)
            self._environment.trace.add(ClientEnded(trio.current_time(), self.name, self._how, told))
            self._ended.set()

    async def leave(self) -> None:
        """Close the client in order; returns when it is closed."""
        self._leaving.set()
        await self._ended.wait()

    def end(self, how: str = "killed") -> None:
        """End the client's process at this instant: ``killed``, or ``power``, of which no node hears anything."""
        if self._ended.is_set():
            return
        self._how = how
        self._environment.network.leave(self.name, silently=how == "power")
        self._environment.freezer.thaw(self.name)
        self._scope.cancel()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.client is not None

    @property
    def mode(self) -> str:
        """What the client says it is doing."""
        return self.client.mode if self.client is not None else "closed"

    def known(self, handle: int = 1) -> dict[str, Change]:
        """Return what the application was given on a handle, deletions too, since the last reset."""
        return dict(self._handles[handle].known)

    def age(self, handle: int = 1) -> float:
        """Return what `Updates.age` says now."""
        updates = self._handles[handle].updates
        return updates.age if updates is not None else float("inf")

    # Following -------------------------------------------------------------------------------------------------------

    def subscribe(self, *names: str) -> int:
        """Follow more names; return the number of the handle."""
        assert self._tasks is not None, "not connected yet: give names to the constructor, or wait a moment"
        self._handle_number += 1
        handle = self._handles[self._handle_number] = _Handle(self._handle_number, names)
        start_on(self.name, self._tasks, self._follow, handle)
        return handle.number

    def unsubscribe(self, handle: int) -> None:
        """Give up a handle."""
        if (found := self._handles.pop(handle, None)) is not None:
            self._note(Unwanted(trio.current_time(), self.name, handle))
            found.scope.cancel()

    async def _follow(self, handle: _Handle) -> None:
        assert self.client is not None
        if handle.number not in self._handles:
            return  # given up while its host was frozen, before anything was done about it
        self._note(Wanted(trio.current_time(), self.name, handle.number, handle.names))
        with handle.scope:
            try:
                async with self.client.subscribe(*handle.names) as handle.updates:
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
                if not updates.names:
                    return
                continue
            now = trio.current_time()
            if isinstance(event, Change):
                handle.known[event.topic] = event
                self._note(_applied(now, self.name, handle.number, event, updates.age))
            elif isinstance(event, Reset):
                handle.known.clear()
                self._note(ResetSeen(now, self.name, handle.number))
            else:
                self._note(ModeSeen(now, self.name, handle.number, event.mode))

    def sample(self) -> None:
        """Note the age of every handle, and what the application knows."""
        for handle in self._handles.values():
            if handle.updates is None:
                continue
            known = tuple(
                (change.topic, change.version, change.deleted) for _, change in sorted(handle.known.items())
            )  # fmt: skip
            age_s = handle.updates.age
            self._note(AgeSampled(trio.current_time(), self.name, handle.number, age_s, self.mode, known))

    # Publishing ------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, value: Any, *, expect: int | None = None, key: str | None = None) -> int:
        """Begin to publish; return the ticket under which the trace tells what becomes of it."""
        return self._ask(topic, value, expect, key, deleted=False)

    def delete(self, topic: str, *, expect: int | None = None, key: str | None = None) -> int:
        """Begin to delete; return the ticket."""
        return self._ask(topic, None, expect, key, deleted=True)

    def _ask(self, topic: str, value: Any, expect: int | None, key: str | None, *, deleted: bool) -> int:
        self._tickets += 1
        asked = Asked(trio.current_time(), self.name, self._tickets, topic, value, deleted, expect, key)
        self._outgoing.send_nowait(asked)
        return self._tickets

    async def _publish_asked(self) -> None:
        # One task for all: what is asked first is published first, and nothing while the host is frozen.
        assert self.client is not None
        assert self._tasks is not None
        async for asked in self._asked:
            asked = replace(asked, at=trio.current_time())
            self._note(asked)
            try:
                if asked.deleted:
                    receipt = self.client.delete_soon(asked.topic, expect=asked.expect, key=asked.key)
                else:
                    receipt = self.client.publish_soon(asked.topic, asked.value, expect=asked.expect, key=asked.key)
            except SoftstateError as error:
                self._refused(asked, error)
            else:
                self._tasks.start_soon(self._await_receipt, asked, receipt)

    async def _await_receipt(self, asked: Asked, receipt: Receipt) -> None:
        try:
            published = await receipt.wait()
        except SoftstateError as error:
            self._refused(asked, error)
        else:
            now = trio.current_time()
            self._note(Acknowledged(now, self.name, asked.ticket, asked.topic, published.version))

    def _refused(self, asked: Asked, error: SoftstateError) -> None:
        current = error.current if isinstance(error, Conflict) else None
        now, kind = trio.current_time(), type(error).__name__
        self._note(Refused(now, self.name, asked.ticket, asked.topic, kind, current))

    def _note(self, event: Any) -> None:
        self._environment.trace.add(event)


def _applied(now: float, client: str, handle: int, change: Change, age_s: float) -> Applied:
    return Applied(now, client, handle, change.topic, change.version, change.value, change.deleted, age_s)
