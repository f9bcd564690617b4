"""The server's end of a WebSocket, with peers that break its protocol, close, and ping at bad moments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import SocketTarget, handshake
from bench.trials.fuzz.streams import MemoryEdge, connect, frame, frames_in
from softstate.server.fanout.outbox import SystemSocket
from softstate.server.websocket.message_stream import (
    CLOSE_S_MAX,
    HANDSHAKE_S_MAX,
    QUIET_S_MAX,
    RECEIVE_BYTES_MAX,
    Ended,
    MessageStream,
    PeerGone,
)
from softstate.wire import JSON
from softstate.wire.messages import Hello, Poll
from softstate.wire.websocket import CONTROLS_MAX, FRAGMENTS_MAX
from tests.kit.fake_socket import FakeSocket, outbox_on
from tests.wire.websocket.client_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame

MESSAGE_BYTES_MAX = 100_000


@asynccontextmanager
async def stream() -> AsyncIterator[tuple[MessageStream, MemoryEdge]]:
    """Yield a server's stream of messages, and the other end of its connection."""
    ours, theirs = connect()
    async with trio.open_nursery() as nursery:
        yield MessageStream(outbox_on(theirs, nursery), MESSAGE_BYTES_MAX), ours
        nursery.cancel_scope.cancel()


async def written(edge: MemoryEdge) -> list[tuple[int, bytes]]:
    """Return the frames that were written and not read yet."""
    return frames_in(await edge.receive_some())


# With a whole node ----------------------------------------------------------------------------------------------------

VIOLATIONS = {
    "unmasked": (client_frame(TEXT)[:1] + b"\x00", 1002),
    "not UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "fragments": (client_frame(BINARY, fin=False) + client_frame(CONTINUATION, fin=False) * FRAGMENTS_MAX, 1008),
    "pings": (client_frame(PING) * (CONTROLS_MAX + 1), 1008),
    "pongs": (client_frame(PONG) * (CONTROLS_MAX + 1), 1008),
    "too long": (client_frame(TEXT, bytes(262_145)), 1009),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_gets_its_close_code_behind_the_answers_to_what_came_ahead(
    name: str, autojump_clock: MockClock
) -> None:
    fault, code = VIOLATIONS[name]
    ahead = [client_frame(TEXT, JSON.encode(Hello())), client_frame(TEXT, JSON.encode(Poll(7)))]
    target = SocketTarget()
    async with target.running():
        received = await target.talk(handshake(JSON), b"".join(ahead) + fault + ahead[1])
        *before, (first, payload) = frames_in(received.partition(b"\r\n\r\n")[2])
        answers = [JSON.server_message(payload) for first, payload in before if first == 0x81]
        assert [type(answer).__name__ for answer in answers] == ["Welcome", "Polled"]
        assert (first, int.from_bytes(payload[:2], "big")) == (0x88, code)
        assert payload[2:].decode(), "the reason says which rule"
        await target.check_unharmed()


async def test_a_ping_after_the_node_began_to_close_ends_only_this_connection(autojump_clock: MockClock) -> None:
    """Found by fuzzing, with another reader of frames: its error took the whole node with it."""
    target = SocketTarget()
    async with target.running():
        said = [client_frame(TEXT, b"no hello"), client_frame(PING)]
        received = await target.talk(handshake(JSON), *said)
        opcodes = [first & 0x0F for first, _ in frames_in(received.partition(b"\r\n\r\n")[2])]
        assert opcodes == [1, 8]
        await target.check_unharmed()


async def test_the_close_frame_of_a_peer_is_answered_behind_its_messages(autojump_clock: MockClock) -> None:
    target = SocketTarget()
    hello = client_frame(TEXT, JSON.encode(Hello()))
    for payload in (b"", b"\x03\xe8", b"\x0f\xa0bye"):
        async with target.running():
            received = await target.talk(handshake(JSON) + hello + client_frame(CLOSE, payload) + hello)
            welcome, close = frames_in(received.partition(b"\r\n\r\n")[2])
            assert welcome[0] == 0x81
            assert close == (0x88, payload[:2])
            await target.check_unharmed()


# Alone ----------------------------------------------------------------------------------------------------------------


async def test_pings_are_answered_while_messages_are_awaited() -> None:
    async with stream() as (messages, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(messages.receive)
            for payload in (b"1", b"x" * 125):
                await peer.send_all(client_frame(PING, payload) + client_frame(PONG))
                assert await written(peer) == [(0x8A, payload)]
            await peer.send_all(client_frame(BINARY))


async def test_pings_are_not_answered_while_congested() -> None:
    async with trio.open_nursery() as nursery:
        sock = FakeSocket(room=0)
        sock.incoming = [client_frame(PING, b"1") * 100 + client_frame(BINARY, b"m")]
        box = outbox_on(sock, nursery)
        box.reply(b"\x81\x00")
        box.flush()
        assert box.congested
        assert await MessageStream(box, 10).receive() == b"m"
        assert len(box) == 1
        nursery.cancel_scope.cancel()


async def test_each_of_many_messages_received_at_once_has_a_turn_of_its_own() -> None:
    class Turns(trio.abc.Instrument):
        count = 0

        def after_io_wait(self, timeout: float) -> None:
            self.count += 1

    turns = Turns()
    async with stream() as (messages, peer):
        await peer.send_all(client_frame(BINARY) * 500)
        assert not messages.waiting()
        assert await messages.receive() == b""
        assert messages.waiting()
        trio.lowlevel.add_instrument(turns)
        for _ in range(499):
            assert await messages.receive() == b""
        trio.lowlevel.remove_instrument(turns)
        assert turns.count == 499
        assert not messages.waiting()


async def test_a_message_is_not_lost_when_its_receiver_is_cancelled() -> None:
    async with stream() as (messages, peer):
        await peer.send_all(client_frame(BINARY, b"1") + client_frame(BINARY, b"2") + client_frame(BINARY, b"3")[:5])
        for expected in (b"1", b"2", b"3"):
            with trio.CancelScope() as scope:
                scope.cancel()
                await messages.receive()
            if expected == b"3":
                await peer.send_all(client_frame(BINARY, b"3")[5:])
            assert await messages.receive() == expected


async def test_a_large_frame_is_received_in_larger_portions_and_what_follows_in_small_ones() -> None:
    asked: list[int] = []

    class Measured(FakeSocket):
        async def receive_some(self, max_bytes: int) -> bytes:
            asked.append(max_bytes)
            if len(self.incoming[0]) > max_bytes:
                self.incoming.insert(0, self.incoming[0][:max_bytes])
                self.incoming[1] = self.incoming[1][max_bytes:]
            return await super().receive_some(max_bytes)

    async with trio.open_nursery() as nursery:
        sock = Measured()
        sock.incoming = [client_frame(BINARY, bytes(100_000)) + client_frame(BINARY) * 2]
        messages = MessageStream(outbox_on(sock, nursery), MESSAGE_BYTES_MAX)
        assert len(await messages.receive()) == 100_000
        assert not messages.waiting()
        assert await messages.receive() == b""
        left = 100_014 - 4_096 - RECEIVE_BYTES_MAX
        assert asked == [4_096, RECEIVE_BYTES_MAX, left, 4_096]


async def test_messages_ahead_of_the_end_are_received_first() -> None:
    for end, code in ((client_frame(CLOSE, b"\x0f\xa0bye"), 4000), (b"\xff\xff", 1002)):
        async with stream() as (messages, peer):
            await peer.send_all(client_frame(BINARY, b"1") + client_frame(BINARY, b"2") + end)
            assert [await messages.receive(), await messages.receive()] == [b"1", b"2"]
            for _ in range(2):
                with pytest.raises(Ended) as ended:
                    await messages.receive()
                assert ended.value.code == code


async def test_a_connection_that_ends_without_a_close_frame_is_gone() -> None:
    async with stream() as (messages, peer):
        await peer.send_all(client_frame(BINARY, b"half")[:-1])
        await peer.send_eof()
        with pytest.raises(PeerGone):
            await messages.receive()


async def test_a_connection_that_was_lost_is_gone() -> None:
    async with stream() as (messages, _):
        await messages._outbox.aclose()
        with pytest.raises(PeerGone):
            await messages.receive()


async def test_an_answer_to_the_handshake_that_is_not_taken_in_time_is_given_up(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        messages = MessageStream(outbox_on(FakeSocket(room=3), nursery), 10)
        before = trio.current_time()
        with pytest.raises(PeerGone):
            await messages.accept(b"HTTP/1.1 101")
        assert trio.current_time() - before == HANDSHAKE_S_MAX
        nursery.cancel_scope.cancel()


# Closing --------------------------------------------------------------------------------------------------------------


async def test_the_end_of_the_closing_handshake_is_the_peers_close_frame(autojump_clock: MockClock) -> None:
    async with stream() as (messages, peer):
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(messages.close, 4000, "draining")
            assert await written(peer) == [(0x88, b"\x0f\xa0draining")]
            await peer.send_all(client_frame(BINARY, b"late") * 3)
            await trio.sleep(1)
            assert not messages.waiting(), "messages that nobody takes are not kept"
            await peer.send_all(client_frame(PING, b"no pong") + client_frame(CLOSE, b"\x0f\xa0"))
        assert trio.current_time() - before == 1
        await peer.send_eof()
        await messages._outbox.aclose()
        assert await peer.receive_some() == b"", "nothing follows a close frame"


async def test_a_peer_that_does_not_answer_the_close_frame_is_left_in_time(autojump_clock: MockClock) -> None:
    async with stream() as (messages, peer):
        before = trio.current_time()
        await messages.close(4000, "draining")
        assert trio.current_time() - before == CLOSE_S_MAX
        assert await written(peer) == [(0x88, b"\x0f\xa0draining")]


async def test_a_peer_that_closed_or_left_is_not_awaited(autojump_clock: MockClock) -> None:
    for said in (client_frame(CLOSE), b""):
        async with stream() as (messages, peer):
            await peer.send_all(said or client_frame(BINARY))
            if said:
                with pytest.raises(Ended):
                    await messages.receive()
            else:
                await peer.aclose()
            before = trio.current_time()
            await messages.close(1000, "")
            assert trio.current_time() == before


async def test_a_peer_that_broke_a_rule_may_end_what_it_was_sending(autojump_clock: MockClock) -> None:
    async with stream() as (messages, peer):
        await peer.send_all(b"\xff\xff")
        with pytest.raises(Ended) as ended:
            await messages.receive()
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(messages.close, ended.value.code, ended.value.reason)
            for _ in range(3):
                await trio.sleep(QUIET_S_MAX - 0.1)
                await peer.send_all(bytes(1_000))
        assert trio.current_time() - before == pytest.approx(3 * (QUIET_S_MAX - 0.1) + QUIET_S_MAX)


async def test_the_answer_of_a_peer_that_broke_a_rule_is_awaited_once(autojump_clock: MockClock) -> None:
    for answers, waits_s in ((True, 1 + QUIET_S_MAX), (False, CLOSE_S_MAX)):
        async with stream() as (messages, peer):
            await peer.send_all(b"\xff\xff")
            with pytest.raises(Ended) as ended:
                await messages.receive()
            before = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(messages.close, ended.value.code, ended.value.reason)
                await trio.sleep(1)
                if answers:
                    await peer.send_all(client_frame(CLOSE, b"\x03\xea"))
            assert trio.current_time() - before == waits_s


async def test_a_peer_that_sends_a_message_too_long_receives_the_close_frame_not_a_reset() -> None:
    """Over a real socket: closing one of which bytes were not received would reset the connection."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        server = await listener.accept()

        async def serve() -> None:
            box = outbox_on(SystemSocket(server), nursery)
            messages = MessageStream(box, MESSAGE_BYTES_MAX)
            with pytest.raises(Ended) as ended:
                await messages.receive()
            await messages.close(ended.value.code, ended.value.reason)
            await box.aclose()

        nursery.start_soon(serve)
        await client.send_all(frame(BINARY, bytes(4_000_000), masked=True))
        received = b""
        while data := await client.receive_some():
            received += data
            await client.send_eof()
        [(first, payload)] = frames_in(received)
        assert (first, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))
        await listener.aclose()
        await client.aclose()
