"""A scripted machine under the real shell: it records events, and does what a test says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from trio_websocket import WebSocketConnection

from softstate.client.machine.events import Action, Event, Ticked
from softstate.client.machine.state import Statistics
from softstate.client.shell.http import HttpClient
from softstate.client.shell.shell import Shell, ToApplication
from softstate.errors import RequestError
from softstate.model import Change, Mode
from softstate.position import Position
from softstate.wire import CBOR, Codec
from tests.kit.scripted_node import WELCOME, ScriptedNode

T = TypeVar("T")

URL = "ws://node:8700"


class Scripted:
    """A machine that records events and answers each with what `react` says."""

    mode: Mode = "polling"
    position: Position | None = None
    value_bytes_max = 65_536
    newest_error = None
    url = None
    bound_s = math.inf

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        self.react: Callable[[Event], Sequence[Action]] = lambda _: ()
        self.due = math.inf
        self._changed = trio.Event()

    def handle(self, event: Event, now: float) -> Sequence[Action]:
        self.events.append(event)
        self.times.append(now)
        self._changed.set()
        self._changed = trio.Event()
        return self.react(event)

    def rest(self, event: Event) -> Sequence[Action]:
        """React by having nothing due any more."""
        self.due = math.inf
        return ()

    def deadline(self) -> float:
        return self.due

    def age(self, now: float, names: Iterable[str] | None = None) -> float:
        raise NotImplementedError

    def unreadable(self, names: Iterable[str] | None = None) -> list[str]:
        raise NotImplementedError

    def known(self, name: str) -> list[Change]:
        raise NotImplementedError

    def refusal(self, ticket: int) -> RequestError | None:
        raise NotImplementedError

    def statistics(self) -> Statistics:
        raise NotImplementedError

    async def saw(self, kind: type[T]) -> T:
        """Wait for the first event of a kind."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            await self._changed.wait()


class Recorded:
    """An application that records."""

    def __init__(self) -> None:
        self.actions: list[ToApplication] = []
        self.steps = 0

    def perform(self, action: ToApplication) -> None:
        self.actions.append(action)

    def advanced(self) -> None:
        self.steps += 1


class Slept:
    """Trio's clock plus the time the host slept."""

    slept_s = 0.0

    def now(self) -> float:
        return trio.current_time() + self.slept_s


class Rig:
    """A shell with everything around it."""

    def __init__(self, nursery: trio.Nursery, node: ScriptedNode, codec: Codec = CBOR) -> None:
        self.nursery = nursery
        self.node = node
        self.machine = Scripted()
        self.application = Recorded()
        self.clock = Slept()
        http = HttpClient(node.open_stream, codec)
        self.shell = Shell(self.machine, self.application, node.open_stream, http, self.clock)

    def do(self, *actions: Action) -> None:
        """Have the machine answer one event with actions."""
        before, self.machine.react = self.machine.react, lambda _: actions
        self.shell.handle(Ticked())
        self.machine.react = before


@asynccontextmanager
async def running(node: ScriptedNode, codec: Codec = CBOR) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        rig = Rig(nursery, node, codec)
        rig.shell.open(nursery)
        yield rig
        rig.shell.close()


async def welcoming(ws: WebSocketConnection) -> None:
    await ws.send_message(CBOR.encode(WELCOME))
    await trio.sleep_forever()


async def listening(node: ScriptedNode, ws: WebSocketConnection) -> None:
    while True:
        await node.receive(ws)


def listener(nursery: trio.Nursery) -> ScriptedNode:
    """Return a node that welcomes and then only listens."""
    node = ScriptedNode(nursery)

    async def serve(ws: WebSocketConnection) -> None:
        await ws.send_message(CBOR.encode(WELCOME))
        await listening(node, ws)

    node.websocket = serve
    return node
