"""Subscribes that have nothing to learn, through the sockets of a node: answered without the store (P-SUB-17)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import SocketTarget
from softstate.model import Query
from softstate.position import Position
from softstate.server.storage.level import LEVEL_S_MAX, Level
from softstate.wire import CBOR
from softstate.wire.messages import Hello, Publish, Published, Subscribe, Subscribed, Welcome
from tests.server.websocket.test_one_flight import answers, asked

TOPICS = {f"t/{number}": 0 for number in range(3)}


@pytest.fixture(autouse=True)
def young_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a level that is known be young: time passes while a test waits for a connection to end."""
    lag_s = Level.lag_s
    monkeypatch.setattr(
        Level, "lag_s", lambda self, moment=None: min(lag_s(self, moment), 0.1) if lag_s(self) < math.inf else math.inf
    )


async def flight(target: SocketTarget, subscribe: Subscribe, position: Position | None = None) -> Subscribed:
    greeted, answer = await answers(target, CBOR, Hello(position=position), subscribe)
    assert isinstance(greeted, Welcome)
    assert isinstance(answer, Subscribed)
    assert greeted.position == answer.position
    return answer


async def publish(target: SocketTarget, topic: str) -> int:
    _, answer = await answers(target, CBOR, Hello(), Publish(1, topic, value=1))
    assert isinstance(answer, Published)
    return answer.version


@asynccontextmanager
async def knowing(patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SocketTarget, list[Query], Position]]:
    """Run a node that knows the newest versions, and note what reaches its store from then on."""
    queries = asked(patch)
    target = SocketTarget()
    async with target.running():
        position = (await flight(target, Subscribe(1, TOPICS, replace=True))).position
        queries.clear()
        yield target, queries, position


async def test_the_answer_is_that_of_the_store(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = asked(monkeypatch)
    target = SocketTarget()
    async with target.running():
        by_store = await flight(target, Subscribe(1, TOPICS, replace=True))
        from_memory = await flight(target, Subscribe(1, TOPICS, replace=True))
    assert len(queries) == 1
    assert (by_store.lag_ms, from_memory.lag_ms) == (0, 100)
    for field in ("position", "digest", "count", "changes", "denied", "compacted", "more"):
        assert getattr(from_memory, field) == getattr(by_store, field)


async def test_only_the_newest_versions_are_answered_so(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with knowing(monkeypatch) as (target, queries, _):
        version = await publish(target, "t/1")
        queries.clear()
        changed = await flight(target, Subscribe(1, TOPICS, replace=True))
        assert [change.topic for change in changed.changes] == ["t/1"]
        assert len(queries) == 1
        newest = await flight(target, Subscribe(1, {**TOPICS, "t/1": version}, replace=True))
        assert not newest.changes
        assert len(queries) == 1


async def test_a_client_that_has_seen_more_is_for_the_store(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with knowing(monkeypatch) as (target, queries, position):
        ahead = Position(position.epoch, position.lineage, position.revision + 1)
        greeted, _refused = await answers(target, CBOR, Hello(position=ahead), Subscribe(1, TOPICS, replace=True))
        assert isinstance(greeted, Welcome)
        assert greeted.reset is True
        assert [query.witness for query in queries] == [ahead]


async def test_an_old_level_is_for_the_store(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with knowing(monkeypatch) as (target, queries, _):
        monkeypatch.setattr(Level, "lag_s", lambda _self, _moment=None: LEVEL_S_MAX + 0.001)
        await flight(target, Subscribe(1, TOPICS, replace=True))
        assert len(queries) == 1


async def test_a_subscribe_on_an_open_connection_is_answered_so(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with knowing(monkeypatch) as (target, queries, _):
        several = [Subscribe(number, {f"t/{number}": 0}) for number in range(3)]
        _, *found = await answers(target, CBOR, Hello(), *several)
        assert [answer.count for answer in found if isinstance(answer, Subscribed)] == [1, 2, 3]
        assert not queries


async def test_messages_behind_it_do_not_wait(autojump_clock: MockClock) -> None:
    """Nothing of the store wakes the connection for them."""
    target = SocketTarget()
    async with target.running():
        for _ in range(2):
            _, answer, *rest = await answers(
                target,
                CBOR,
                Hello(),
                Subscribe(1, TOPICS, replace=True),
                *(Publish(n, "other", value=n) for n in (2, 3)),
            )
            assert isinstance(answer, Subscribed)
            assert [type(each) for each in rest] == [Published, Published]
