"""The shell with a scripted machine: every action is done, everything that happens is told, nothing is left behind."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

from softstate.client import shell as shell_module
from softstate.client.events import (
    Abandon,
    Action,
    Arrived,
    Closed,
    Connect,
    Connected,
    ConnectFailed,
    Deliver,
    Disconnect,
    Event,
    Jumped,
    Lost,
    Opened,
    PollAnswered,
    PublishAnswered,
    RequestFailed,
    Send,
    SendPoll,
    SendPublish,
    Ticked,
)
from softstate.client.http import HttpClient
from softstate.client.shell import JUMP_CHECK_S, SEND_QUEUE_MAX, WAIT_S_MIN, Shell, ToApplication
from softstate.client.transport import CLOSE_TIMEOUT_S
from softstate.errors import Rewound
from softstate.model import Change, Mode, Position
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import BatchChange, BatchResult, BatchResults, Goodbye, Hello, Poll, Polled, Publish, Renew
from tests.client.scripted_node import HERE, WELCOME, Answer, Asked, ScriptedNode

T = TypeVar("T")

URL = "ws://node:8700"


class Scripted:
    """A machine that records events and answers each with what `react` says."""

    mode: Mode = "polling"
    position: Position | None = None

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

    def known(self, name: str) -> list[Change]:
        raise NotImplementedError

    def statistics(self) -> object:
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


# Life ----------------------------------------------------------------------------------------------------------------


async def test_opened_comes_first_and_closed_last(nursery: trio.Nursery) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.shell.handle(Jumped())
    assert rig.machine.events == [Opened(), Jumped(), Closed()]
    rig.shell.close()
    rig.shell.handle(Jumped())
    assert len(rig.machine.events) == 3


async def test_what_is_for_the_application_gets_there(nursery: trio.Nursery) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        action = Deliver(Change("a", 1))
        rig.do(action)
        assert rig.application.actions == [action]
        assert rig.application.steps == 2


async def test_a_bug_in_the_machine_is_not_hidden(nursery: trio.Nursery) -> None:
    def bug(event: Event) -> Sequence[Action]:
        if isinstance(event, Arrived):
            raise ZeroDivisionError
        return ()

    node = ScriptedNode(nursery, websocket=welcoming)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running(node) as rig:
            rig.machine.react = bug
            rig.do(Connect(1, URL, 5))
            await trio.sleep_forever()
    assert node.all_closed()


# Time ----------------------------------------------------------------------------------------------------------------


async def test_ticks_when_the_deadline_has_come(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        due = rig.machine.due = trio.current_time() + 7.3
        rig.shell.handle(Jumped())
        rig.machine.react = rig.machine.rest
        await rig.machine.saw(Ticked)
        assert due <= rig.machine.times[-1] <= due + WAIT_S_MIN * 1.01


async def test_a_deadline_that_moves_up_is_kept(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.due = trio.current_time() + 100
        rig.shell.handle(Jumped())
        await wait_all_tasks_blocked()
        due = rig.machine.due = trio.current_time() + 1
        rig.shell.handle(Jumped())
        rig.machine.react = rig.machine.rest
        await rig.machine.saw(Ticked)
        assert due <= rig.machine.times[-1] <= due + WAIT_S_MIN * 1.01


async def test_a_machine_that_is_never_content_cannot_make_it_spin(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.due = 0
        rig.shell.handle(Jumped())
        await trio.sleep(1)
        ticks = sum(isinstance(event, Ticked) for event in rig.machine.events)
        assert 900 < ticks <= 1 / WAIT_S_MIN + 1


async def test_a_host_that_slept_is_noticed_while_leased(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.mode = "live"
        rig.do()
        await trio.sleep(10)
        assert Jumped() not in rig.machine.events
        rig.clock.slept_s += 30
        before = trio.current_time()
        await rig.machine.saw(Jumped)
        assert trio.current_time() - before <= JUMP_CHECK_S + WAIT_S_MIN
        await trio.sleep(10)
        assert rig.machine.events.count(Jumped()) == 1


async def test_without_a_lease_nothing_wakes_up(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.mode = "polling"
        rig.do()
        await trio.sleep(1)
        rig.clock.slept_s += 30
        await trio.sleep(100)
        rig.machine.mode = "live"
        rig.do()
        await trio.sleep(100)
        assert Jumped() not in rig.machine.events


async def test_a_sleep_past_the_deadline_is_noticed_at_the_next_check(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.mode = "live"
        rig.machine.due = trio.current_time() + 20
        rig.do()
        rig.machine.events.clear()
        rig.machine.react = rig.machine.rest
        await wait_all_tasks_blocked()
        rig.clock.slept_s += 30
        before = trio.current_time()
        await rig.machine.saw(Jumped)
        assert trio.current_time() - before <= JUMP_CHECK_S + WAIT_S_MIN


# Connections ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [CBOR, JSON])
async def test_a_conversation(nursery: trio.Nursery, codec: Codec) -> None:
    node = ScriptedNode(nursery)

    async def serve(ws: WebSocketConnection) -> None:
        await node.receive(ws)
        data = codec.encode(WELCOME)
        await ws.send_message(data.decode() if codec.text else data)
        await listening(node, ws)

    node.websocket = serve
    async with running(node, codec) as rig:
        rig.machine.react = lambda event: [Send(1, Hello(name="me"))] if isinstance(event, Connected) else ()
        rig.do(Connect(1, URL, 5))
        assert await rig.machine.saw(Arrived) == Arrived(1, WELCOME)
        rig.machine.react = lambda event: [Send(1, Goodbye()), Disconnect(1)] if isinstance(event, Closed) else ()
    assert node.messages == [Hello(name="me"), Goodbye()]
    assert node.all_closed()
    assert rig.machine.events[-1] == Closed()


async def test_messages_keep_their_order(nursery: trio.Nursery) -> None:
    node = listener(nursery)
    sent = [Renew(n, "0" * 16, 0) for n in range(500)]
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        for message in sent:
            rig.do(Send(1, message))
        rig.do(Disconnect(1))
    assert node.messages == sent


async def test_a_failed_handshake_is_told(nursery: trio.Nursery) -> None:
    node = ScriptedNode(nursery, refusal=Answer(503, b"", [("Retry-After", "3")]))
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        failed = await rig.machine.saw(ConnectFailed)
        assert (failed.conn, failed.status, failed.retry_ms) == (1, 503, 3000)


async def test_a_lost_connection_is_told_with_its_code(nursery: trio.Nursery) -> None:
    async def leave(ws: WebSocketConnection) -> None:
        await ws.aclose(4001, "rewound")

    async with running(ScriptedNode(nursery, websocket=leave)) as rig:
        rig.do(Connect(7, URL, 5))
        assert await rig.machine.saw(Lost) == Lost(7, 4001, "rewound")
        rig.do(Send(7, Goodbye()))


async def test_a_torn_connection_is_told_without_code(nursery: trio.Nursery) -> None:
    node = listener(nursery)
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        await trio.aclose_forcefully(node.streams[0].inner)
        rig.do(Send(1, Goodbye()))
        assert (await rig.machine.saw(Lost)).code is None
        assert rig.machine.events.count(Lost(1, None, "the connection ended without a close frame")) == 1


@pytest.mark.parametrize("said", [b"\xff", b"", "text", CBOR.dumps({"op": "welcome"}), CBOR.dumps([1])])
async def test_what_cannot_be_understood_ends_the_connection(nursery: trio.Nursery, said: bytes | str) -> None:
    async def babble(ws: WebSocketConnection) -> None:
        await ws.send_message(said)
        await trio.sleep_forever()

    node = ScriptedNode(nursery, websocket=babble)
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        lost = await rig.machine.saw(Lost)
        assert lost.code is None
        assert "understood" in lost.reason
    assert node.all_closed()


async def test_an_operation_of_a_later_protocol_is_passed_over(nursery: trio.Nursery) -> None:
    async def modern(ws: WebSocketConnection) -> None:
        await ws.send_message(CBOR.dumps({"op": "gossip", "about": "you"}))
        await welcoming(ws)

    async with running(ScriptedNode(nursery, websocket=modern)) as rig:
        rig.do(Connect(1, URL, 5))
        assert await rig.machine.saw(Arrived) == Arrived(1, WELCOME)


async def test_nothing_is_told_of_a_connection_that_was_left(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    node = ScriptedNode(nursery)

    async def chatty(ws: WebSocketConnection) -> None:
        while True:
            await ws.send_message(CBOR.encode(WELCOME))
            await trio.sleep(0.1)

    node.websocket = chatty
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        rig.do(Disconnect(1))
        told = len(rig.machine.events)
        await trio.sleep(10)
        assert len(rig.machine.events) == told
        assert node.all_closed()


async def test_leaving_while_the_handshake_runs_closes_the_stream(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    node = ScriptedNode(nursery, raw=silent)
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await wait_all_tasks_blocked()
        rig.do(Disconnect(1))
        await wait_all_tasks_blocked()
        assert len(node.streams) == 1
        assert node.all_closed()
        await trio.sleep(10)
        assert not any(isinstance(event, ConnectFailed) for event in rig.machine.events)


async def test_a_connection_that_takes_nothing_is_closed_in_bounded_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node = listener(nursery)
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        node.streams[0].blocked = True
        rig.do(Send(1, Goodbye()), Disconnect(1))
        before = trio.current_time()
    assert trio.current_time() - before <= CLOSE_TIMEOUT_S + WAIT_S_MIN
    assert node.all_closed()


async def test_the_send_queue_has_a_limit(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SEND_QUEUE_MAX >= 1_000
    monkeypatch.setattr(shell_module, "SEND_QUEUE_MAX", 5)
    node = listener(nursery)
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        node.streams[0].blocked = True
        rig.do(Send(1, Goodbye()))
        await wait_all_tasks_blocked()  # one is being written
        rig.do(*[Send(1, Goodbye())] * 5)
        await wait_all_tasks_blocked()
        assert not any(isinstance(event, Lost) for event in rig.machine.events)
        rig.do(Send(1, Goodbye()))
        assert await rig.machine.saw(Lost) == Lost(1, None, "5 messages wait to be written")
    assert node.all_closed()


# HTTP ----------------------------------------------------------------------------------------------------------------

POLL = Poll(position=HERE, topics={"a": 1})
POLLED = Polled(0, HERE, changes=[Change("a", 2, "x")], next_ms=100)


@pytest.mark.parametrize("codec", [CBOR, JSON])
async def test_a_poll_is_answered(nursery: trio.Nursery, codec: Codec) -> None:
    async def serve(asked: Asked) -> Answer:
        assert (asked.method, asked.target) == ("POST", "/v1/poll")
        assert codec.loads(asked.body, Poll) == POLL
        return Answer.of(POLLED, codec)

    async with running(ScriptedNode(nursery, http=serve), codec) as rig:
        rig.do(SendPoll(3, URL, POLL, 5))
        assert await rig.machine.saw(PollAnswered) == PollAnswered(3, POLLED)


async def test_a_refused_poll_brings_its_error(nursery: trio.Nursery) -> None:
    async def serve(asked: Asked) -> Answer:
        return Answer.of({"code": "rewound", "message": "m", "position": HERE}, status=410)

    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPoll(3, URL, POLL, 5))
        failed = await rig.machine.saw(RequestFailed)
        assert isinstance(failed.error, Rewound)
        assert failed.error.position == HERE


@pytest.mark.parametrize("answer", [Answer(200, b"\xff"), Answer(404), Answer(0), Answer.of({"changes": 1})])
async def test_what_is_no_answer_is_a_failed_request(nursery: trio.Nursery, answer: Answer) -> None:
    async def serve(asked: Asked) -> Answer:
        return answer

    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPoll(3, URL, POLL, 5), SendPublish(4, URL, [BatchChange("a", 1, key="k")], 5))
        failed = await rig.machine.saw(RequestFailed)
        assert failed.error is None
        while len([event for event in rig.machine.events if isinstance(event, RequestFailed)]) < 2:
            await trio.lowlevel.checkpoint()


async def test_an_abandoned_request_is_cancelled(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: Asked) -> Answer:
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

    async def serve(asked: Asked) -> Answer:
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
    async def serve(asked: Asked) -> Answer:
        return Answer.of(BatchResults([BatchResult(topic="a", version=9)]))

    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPublish(4, URL, [BatchChange("a", 1), BatchChange("b", 1)], 5))
        assert "2 publishes with 1 results" in (await rig.machine.saw(RequestFailed)).reason


async def test_a_batch_over_the_limit_goes_in_parts(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "BATCH_BYTES_MAX", 1000)
    sizes: list[int] = []

    async def serve(asked: Asked) -> Answer:
        sizes.append(len(asked.body))
        changes = CBOR.loads(asked.body, dict)["changes"]
        return Answer.of(BatchResults([BatchResult(topic=change["topic"], version=9) for change in changes]))

    changes = [BatchChange(f"t{n}", b"x" * 300) for n in range(10)] + [BatchChange("big", b"x" * 5000)]
    async with running(ScriptedNode(nursery, http=serve)) as rig:
        rig.do(SendPublish(4, URL, changes, 5))
        answered = await rig.machine.saw(PublishAnswered)
    assert [result.topic for result in answered.results] == [change.topic for change in changes]
    assert [size for size in sizes if size > 1000] == [max(sizes)]


async def test_cancelling_everything_leaves_nothing_open(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def serve(asked: Asked) -> Answer:
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
