"""The shell with a scripted machine: its life, its clock and its connections; nothing is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection

from softstate.client.machine.events import (
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
    Send,
    Ticked,
)
from softstate.client.shell import shell as shell_module
from softstate.client.shell.shell import JUMP_CHECK_S, SEND_QUEUE_MAX, WAIT_S_MIN
from softstate.client.shell.sockets import CLOSE_TIMEOUT_S
from softstate.model import Change, Mode
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import ClientBye, Hello, Renew
from tests.kit.scripted_node import WELCOME, Answer, ScriptedNode
from tests.kit.shell_rig import URL, listener, listening, running, welcoming


async def test_opened_comes_first_and_closed_last(nursery: trio.Nursery) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.shell.handle(Jumped())
    assert rig.machine.events == [Opened(), Jumped(), Closed()]
    rig.shell.close()
    rig.shell.handle(Jumped())
    assert len(rig.machine.events) == 3


async def test_what_is_for_the_application_gets_there(nursery: trio.Nursery) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        action = Deliver([Change("a", 1)])
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


@pytest.mark.parametrize("mode", [mode for mode in get_args(Mode) if mode not in ("closed", "stopped")])
async def test_a_host_that_slept_is_noticed_in_every_mode(
    nursery: trio.Nursery, autojump_clock: MockClock, mode: Mode
) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.mode = mode
        rig.do()
        await trio.sleep(10)
        assert Jumped() not in rig.machine.events
        rig.clock.slept_s += 30
        before = trio.current_time()
        await rig.machine.saw(Jumped)
        assert trio.current_time() - before <= JUMP_CHECK_S + WAIT_S_MIN
        await trio.sleep(10)
        assert rig.machine.events.count(Jumped()) == 1


@pytest.mark.parametrize("mode", ["closed", "stopped"])
async def test_nothing_wakes_up_a_client_that_does_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, mode: Mode
) -> None:
    async with running(ScriptedNode(nursery)) as rig:
        rig.machine.mode = mode
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
        rig.machine.react = lambda event: [Send(1, ClientBye()), Disconnect(1)] if isinstance(event, Closed) else ()
    assert node.messages == [Hello(name="me"), ClientBye()]
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
        rig.do(Send(7, ClientBye()))


async def test_a_torn_connection_is_told_without_code(nursery: trio.Nursery) -> None:
    node = listener(nursery)
    async with running(node) as rig:
        rig.do(Connect(1, URL, 5))
        await rig.machine.saw(Arrived)
        await trio.aclose_forcefully(node.streams[0].inner)
        rig.do(Send(1, ClientBye()))
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
        rig.do(Send(1, ClientBye()), Disconnect(1))
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
        rig.do(Send(1, ClientBye()))
        await wait_all_tasks_blocked()  # one is being written
        rig.do(*[Send(1, ClientBye())] * 5)
        await wait_all_tasks_blocked()
        assert not any(isinstance(event, Lost) for event in rig.machine.events)
        rig.do(Send(1, ClientBye()))
        assert await rig.machine.saw(Lost) == Lost(1, None, "5 messages wait to be written")
    assert node.all_closed()
