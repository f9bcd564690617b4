"""A whole client on a host that sleeps: every timer counts the sleep, in every mode (P-CLI-3)."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from softstate.client.api.connect import connect
from softstate.testing import memory_node
from softstate.wire.messages import Polled
from tests.kit.push_node import URL, until
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode
from tests.kit.shell_rig import Slept


class Polls:
    """A node that answers polls only, and keeps their times on the host's clock."""

    def __init__(self, clock: Slept) -> None:
        self.clock = clock
        self.at_s: list[float] = []
        self.up = True

    async def answer(self, asked: HttpRequest) -> Answer:
        self.at_s.append(self.clock.now())
        if not self.up:
            return Answer(0)
        return Answer.of(Polled(0, HERE, next_ms=15_000))


@pytest.mark.parametrize("slept_s", [16.0, 3_600.0])
async def test_a_poll_that_fell_due_in_sleep_is_sent_within_a_second(
    nursery: trio.Nursery, autojump_clock: MockClock, slept_s: float
) -> None:
    clock = Slept()
    polls = Polls(clock)
    node = ScriptedNode(nursery, http=polls.answer)
    async with connect(URL, push=False, open_stream=node.open_stream, random=random.Random(1), clock=clock) as client:
        async with client.subscribe("a") as updates:
            await trio.sleep(20)
            assert client.mode == "polling"
            assert updates.age < 16 * 1.3
            clock.slept_s += slept_s
            woke = clock.now()
            assert updates.age >= slept_s
            await trio.sleep(1.01)
            assert woke <= polls.at_s[-1] <= woke + 1.01
            assert updates.age < 1.1


async def test_an_offline_client_tries_again_within_a_second_of_waking(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    clock = Slept()
    polls = Polls(clock)
    polls.up = False
    node = ScriptedNode(nursery, http=polls.answer)
    async with connect(URL, push=False, open_stream=node.open_stream, random=random.Random(1), clock=clock) as client:
        async with client.subscribe("a"):
            await until(client, "offline")
            await trio.sleep(300)
            polls.up = True
            clock.slept_s += 3_600
            with trio.fail_after(1.1):
                await until(client, "polling")


@pytest.mark.parametrize("slept_s", [5.0, 45.0, 3_600.0])
async def test_a_live_client_that_slept_is_up_to_date_within_seconds(autojump_clock: MockClock, slept_s: float) -> None:
    clock = Slept()
    async with (
        memory_node() as node,
        node.connect(clock=clock) as client,
        node.connect() as other,
        client.subscribe("a") as updates,
    ):
        await until(client, "live")
        clock.slept_s += slept_s
        assert updates.age >= slept_s
        await other.publish("a", 1)
        await trio.sleep(5)
        assert updates.age < 6
        assert (await anext(updates)).value == 1
        await until(client, "live")


async def test_kept_connections_are_not_trusted_after_a_sleep(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    clock = Slept()
    polls = Polls(clock)
    node = ScriptedNode(nursery, http=polls.answer)
    async with connect(URL, push=False, open_stream=node.open_stream, random=random.Random(1), clock=clock) as client:
        async with client.subscribe("a"):
            await trio.sleep(20)
            opened = len(node.streams)
            assert opened == 1
            node.streams[0].blocked = True  # its other end is gone, and nothing tells
            clock.slept_s += 3_600
            await trio.sleep(1.1)
            assert len(node.streams) == 2
            assert polls.at_s[-1] >= clock.now() - 1.1
