"""The block of `Client.subscribe`: names are followed for its length."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import final

import anyio

from softstate.client.api.block import AsyncBlock
from softstate.client.api.dispatcher import Dispatcher
from softstate.client.api.inbox import Inbox
from softstate.client.api.updates import Updates
from softstate.client.machine.events import FreshWanted
from softstate.client.shell.bell import Bell
from softstate.client.shell.clock import Clock
from softstate.client.shell.shell import Driven, Shell

_USAGE = """client.subscribe(...) is a block, whose handle is iterated over:
    async with client.subscribe("orders/") as updates:
        async for change in updates:
            ..."""


@final
class Subscription(AsyncBlock):
    """The block that `Client.subscribe` makes: entered, once, by ``async with``, it gives the `Updates`."""

    _HINT = _USAGE

    def __init__(
        self,
        names: tuple[str, ...],
        narrow: bool,
        kind: type | None,
        machine: Driven,
        shell: Shell,
        dispatcher: Dispatcher,
        clock: Clock,
    ) -> None:
        self._names = names
        self._narrow = narrow
        self._kind = kind
        self._machine = machine
        self._shell = shell
        self._dispatcher = dispatcher
        self._clock = clock
        self._inbox: Inbox | None = None

    async def __aenter__(self) -> Updates:
        if self._inbox is not None:
            raise RuntimeError("this subscription was entered before: call client.subscribe(...) again")
        await anyio.lowlevel.checkpoint()
        self._dispatcher.raise_if_over()
        bell = Bell()
        inbox = self._inbox = Inbox(self._names, bell.ring, narrow=self._narrow)
        for event in self._dispatcher.inboxes.enter(inbox, self._machine.known, self._machine.unreadable):
            self._shell.handle(event)
        return Updates(
            inbox,
            bell,
            self._dispatcher.progress,
            self._age_of,
            self._machine.unreadable,
            self._machine.known,
            lambda: self._shell.handle(FreshWanted()),
            self._leave,
            self._kind,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        assert self._inbox is not None, "a block is left after it was entered"
        for event in self._dispatcher.inboxes.leave(self._inbox):
            self._shell.handle(event)
        self._dispatcher.progress.ring()

    def _age_of(self, names: Iterable[str]) -> float:
        return self._machine.age(self._clock.now(), names)
