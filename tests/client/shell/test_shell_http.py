"""The shell with a scripted machine: its HTTP requests."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from softstate.client.machine.events import (
    Abandon,
    Arrived,
    Connect,
    Disconnect,
    PollAnswered,
    PublishAnswered,
    RequestFailed,
    Send,
    SendPoll,
    SendPublish,
)
from softstate.errors import Rewound
from softstate.model import Change
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import BatchChange, BatchResult, BatchResults, Poll, Polled, Publish
from tests.kit.scripted_node import HERE, Answer, HttpRequest, ScriptedNode
from tests.kit.shell_rig import URL, listener, running

POLL = Poll(position=HERE, topics={"a": 1})
POLLED = Polled(0, HERE, changes=[Change("a", 2, "x")], next_ms=100)


@pytest.mark.parametrize("codec", [CBOR, JSON])
async def test_a_poll_is_answered(nursery: trio.Nursery, codec: Codec) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        assert (asked.method, asked.target) == ("POST", "/v1/poll")
        assert codec.loads(asked.body, Poll) == POLL
        return Answer.of(POLLED, codec)

    async with running(ScriptedNode(nursery, http=serve), codec) as rig:
        rig.do(SendPoll(3, URL, POLL, 5))
        assert await rig.machine.saw(PollAnswered) == PollAnswered(3, POLLED)


async def test_a_refused_poll_brings_its_error(nursery: trio.Nursery) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        return Answer.of({"code": "rewound", "message": "m", "position": HERE}, status=410)

    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPoll(3, URL, POLL, 5))
        failed = await rig.machine.saw(RequestFailed)
        assert isinstance(failed.error, Rewound)
        assert failed.error.position == HERE


@pytest.mark.parametrize("answer", [Answer(200, b"\xff"), Answer(404), Answer(0), Answer.of({"changes": 1})])
async def test_what_is_no_answer_is_a_failed_request(nursery: trio.Nursery, answer: Answer) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        return answer

    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPoll(3, URL, POLL, 5), SendPublish(4, URL, [BatchChange("a", 1, key="k")], 5))
        failed = await rig.machine.saw(RequestFailed)
        assert failed.error is None
        while len([event for event in rig.machine.events if isinstance(event, RequestFailed)]) < 2:
            await trio.lowlevel.checkpoint()


async def test_an_abandoned_request_is_cancelled(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    node = ScriptedNode(nursery, http=serve)
    async with running(node) as rig:
        rig.do(SendPoll(3, URL, POLL, 5))
        await wait_all_tasks_blocked()
        rig.do(Abandon(3), Abandon(4))
        await trio.sleep(10)
        assert node.all_closed()
        assert not any(isinstance(event, RequestFailed) for event in rig.machine.events)


@pytest.mark.parametrize("codec", [CBOR, JSON])
async def test_a_batch_is_answered_in_order(nursery: trio.Nursery, codec: Codec) -> None:
    changes = [BatchChange("a", b"\x00", key="1"), BatchChange("b", None, key="2"), BatchChange("c", deleted=True)]

    async def serve(asked: HttpRequest) -> Answer:
        bodies.append(codec.loads(asked.body, dict))
        return Answer.of(BatchResults([BatchResult(topic=change.topic, version=9) for change in changes]), codec)

    bodies: list[dict[str, object]] = []
    async with running(ScriptedNode(nursery, http=serve), codec) as rig:
        rig.do(SendPublish(4, URL, changes, 5))
        answered = await rig.machine.saw(PublishAnswered)
    assert [result.topic for result in answered.results] == ["a", "b", "c"]
    assert bodies == [
        {"changes": [
            {"topic": "a", "value": b"\x00", "key": "1"}, {"topic": "b", "value": None, "key": "2"},
            {"topic": "c", "deleted": True},
        ]}
    ]  # fmt: skip


async def test_a_batch_with_too_few_results_has_failed(nursery: trio.Nursery) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        return Answer.of(BatchResults([BatchResult(topic="a", version=9)]))

    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPublish(4, URL, [BatchChange("a", 1), BatchChange("b", 1)], 5))
        assert "2 publishes with 1 results" in (await rig.machine.saw(RequestFailed)).reason


async def test_cancelling_everything_leaves_nothing_open(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: HttpRequest) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    node = listener(nursery)
    node.http = serve
    with trio.move_on_after(3) as scope:
        async with running(node) as rig:
            rig.do(Connect(1, URL, 5), SendPoll(2, URL, POLL, 10))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(scope.deadline)
    assert len(node.streams) == 2
    assert node.all_closed()


async def test_a_publish_travels_as_it_is(nursery: trio.Nursery) -> None:
    node = listener(nursery)
    message = Publish(1, "a", value={"b": [b"\x00", None, 1.5]}, expect=0, key="k")
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        rig.do(Send(1, message), Disconnect(1))
    assert node.messages == [message]
