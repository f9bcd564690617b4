"""One flight (P-CONN-16) through the sockets of a node: how many reads it costs, and when messages come apart."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import SocketTarget, handshake, replied
from bench.trials.fuzz.streams import frame
from softstate.model import Query
from softstate.server.storage.reads import StoreReads
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import ClientMessage, Error, Hello, Publish, Renew, Renewed, Subscribe, Subscribed, Welcome

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)


def framed(codec: Codec, *messages: ClientMessage) -> bytes:
    return b"".join(frame(1 if codec.text else 2, codec.encode(message), masked=True) for message in messages)


async def answers(target: SocketTarget, codec: Codec, *messages: ClientMessage) -> list[Any]:
    return replied(await target.talk(handshake(codec), framed(codec, *messages)), codec)


def asked(patch: pytest.MonkeyPatch) -> list[Query]:
    """Note the queries that reach the store."""
    queries: list[Query] = []
    read = StoreReads._read_pages

    async def noted(self: StoreReads, group: Any) -> Any:
        queries.extend(request.query for request in group)
        return await read(self, group)

    patch.setattr(StoreReads, "_read_pages", noted)
    return queries


@BOTH
@pytest.mark.parametrize("names", [1, 300, 1_024])
async def test_hello_and_subscribe_are_one_read_of_the_store(
    codec: Codec, names: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = asked(monkeypatch)
    target = SocketTarget()
    topics = {f"t/{number}": 0 for number in range(names)}
    async with target.running():
        greeted, answer = await answers(target, codec, Hello(), Subscribe(1, topics, replace=True))
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert (answer.count, answer.position) == (names, greeted.position)
    # Of a message that does not come in one piece only its beginning is there: hello is asked for alone, and again.
    assert [len(query.topics) for query in queries] == ([names] if names < 1_000 else [0, names])


@BOTH
async def test_what_its_answer_brings_is_written_as_changes(codec: Codec, autojump_clock: MockClock) -> None:
    """Enough of it to be encoded ahead, in portions: a replay, which `welcome` may be followed by, has another form."""
    target = SocketTarget()
    async with target.running():
        publishes = [Publish(number, f"t/{number}", value="x" * 600) for number in range(64)]
        assert len(await answers(target, codec, Hello(), *publishes)) == 65
        greeted, answer = await answers(target, codec, Hello(), Subscribe(1, {}, {"t/": 0}, replace=True))
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert sorted(change.topic for change in answer.changes) == sorted(publish.topic for publish in publishes)


@BOTH
async def test_a_large_message_that_is_no_subscribe_waits_for_the_welcome(
    codec: Codec, autojump_clock: MockClock
) -> None:
    target = SocketTarget()
    async with target.running():
        greeted, *rest = await answers(
            target, codec, Hello(), Publish(1, "t", value="x" * 5_000), Renew(2, "0" * 16, 0)
        )
    assert isinstance(greeted, Welcome)
    assert {type(answer).__name__ for answer in rest} == {"Published", "Renewed"}


@BOTH
async def test_too_many_names_are_refused_behind_the_welcome(codec: Codec, autojump_clock: MockClock) -> None:
    target = SocketTarget()
    async with target.running():
        most = target.node.config.subscriptions_max
        many = {f"t/{number}": 0 for number in range(most + 1)}
        greeted, refused, renewed = await answers(
            target, codec, Hello(), Subscribe(1, many, replace=True), Renew(2, "0" * 16, 0)
        )
    assert isinstance(greeted, Welcome)
    assert isinstance(refused, Error)
    assert (refused.code, refused.id) == ("too_large", 1)
    assert isinstance(renewed, Renewed)
    assert renewed.match


async def test_a_node_that_drains_before_the_answer_keeps_no_lease(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SocketTarget()
    read = StoreReads._read_pages
    leases: list[int] = []

    async def draining(self: StoreReads, group: Any) -> Any:
        leases.append(len(target.node.leases))
        for connection in tuple(target.node.sockets):
            connection.drain()
        return await read(self, group)

    monkeypatch.setattr(StoreReads, "_read_pages", draining)
    async with target.running():
        found = await answers(target, CBOR, Hello(), Subscribe(1, {"a": 0}))
        assert [type(answer).__name__ for answer in found] == ["ServerBye"]
        assert (leases, len(target.node.leases)) == ([1], 0)
