"""A connection writes whole frames, in order, or nothing more, also while it answers pings and closes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, Request

from softstate.client.shell import asyncio_websockets, trio_websockets, websocket as websocket_module
from softstate.client.shell.sockets import CLOSE_TIMEOUT_S, Gone, WebSocket
from softstate.client.shell.websocket import open_websocket
from softstate.client.url import parse_url
from softstate.wire import CBOR
from tests.kit.held_stream import HeldStream

URL = parse_url("ws://node")

MESSAGES = [bytes([number]) * 1_000 for number in range(1, 4)]


@pytest.fixture(params=["trio", "asyncio"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use trio-websocket, or the library for asyncio, whose module runs under Trio as well."""
    monkeypatch.setattr(websocket_module, "running_loop", lambda: request.param)
    return str(request.param)


class Peer:
    """A node that reads frames with wsproto, which refuses what is no frame, and sends what a test says."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._wire = WSConnection(ConnectionType.SERVER)
        self.heard: list[Event] = []
        self.ended = trio.Event()

    async def serve(self) -> None:
        while data := await self._stream.receive_some():
            self._wire.receive_data(bytes(data))
            for event in self._wire.events():
                if isinstance(event, Request):
                    await self.say(AcceptConnection(subprotocol=CBOR.protocol))
                else:
                    self.heard.append(event)
        self.ended.set()

    async def say(self, event: Event) -> None:
        await self._stream.send_all(self._wire.send(event))

    @property
    def story(self) -> list[object]:
        """All that was heard: messages (fragments of them joined) as bytes, other frames by their type."""
        told: list[object] = []
        fragments = b""
        for event in self.heard:
            if isinstance(event, BytesMessage):
                fragments += bytes(event.data)
                if event.message_finished:
                    told.append(fragments)
                    fragments = b""
            else:
                told.append(type(event))
        assert not fragments
        return told


async def connected(nursery: trio.Nursery, *, reading: bool = True) -> tuple[WebSocket, HeldStream, Peer]:
    ours, theirs = memory_stream_pair()
    peer, stream = Peer(ours), HeldStream(theirs)
    nursery.start_soon(peer.serve)

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return stream

    socket = await open_websocket(nursery, URL, CBOR, open_stream, 5)
    if reading:
        nursery.start_soon(receive, socket, [])
    return socket, stream, peer


async def receive(socket: WebSocket, gone: list[Gone]) -> None:
    """Take messages, as a client does: under asyncio nobody else reads the stream."""
    try:
        while True:
            await socket.receive()
    except Gone as error:
        gone.append(error)


async def ping(peer: Peer) -> None:
    await peer.say(Ping(b"p"))


async def close(peer: Peer) -> None:
    await peer.say(CloseConnection(1001))


async def too_long(peer: Peer) -> None:
    await peer.say(BytesMessage(bytes(101)))


Interruption = Callable[[Peer], Awaitable[None]]


async def send(socket: WebSocket, gone: list[Gone], *messages: bytes) -> None:
    try:
        await socket.send(*messages)
    except Gone as error:
        gone.append(error)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("interrupt", "answer"), [(ping, Pong), (close, CloseConnection), (too_long, CloseConnection)])
async def test_a_ping_or_close_during_a_write_is_answered_behind_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, count: int, interrupt: Interruption, answer: type[Event]
) -> None:
    """The reading task answered in the middle of a gathered write: BusyResourceError ended the whole client."""
    for module in (trio_websockets, asyncio_websockets):
        monkeypatch.setattr(module, "MESSAGE_BYTES_MAX", 100)
    socket, stream, peer = await connected(nursery)
    stream.hold()
    gone: list[Gone] = []
    nursery.start_soon(send, socket, gone, *MESSAGES[:count])
    await wait_all_tasks_blocked()
    await interrupt(peer)
    await wait_all_tasks_blocked()
    assert answer not in map(type, peer.heard)
    stream.release()
    await wait_all_tasks_blocked()
    assert peer.story == [*MESSAGES[:count], answer]
    assert gone == []
    if answer is Pong:
        await socket.send(*MESSAGES)
        await wait_all_tasks_blocked()
        assert peer.story[-3:] == MESSAGES
    else:
        with pytest.raises(Gone):
            await socket.receive()
        with pytest.raises(Gone):
            await socket.send(*MESSAGES)
        assert peer.story == [*MESSAGES[:count], answer]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("interrupt", "answer"), [(ping, Pong), (close, CloseConnection)])
async def test_messages_sent_during_an_answer_come_behind_it_or_not_at_all(
    nursery: trio.Nursery, count: int, interrupt: Interruption, answer: type[Event]
) -> None:
    socket, stream, peer = await connected(nursery)
    stream.hold()
    await interrupt(peer)
    await wait_all_tasks_blocked()
    gone: list[Gone] = []
    nursery.start_soon(send, socket, gone, *MESSAGES[:count])
    await wait_all_tasks_blocked()
    stream.release()
    await wait_all_tasks_blocked()
    if answer is Pong:
        assert (peer.story, gone) == ([Pong, *MESSAGES[:count]], [])
    else:
        assert (peer.story, [error.code for error in gone]) == ([CloseConnection], [1001])


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize(("interrupt", "answer"), [(ping, Pong), (close, CloseConnection)])
async def test_an_answer_at_any_step_of_a_gathered_write(
    nursery: trio.Nursery, steps: int, interrupt: Interruption, answer: type[Event]
) -> None:
    """Messages before a close may be lost with the connection; no frame follows one, and none is cut or swapped."""
    socket, _, peer = await connected(nursery)
    await wait_all_tasks_blocked()
    gone: list[Gone] = []
    nursery.start_soon(send, socket, gone, *MESSAGES)
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    await interrupt(peer)
    await wait_all_tasks_blocked()
    messages = [told for told in peer.story if isinstance(told, bytes)]
    assert messages == MESSAGES[: len(messages)]
    assert peer.story.count(answer) == 1
    if answer is Pong:
        assert (messages, gone) == (MESSAGES, [])
    else:
        assert peer.story[-1] is CloseConnection
        assert bool(gone) == (messages != MESSAGES)


async def answering(nursery: trio.Nursery) -> tuple[WebSocket, HeldStream, Peer]:
    """Connect, and have the client answer a ping, which its stream holds up."""
    socket, stream, peer = await connected(nursery)
    stream.hold()
    await ping(peer)
    await wait_all_tasks_blocked()
    return socket, stream, peer


async def test_closing_while_an_answer_is_written_comes_behind_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    socket, stream, peer = await answering(nursery)
    nursery.start_soon(socket.aclose)
    await wait_all_tasks_blocked()
    stream.release()
    await wait_all_tasks_blocked()
    assert peer.story == [Pong, CloseConnection]
    closing = peer.heard[-1]
    assert isinstance(closing, CloseConnection)
    await peer.say(closing.response())
    await stream.closed.wait()


async def test_closing_gives_up_an_answer_that_cannot_be_written(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    socket, stream, peer = await answering(nursery)
    before = trio.current_time()
    await socket.aclose()
    assert trio.current_time() - before == pytest.approx(CLOSE_TIMEOUT_S)
    assert stream.closed.is_set()
    await peer.ended.wait()
    assert peer.heard == []


async def test_a_message_may_be_waited_for_while_the_connection_is_closed(nursery: trio.Nursery) -> None:
    """Both tasks read the stream: BusyResourceError ended the whole client."""
    socket, _, peer = await connected(nursery, reading=False)
    gone: list[Gone] = []

    nursery.start_soon(socket.aclose)
    await wait_all_tasks_blocked()
    assert peer.story == [CloseConnection]
    nursery.start_soon(receive, socket, gone)
    await wait_all_tasks_blocked()
    await close(peer)
    await wait_all_tasks_blocked()
    assert len(gone) == 1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "writing"])
async def test_a_cancelled_write_ends_the_connection(
    nursery: trio.Nursery, autojump_clock: MockClock, count: int, waiting: bool
) -> None:
    """Cancelled while an answer is written, or within its own frames: nothing is written any more."""
    socket, stream, peer = await connected(nursery)
    stream.hold()
    if waiting:
        await ping(peer)
        await wait_all_tasks_blocked()
    with trio.move_on_after(1) as scope:
        await socket.send(*MESSAGES[:count])
    assert scope.cancelled_caught
    assert stream.closed.is_set()
    with pytest.raises(Gone):
        await socket.receive()
    with pytest.raises(Gone):
        await socket.send(*MESSAGES)
    await peer.ended.wait()
    assert peer.heard == [] if waiting else all(isinstance(event, BytesMessage) for event in peer.heard)
    before = trio.current_time()
    await socket.aclose()
    assert trio.current_time() == before


@pytest.mark.parametrize("interrupt", [ping, close])
async def test_a_ping_after_a_cancelled_write_is_not_answered(nursery: trio.Nursery, interrupt: Interruption) -> None:
    """A pong behind half a frame would be read as a part of it."""
    socket, stream, peer = await connected(nursery)
    stream.hold()
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await socket.send(*MESSAGES)
    with pytest.raises(trio.BrokenResourceError):
        await interrupt(peer)
    await wait_all_tasks_blocked()
    assert Pong not in map(type, peer.heard)
    assert CloseConnection not in map(type, peer.heard)


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()
