"""A publish that was refused is not overtaken by a later one of its connection (P-PUB-6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.server import ServerConfig
from softstate.server.websocket.refusals import Refusals
from softstate.wire import CBOR
from tests.integration.test_unreadable import Peer, Rig, connected, running

ONE_WAITS = ServerConfig(publishes_waiting_max=1)


class Gate:
    """Lets commits through one by one, or fails them."""

    def __init__(self) -> None:
        self.shut = False
        self.failing = False
        self._passes = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def __call__(self, checkpoint: str) -> None:
        if checkpoint != "publish.before_commit":
            return
        while self.shut and not self._passes:
            await self._lot.park()
        self._passes = max(self._passes - 1, 0)
        if self.failing:
            raise Unavailable("no space left on device")

    def let_one_pass(self) -> None:
        self._passes += 1
        self._lot.unpark_all()

    def open(self) -> None:
        self.shut = False
        self._lot.unpark_all()


@asynccontextmanager
async def gated(config: ServerConfig) -> AsyncIterator[tuple[Gate, Rig, Peer]]:
    gate = Gate()
    async with running(config, gate) as rig, connected(rig, CBOR) as peer:
        yield gate, rig, peer


async def publish(peer: Peer, number: int, topic: str = "t") -> None:
    await peer.send({"op": "publish", "id": number, "topic": topic, "value": number})
    await trio.sleep(0.1)  # until it has arrived


async def answers(peer: Peer, count: int) -> dict[int, Any]:
    """Return the next answers by the number of their publish: the version, or the code."""
    found: dict[int, Any] = {}
    while len(found) < count:
        message = await peer.receive()
        found[message["id"]] = message.get("version", message.get("code"))
    return found


async def overtaken(gate: Gate, rig: Rig, peer: Peer) -> tuple[Any, Any]:
    """Let publish 3 be refused, and send 4 while 2 is under way; return the fate of 4, and the value after all."""
    gate.shut = True
    for number in (1, 2, 3):
        await publish(peer, number, "t" if number == 3 else "other")
    assert await answers(peer, 1) == {3: "overloaded"}
    gate.let_one_pass()
    assert 1 in await answers(peer, 1)
    await trio.sleep(0.1)  # until 2 no longer waits for its call: there is room again
    await publish(peer, 4)
    gate.open()
    fates = await answers(peer, 2)
    # The client sends again what was refused, in order.
    for number in (3, *([4] if fates[4] == "overloaded" else [])):
        await publish(peer, number)
        await answers(peer, 1)
    _, value = await rig.request(CBOR, "/v1/topics/t")
    return fates[4], value


async def test_a_later_one_is_refused_likewise_until_all_are_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with gated(ONE_WAITS) as (gate, rig, peer):
        assert await overtaken(gate, rig, peer) == ("overloaded", 4)


async def test_without_that_the_older_value_wins(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: it shows that the test above can fail."""
    monkeypatch.setattr(Refusals, "note", lambda _self, _error: None)
    async with gated(ONE_WAITS) as (gate, rig, peer):
        fate, value = await overtaken(gate, rig, peer)
        assert (type(fate), value) == (int, 3)


async def test_other_topics_and_other_connections(autojump_clock: trio.testing.MockClock) -> None:
    async with gated(ONE_WAITS) as (gate, rig, peer), connected(rig, CBOR) as other:
        gate.shut = True
        for number in (1, 2, 3):
            await publish(peer, number)
        assert await answers(peer, 1) == {3: "overloaded"}
        gate.let_one_pass()
        await answers(peer, 1)
        await trio.sleep(0.1)
        await publish(peer, 4, "another topic")
        assert await answers(peer, 1) == {4: "overloaded"}
        await publish(other, 5)
        gate.open()
        assert isinstance((await answers(other, 1))[5], int)
        await answers(peer, 1)
        await publish(peer, 6)
        assert isinstance((await answers(peer, 1))[6], int)


async def test_a_failed_commit_refuses_later_ones_too(autojump_clock: trio.testing.MockClock) -> None:
    async with gated(ServerConfig()) as (gate, _, peer):
        gate.shut = gate.failing = True
        await publish(peer, 1)
        await publish(peer, 2)
        gate.open()
        assert await answers(peer, 2) == {1: "unavailable", 2: "unavailable"}
        gate.failing = False
        await publish(peer, 3)
        assert isinstance((await answers(peer, 1))[3], int), "all before it were answered"


async def test_what_was_received_with_the_refused_one_is_refused_with_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nothing is under way: the messages of one segment wait to be read."""
    async with gated(ServerConfig()) as (_, rig, peer):
        submit = rig.node.access.writes.submit
        refusals = [Unavailable("stuck")]

        def once(*args: Any) -> None:
            if refusals:
                raise refusals.pop()
            submit(*args)

        monkeypatch.setattr(rig.node.access.writes, "submit", once)
        await peer.send_together({"op": "publish", "id": number, "topic": "t", "value": number} for number in (1, 2, 3))
        assert await answers(peer, 3) == {1: "unavailable", 2: "unavailable", 3: "unavailable"}
        await publish(peer, 4)
        assert isinstance((await answers(peer, 1))[4], int)
