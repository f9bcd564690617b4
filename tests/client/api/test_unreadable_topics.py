"""An application and a damaged record: told once, named by its handle, an error from `get`, healed by a publish."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from softstate import TopicsUnreadable, Unreadable
from softstate.client.api.inbox import Inbox
from softstate.client.machine.events import Reset
from softstate.model import Change
from softstate.wire.messages import Polled
from tests.kit.push_node import client_of, drain
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode


class Damaged:
    """A node whose record of p/x is damaged until `healed`."""

    healed = False
    revision = 5

    async def answer(self, asked: HttpRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        position = HERE.at(self.revision)
        if asked.target.startswith("/v1/topics/p/x"):
            error = {"code": "unreadable", "message": "the stored record of 'p/x' is damaged"}
            return Answer.of(1, ETag='"e.l.9"') if self.healed else Answer.of(error, status=500)
        changes, unreadable = [Change("p/y", 3, "fine")], ["p/x"]
        if self.healed:
            changes, unreadable = [*changes, Change("p/x", 9, 1)], []
        return Answer.of(Polled(0, position, changes, next_ms=1_000, unreadable=unreadable))


async def test_a_damaged_record_concerns_its_topic_alone(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    damaged = Damaged()
    node = ScriptedNode(nursery, http=damaged.answer)
    async with client_of(node.open_stream, push=False) as client, client.subscribe("p/") as updates:
        await updates.synced()
        assert updates.unreadable == ("p/x",)
        told = await drain(updates)
        assert [event for event in told if isinstance(event, Change)] == [Change("p/y", 3, "fine")]
        assert [event for event in told if isinstance(event, TopicsUnreadable)] == [TopicsUnreadable(["p/x"])]
        await trio.sleep(10)
        assert await drain(updates) == [], "told once"
        assert updates.age < 2
        async with client.subscribe("p/x") as alone:
            assert alone.unreadable == ("p/x",)
            assert [event for event in await drain(alone) if isinstance(event, TopicsUnreadable)] != []
            await trio.sleep(3)
            assert alone.age == math.inf
            with pytest.raises(Unreadable, match="damaged"):
                await client.get("p/x")
            listed = await client.list("p/")
            assert ([each.topic for each in listed], listed.unreadable) == (["p/y"], ("p/x",))
            damaged.healed, damaged.revision = True, 9
            await trio.sleep(3)
            assert [*alone.unreadable, *updates.unreadable] == []
            assert max(alone.age, updates.age) < 2
            assert (await anext(alone)).value == 1
            assert await client.get("p/x") == Change("p/x", 9, 1)
            assert (await client.list("p/")).unreadable == ()


def test_an_inbox_holds_one_entry_for_all_damaged_topics_under_it(autojump_clock: MockClock) -> None:
    inbox = Inbox(["a", "p/"], lambda: None)
    inbox.tell(TopicsUnreadable(["a", "q"]))
    inbox.tell(TopicsUnreadable(["p/x", "a"]))
    inbox.tell(TopicsUnreadable(["stranger"]))
    assert inbox.take() == TopicsUnreadable(["a", "p/x"])
    inbox.tell(TopicsUnreadable(["a"]))
    inbox.tell(Reset(HERE))
    assert inbox.take() == Reset(HERE), "another history has other records"
