"""The server's end of a WebSocket, with peers that break its protocol, close, and ping at bad moments."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import SocketTarget, handshake
from bench.trials.fuzz.streams import frame, frames_in
from softstate.server.bulkhead import Bulkhead
from softstate.server.edge.patience import TICK_S, Patience
from softstate.server.websocket.channel import CLOSE_S_MAX, MESSAGES_PER_TURN, RECEIVE_BYTES_MAX
from softstate.wire import JSON
from softstate.wire.messages import Hello, Poll
from softstate.wire.websocket import CONTROLS_MAX, FRAGMENTS_MAX
from tests.kit.fake_wire import FakeWire
from tests.kit.heard import IDLE_S_MAX, Heard
from tests.kit.pumps import pump_of
from tests.wire.websocket.client_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame


def heard(free_bytes: float = float("inf")) -> tuple[Heard, FakeWire]:
    wire = FakeWire(free_bytes)
    channel = Heard(wire, Patience(Bulkhead(strict=True)))
    wire.attach(channel)
    return channel, wire


def written(wire: FakeWire) -> list[tuple[int, bytes]]:
    """Return the frames that were written since the last call."""
    found = frames_in(bytes(wire.taken))
    wire.taken.clear()
    return found


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
        assert target.node.closes == {code: 1}
        assert f'softstate_websocket_closes_total{{code="{code}"}} 1.0\n'.encode() in target.node.metrics()
        await target.check_unharmed()


async def test_a_close_of_the_peer_is_not_counted_as_one_of_the_node(autojump_clock: MockClock) -> None:
    """A peer may choose among thousands of codes, and each would stay as a metric of its own."""
    target = SocketTarget()
    async with target.running():
        said = [client_frame(TEXT, JSON.encode(Hello())), client_frame(CLOSE, b"\x0f\xa0bye")]
        received = await target.talk(handshake(JSON), *said)
        assert frames_in(received.partition(b"\r\n\r\n")[2])[-1][1][:2] == b"\x0f\xa0"
        assert target.node.closes == {}


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


async def test_pings_are_answered_also_ahead_of_a_message_that_has_to_wait() -> None:
    channel, wire = heard()
    for payload in (b"1", b"x" * 125):
        wire.arrive(client_frame(PING, payload) + client_frame(PONG))
        assert written(wire) == [(0x8A, payload)]
    channel.busy = True
    wire.arrive(client_frame(BINARY, b"m") + client_frame(PING, b"2"))
    assert written(wire) == [(0x8A, b"2")]
    assert (channel.messages, wire.reading) == ([], False)
    channel.busy = False
    channel.readable()
    assert (channel.messages, wire.reading) == ([b"m"], True)


async def test_pings_are_not_answered_while_congested() -> None:
    channel, wire = heard(free_bytes=0)
    assert channel.outbox is not None
    channel.outbox.notify("t", b"\x81\x00")
    channel.outbox.flush()
    wire.arrive(client_frame(PING, b"1") * 100 + client_frame(BINARY, b"m"))
    assert channel.messages == [b"m"]
    assert len(channel.outbox) == 1


async def test_the_pings_of_one_read_are_answered_in_one_write() -> None:
    channel, wire = heard()
    wire.arrive(client_frame(PING) * 300 + client_frame(BINARY, b"m") + client_frame(PING, b"2"))
    assert channel.messages == [b"m"]
    assert wire.writes == [301 * 2 + 1]
    assert written(wire) == [(0x8A, b"")] * 300 + [(0x8A, b"2")]


async def test_a_peer_that_does_not_take_its_replies_is_not_read() -> None:
    channel, wire = heard(free_bytes=0)
    assert channel.outbox is not None
    channel.outbox.reply(b"\x81\x00")
    channel.outbox.flush()
    wire.arrive(client_frame(BINARY, b"1"))
    assert not wire.reading
    wire.allow()
    assert wire.reading


async def test_many_messages_received_at_once_are_taken_in_many_turns() -> None:
    channel, wire = heard()
    wire.arrive(client_frame(BINARY) * 500)
    assert len(channel.messages) == 500
    assert wire.turns == (500 - 1) // MESSAGES_PER_TURN


async def test_a_large_frame_is_received_in_larger_portions_and_what_follows_in_small_ones() -> None:
    channel, wire = heard()
    wire.arrive(client_frame(BINARY, bytes(100_000)) + client_frame(BINARY) * 2)
    assert list(map(len, channel.messages)) == [100_000, 0, 0]
    assert wire.asked == [4_096, RECEIVE_BYTES_MAX, 100_014 - 4_096 - RECEIVE_BYTES_MAX, 4_096]


async def test_messages_ahead_of_the_end_are_taken_first() -> None:
    for end, code in ((client_frame(CLOSE, b"\x0f\xa0bye"), 4000), (b"\xff\xff", 1002)):
        channel, wire = heard()
        channel.busy = True
        wire.arrive(client_frame(BINARY, b"1") + client_frame(BINARY, b"2") + end)
        assert written(wire) == []
        channel.busy = False
        channel.readable()
        assert channel.messages == [b"1", b"2"]
        [(first, payload)] = written(wire)
        assert (first, payload[:2]) == (0x88, code.to_bytes(2, "big"))


async def test_a_connection_that_ends_without_a_close_frame_is_gone() -> None:
    channel, wire = heard()
    wire.arrive(client_frame(BINARY, b"half")[:-1])
    wire.end()
    assert (channel.over, wire.closed, channel.outbox) == (True, True, None)
    assert not wire.taken


async def test_a_connection_that_is_found_lost_by_writing_is_gone() -> None:
    channel, wire = heard()
    assert channel.outbox is not None
    wire.broken = True
    channel.outbox.notify("t", b"\x81\x00")
    channel.outbox.flush()
    assert not channel.over, "not in the midst of a turn of the hub"
    wire.snap()
    assert (channel.over, wire.closed) == (True, True)


# Patience -------------------------------------------------------------------------------------------------------------


async def leaves(channel: Heard, wire: FakeWire) -> float:
    """Return after how many seconds the wire is closed."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel._patience.run)
        while not wire.closed:
            await trio.sleep(TICK_S / 4)
        nursery.cancel_scope.cancel()
    return trio.current_time() - began


async def test_a_silent_peer_is_left_and_one_that_waits_for_the_node_is_not(autojump_clock: MockClock) -> None:
    channel, wire = heard()
    wire.arrive(client_frame(BINARY))
    channel.busy = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel._patience.run)
        await trio.sleep(5 * IDLE_S_MAX)
        nursery.cancel_scope.cancel()
    assert not wire.taken
    channel.busy = False
    took_s = await leaves(channel, wire)
    assert took_s <= IDLE_S_MAX + CLOSE_S_MAX + 4 * TICK_S
    assert written(wire) == [(0x88, b"\x0f\xa2idle")]


async def test_a_peer_whose_bytes_wait_unread_while_the_node_was_stopped_is_not_silent() -> None:
    class Working(Heard):
        def _take(self, data: bytes | str) -> None:
            super()._take(data)
            self.busy = True

    wire = FakeWire()
    channel = Working(wire, Patience(Bulkhead(strict=True)))
    wire.attach(channel)
    wire.incoming = client_frame(BINARY, b"sent meanwhile")
    now = trio.current_time() + IDLE_S_MAX
    assert channel.late(now) > now
    assert (channel.messages, wire.closed, bytes(wire.taken)) == ([b"sent meanwhile"], False, b"")


async def test_a_peer_that_was_gone_already_when_the_node_was_stopped_is_left_without_a_word() -> None:
    channel, wire = heard()
    wire.ended = True
    assert channel.late(trio.current_time() + IDLE_S_MAX) == math.inf
    assert (wire.closed, bytes(wire.taken)) == (True, b"")


async def test_a_congested_peer_is_overdue_again_and_again(autojump_clock: MockClock) -> None:
    channel, _ = heard(free_bytes=0)
    assert channel.outbox is not None
    channel.outbox.notify("t", b"\x81\x00")
    channel.outbox.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel._patience.run)
        await trio.sleep(9.9)
        assert channel.late_calls == 0
        await trio.sleep(0.1 + 2 * TICK_S)
        assert channel.late_calls == 1
        await trio.sleep(10)
        assert channel.late_calls == 2
        nursery.cancel_scope.cancel()


# Closing --------------------------------------------------------------------------------------------------------------


async def test_the_end_of_the_closing_handshake_is_the_peers_close_frame() -> None:
    channel, wire = heard()
    channel._close(4000, "draining")
    assert written(wire) == [(0x88, b"\x0f\xa0draining")]
    wire.arrive(client_frame(BINARY, b"late") * 3)
    assert (channel.messages, channel._inbox) == ([], []), "messages that nobody takes are not kept"
    assert wire.is_open()
    wire.arrive(client_frame(PING, b"no pong") + client_frame(CLOSE, b"\x0f\xa0"))
    assert wire.closed
    assert not wire.taken, "nothing follows a close frame"


async def test_a_peer_that_does_not_answer_the_close_frame_is_left_in_time(autojump_clock: MockClock) -> None:
    channel, wire = heard()
    channel._close(4000, "draining")
    assert CLOSE_S_MAX <= await leaves(channel, wire) <= CLOSE_S_MAX + 3 * TICK_S


@pytest.mark.parametrize("silent_s", [0, 2, 4, 4.9])
async def test_the_time_for_the_close_does_not_depend_on_when_another_deadline_is(
    silent_s: float, autojump_clock: MockClock
) -> None:
    """Nothing has moved the deadline for the first message: the peer is looked at after 5 s, and at that again."""
    channel, wire = heard()
    await trio.sleep(silent_s)
    channel._close(4000, "draining")
    assert CLOSE_S_MAX <= await leaves(channel, wire) <= CLOSE_S_MAX + 3 * TICK_S


async def test_a_peer_that_is_closed_twice_has_its_time_once(autojump_clock: MockClock) -> None:
    channel, wire = heard()
    channel._close(4000, "draining")
    await trio.sleep(1)
    channel._close(1011, "bug")
    assert CLOSE_S_MAX - 1 <= await leaves(channel, wire) <= CLOSE_S_MAX - 1 + 3 * TICK_S


@pytest.mark.parametrize("sent", [b"\xff\xff", client_frame(CLOSE, b"\x0f\xa0bye")], ids=["violation", "close"])
async def test_a_close_that_waits_unread_while_the_node_was_stopped_is_taken_and_that_is_all(
    sent: bytes, mock_clock: MockClock
) -> None:
    class Reading(Heard):
        def _time_out(self) -> None:
            raise AssertionError

    wire = FakeWire(free_bytes=1)
    channel = Reading(wire, Patience(Bulkhead(strict=True)))
    wire.attach(channel)
    wire.incoming = sent
    mock_clock.jump(IDLE_S_MAX)
    now = trio.current_time()
    assert channel.late(now) == now + CLOSE_S_MAX
    assert not wire.closed


async def test_a_peer_that_closed_is_left_once_the_answer_is_written() -> None:
    _, wire = heard(free_bytes=1)
    wire.arrive(client_frame(CLOSE))
    assert wire.is_open()
    wire.allow()
    assert written(wire) == [(0x88, b"")]
    assert wire.closed


async def test_a_peer_that_broke_a_rule_may_end_what_it_was_sending(autojump_clock: MockClock) -> None:
    channel, wire = heard()
    wire.arrive(b"\xff\xff")
    assert (wire.was_shut, wire.closed) == (True, False)
    for _ in range(3):
        wire.arrive(bytes(100_000))
    assert not wire.incoming
    wire.end()
    assert wire.closed
    channel, wire = heard()
    wire.arrive(b"\xff\xff")
    assert await leaves(channel, wire) <= CLOSE_S_MAX + 3 * TICK_S


async def test_a_peer_that_sends_a_message_too_long_receives_the_close_frame_not_a_reset() -> None:
    """Over a real socket: closing one of which bytes were not received would reset the connection."""
    pump = pump_of()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        near, far = trio.socket.socketpair()
        client = trio.SocketStream(far)
        wire = pump.adopt(near.fileno())
        wire.peer = Heard(wire, Patience(Bulkhead(strict=True)))
        near.detach()
        await client.send_all(frame(BINARY, bytes(4_000_000), masked=True))
        received = b""
        while data := await client.receive_some():
            received += data
        [(first, payload)] = frames_in(received)
        assert (first, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))
        await client.aclose()
        while len(pump):
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
