"""Answers of the store to requests that have ended with their lease: they are dropped, and hold up no other message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import SocketTarget, handshake, replied
from bench.trials.fuzz.streams import frame
from softstate.model import Page, Query
from softstate.server.websocket.connection import Connection
from softstate.store.base import Write
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import (
    ClientMessage,
    Hello,
    Revoked,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)

RECORDS = 400
NAMES = 3_000


def framed(codec: Codec, *messages: ClientMessage) -> bytes:
    return b"".join(frame(1 if codec.text else 2, codec.encode(message), masked=True) for message in messages)


class HeldStore:
    """Holds the reads of a store back."""

    def __init__(self, target: SocketTarget) -> None:
        self.asked = trio.Event()
        self._go_on = trio.Event()
        self._read: Callable[[Sequence[Query]], Awaitable[Sequence[Any]]] = target.store.read
        target.store.read = self._wait  # type: ignore[method-assign, assignment]

    async def _wait(self, queries: Sequence[Query]) -> Sequence[Any]:
        self.asked.set()
        await self._go_on.wait()
        return await self._read(queries)

    async def page(self, query: Query) -> Page:
        (page,) = await self._read([query])
        assert isinstance(page, Page)
        return page

    def go_on(self) -> None:
        self._go_on.set()


class Talk:
    """A session whose client is the test: it gives the connection what its peer sends, in the turn that it wants."""

    def __init__(self, target: SocketTarget, codec: Codec) -> None:
        self.target = target
        self.codec = codec
        self.connection: Connection
        self.answers: list[ServerMessage] = []
        self._greeted = trio.Event()

    async def run(self) -> None:
        told = await self.target.talk(handshake(self.codec) + framed(self.codec, Hello()))
        self.answers = replied(told, self.codec)

    async def begin(self) -> None:
        while not self.target.node.sockets:
            await trio.lowlevel.checkpoint()
        (self.connection,) = self.target.node.sockets
        while self.connection.machine.lease is None:
            await trio.lowlevel.checkpoint()

    def say(self, *messages: ClientMessage) -> None:
        self.connection.received(framed(self.codec, *messages))


@pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
async def test_messages_behind_a_large_one_are_not_taken_ahead_of_it(codec: Codec, autojump_clock: MockClock) -> None:
    """The page that nobody wants any more would take turns, as the large message does, and end before it."""
    target = SocketTarget()
    async with target.running(), trio.open_nursery() as nursery:
        await target.store.publish([Write(f"p/{number}", b"\x80") for number in range(RECORDS)])
        talk = Talk(target, codec)
        nursery.start_soon(talk.run)
        await talk.begin()
        store = HeldStore(target)
        talk.say(Subscribe(1, prefixes={"p/": 0}))
        await store.asked.wait()
        page = await store.page(Query(prefixes={"p/": 0}))
        assert len(page.records) == RECORDS
        # From here on in one turn, whose budget others have spent.
        assert target.node.turns.take(target.node.turns.names_max)
        ticket = talk.connection._ticket
        assert ticket is not None
        talk.connection.revoked("overloaded")
        talk.say(Subscribe(2, {f"n/{number}": 0 for number in range(NAMES)}, replace=True))
        ticket.settle(page)
        talk.say(Unsubscribe(["n/1"]), Subscribe(3, {"z": 0}))
        store.go_on()
    kinds = [type(answer) for answer in talk.answers]
    assert kinds == [Welcome, Revoked, Subscribed, Subscribed]
    second, third = talk.answers[2:]
    assert isinstance(second, Subscribed)
    assert isinstance(third, Subscribed)
    assert (second.id, second.count) == (2, NAMES)
    assert (third.id, third.count) == (3, NAMES)
