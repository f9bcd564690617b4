"""Beats of a node: dealt into slots, at the age of the level, rarer if they cost too much (P-BEAT-1 to P-BEAT-3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio_websocket import WebSocketConnection, open_websocket_url

from softstate.position import Position
from softstate.server.storage.level import LEVEL_S_MAX
from softstate.server.websocket.beats import MEASURED_S, SLOT_FILL, SLOT_S, STRETCH_MAX, Beats, SharedBeat, Slot
from softstate.server.websocket.connection import Connection
from softstate.wire import CBOR, JSON, Codec, digest_of, digest_text, frame, messages
from softstate.wire.messages import Beat
from tests.kit.node_rig import LocalNode, node
from tests.server.storage.test_heads import CLOCK, Rig, renewing


class Beaten:
    """A connection: keeps its beats, each with the time at which it came."""

    def __init__(self) -> None:
        self.beat_slot: Slot | None = None
        self.beat_every = 0
        self.beats: list[tuple[float, Beat]] = []
        self.broken = False
        self.failed = 0

    def beat(self, beat: SharedBeat) -> None:
        if self.broken:
            raise RuntimeError("a bug")
        message = CBOR.server_message(beat.frame(CBOR, 0)[2:])
        assert isinstance(message, Beat)
        self.beats.append((trio.current_time(), message))

    def fail(self) -> None:
        self.failed += 1

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.beats]

    def gaps(self) -> set[float]:
        return {round(later - earlier, 6) for earlier, later in zip(self.times, self.times[1:], strict=False)}


class Spending:
    """A clock that also moves on by what is spent."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def now(self) -> float:
        return trio.current_time() + self.spent_s


@asynccontextmanager
async def beating(
    rig: Rig, share_max: float = 0.0, spending: Spending | None = None, down: Callable[[], bool] = lambda: False
) -> AsyncIterator[Beats]:
    clock = trio.current_time if spending is None else spending.now
    beats = Beats(rig.heads.level, rig.heads, rig.bulkhead, trio.current_time, down, share_max, clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beats.run)
        yield beats
        nursery.cancel_scope.cancel()


async def test_each_connection_gets_a_beat_each_time_that_it_is_due(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        many = SLOT_FILL + 8
        connections = [Beaten() for _ in range(many + 10)]
        for number, connection in enumerate(connections):
            beats.set(connection, 1_000 if number < many else 4_000)
        await trio.sleep(20.01)
        for number, connection in enumerate(connections):
            every_s = 1.0 if number < many else 4.0
            assert connection.gaps() == {every_s}
            assert len(connection.beats) == 20 // every_s
            assert {beat.next_ms for _, beat in connection.beats} == {every_s * 1000}
        turns = Counter(round(time / SLOT_S) for connection in connections for time in connection.times)
        assert set(turns.values()) == {8, SLOT_FILL, SLOT_FILL + 10}, "few are told together"
        assert beats.due == many * 20 + 10 * 5


async def test_many_are_dealt_evenly(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connections = [Beaten() for _ in range(20 * SLOT_FILL + 60)]
        for connection in connections:
            beats.set(connection, 1_000)
        await trio.sleep(3.01)
        turns = Counter(round(time / SLOT_S) for connection in connections for time in connection.times)
        assert set(turns.values()) == {SLOT_FILL + 3}
        for connection in connections[::2]:
            beats.drop(connection)
        again = [Beaten() for _ in range(len(connections) // 2)]
        for connection in again:
            beats.set(connection, 1_000)
        await trio.sleep(3.01)
        turns = Counter(round(time / SLOT_S) for connection in again for time in connection.times)
        assert max(turns.values()) <= SLOT_FILL


async def test_a_beat_is_hardly_older_than_its_slot(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        alone = Beaten()
        beats.set(alone, 1_000)
        await trio.sleep(10.01)
        assert len(alone.beats) == 10
        for time, beat in alone.beats[1:]:
            assert 0 <= time - beat.clock_ms / 1000 <= SLOT_S + 0.001
            assert beat.position == rig.hub.position
        assert rig.store.heads <= 11


async def test_with_many_connections_the_head_is_read_only_as_often_as_the_level_grows_old(
    autojump_clock: CLOCK,
) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connections = [Beaten() for _ in range(100)]
        for connection in connections:
            beats.set(connection, 1_000)
        await trio.sleep(10)
        ages = [time - beat.clock_ms / 1000 for connection in connections for time, beat in connection.beats[1:]]
        assert max(ages) <= LEVEL_S_MAX
        assert rig.store.heads <= 10 / (LEVEL_S_MAX / 2) + 1


async def test_without_connections_nothing_is_read_and_no_time_is_kept(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        gone = Beaten()
        beats.set(gone, 1_000)
        beats.drop(gone)
        beats.drop(gone)
        await trio.sleep(1_000)
        assert (rig.store.heads, beats.due, gone.beats) == (0, 0, [])


async def test_a_connection_that_comes_while_all_wait_long_has_its_beat_in_time(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        rare, often = Beaten(), Beaten()
        beats.set(rare, 64_000)
        await trio.sleep(30)
        beats.set(often, 1_000)
        begun = trio.current_time()
        await trio.sleep(40.01)
        assert often.times[0] <= begun + 1.0
        assert often.gaps() == {1.0}
        assert rare.gaps() == {64.0}


async def test_another_time_between_beats_and_none_at_all(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connection = Beaten()
        beats.set(connection, 1_000)
        await trio.sleep(5.01)
        beats.set(connection, 2_000)
        connection.beats.clear()
        await trio.sleep(10)
        assert connection.gaps() == {2.0}
        beats.set(connection, 0)
        connection.beats.clear()
        await trio.sleep(10)
        assert connection.beats == []


# The store -----------------------------------------------------------------------------------------------------------


async def test_while_the_store_does_not_answer_beats_repeat_the_last_level(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connection = Beaten()
        beats.set(connection, 1_000)
        await trio.sleep(5)
        rig.store.open = trio.Event()
        last = connection.beats[-1][1]
        connection.beats.clear()
        await trio.sleep(60)
        assert len(connection.beats) == 60
        assert {(beat.position, beat.clock_ms) for _, beat in connection.beats[1:]} == {
            (connection.beats[1][1].position, connection.beats[1][1].clock_ms)
        }
        assert connection.beats[-1][1].clock_ms <= last.clock_ms + 1_000
        rig.store.open.set()
        connection.beats.clear()
        await trio.sleep(5)
        assert connection.beats[-1][0] - connection.beats[-1][1].clock_ms / 1000 <= LEVEL_S_MAX


async def test_a_store_that_is_down_is_left_alone_by_beats(autojump_clock: CLOCK) -> None:
    down = False
    async with renewing() as rig, beating(rig, down=lambda: down) as beats:
        connection = Beaten()
        beats.set(connection, 1_000)
        await trio.sleep(5)
        down = True
        await trio.sleep(1)  # one that has begun may end
        read = rig.store.heads
        await trio.sleep(60)
        assert rig.store.heads == read
        assert len(connection.beats) >= 65
        down = False
        await trio.sleep(5)
        assert rig.store.heads > read


async def test_the_position_is_where_the_hub_was_when_it_had_reached_the_head(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connection = Beaten()
        beats.set(connection, 1_000)
        await trio.sleep(2.01)
        behind = rig.hub.position
        rig.store.disk.image.open("another row")  # committed, and not passed on
        connection.beats.clear()
        await trio.sleep(1)
        (_, beat) = connection.beats[0]
        assert beat.position == behind
        clock_ms = beat.clock_ms
        await trio.sleep(1)
        assert connection.beats[-1][1].clock_ms == clock_ms, "nothing newer is certain"


async def test_of_a_history_that_is_over_nothing_is_certified(autojump_clock: CLOCK) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connection = Beaten()
        beats.set(connection, 1_000)
        await trio.sleep(2.01)
        rig.store.open = trio.Event()
        rig.hub.restart(rig.hub.position)
        connection.beats.clear()
        await trio.sleep(1)
        assert [(beat.position, beat.clock_ms) for _, beat in connection.beats] == [(None, 0)]


# Cost ----------------------------------------------------------------------------------------------------------------


class Costly(Beaten):
    """A connection each of whose beats costs a millisecond."""

    def __init__(self, spending: Spending) -> None:
        super().__init__()
        self._spending = spending

    def beat(self, beat: SharedBeat) -> None:
        super().beat(beat)
        self._spending.spent_s += 0.001


async def test_beats_that_cost_too_much_come_less_often_and_say_so(autojump_clock: CLOCK) -> None:
    spending = Spending()
    async with renewing() as rig, beating(rig, 0.08, spending) as beats:
        connections = [Costly(spending) for _ in range(300)]  # 300 ms a second, of the 80 that are allowed
        for connection in connections:
            beats.set(connection, 1_000)
        await trio.sleep(100)
        assert beats.shortest_ms == 4_000
        for connection in connections:
            connection.beats.clear()
        await trio.sleep(40)
        assert {gap for connection in connections for gap in connection.gaps()} == {4.0}
        for connection in connections[30:]:
            beats.drop(connection)
        await trio.sleep(100)
        assert beats.shortest_ms == 1_000
        assert connections[0].gaps() >= {1.0}


async def test_the_cost_of_a_single_slot_counts_once_a_second(autojump_clock: CLOCK) -> None:
    spending = Spending()
    async with renewing() as rig, beating(rig, 0.08, spending) as beats:
        for _ in range(70):  # 70 ms a second, of the 80 that are allowed
            beats.set(Costly(spending), 1_000)
        for _ in range(20):
            await trio.sleep(3)
            assert beats.shortest_ms == 1_000


async def test_no_beat_comes_later_than_the_one_before_it_has_said(autojump_clock: CLOCK) -> None:
    spending = Spending()
    async with renewing() as rig, beating(rig, 0.02, spending) as beats:
        connections = [Costly(spending) for _ in range(100)]
        for number, connection in enumerate(connections):
            beats.set(connection, 1_000 << number % 3)
        await trio.sleep(60)
        for connection in connections[20:]:
            beats.drop(connection)
        await trio.sleep(60)
        for connection in connections:
            for (time, beat), (following, _) in zip(connection.beats, connection.beats[1:], strict=False):
                assert following - time <= beat.next_ms / 1000 + 1e-6


async def test_beats_are_never_rarer_than_the_bound(autojump_clock: CLOCK) -> None:
    spending = Spending()
    async with renewing() as rig, beating(rig, 1e-9, spending) as beats:
        connection = Costly(spending)
        beats.set(connection, 1_000)
        await trio.sleep(MEASURED_S * 4**STRETCH_MAX)
        assert beats.shortest_ms == 1_000 << STRETCH_MAX


@pytest.mark.parametrize("share_max", [0.0, 1.0])
async def test_without_a_limit_nothing_is_lengthened(autojump_clock: CLOCK, share_max: float) -> None:
    spending = Spending()
    async with renewing() as rig, beating(rig, share_max, spending) as beats:
        beats.set(Costly(spending), 1_000)
        await trio.sleep(100)
        assert beats.shortest_ms == 1_000


# Faults --------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_meets_a_bug_ends_alone(autojump_clock: CLOCK) -> None:
    async with renewing() as rig:
        rig.bulkhead.strict = False
        async with beating(rig) as beats:
            broken, other = Beaten(), Beaten()
            broken.broken = True
            for connection in (broken, other):
                beats.set(connection, 1_000)
            await trio.sleep(3.01)
            assert broken.failed == 3
            assert len(other.beats) == 3


async def test_a_turn_that_came_late_is_not_made_up_for(mock_clock: trio.testing.MockClock) -> None:
    async with renewing() as rig, beating(rig) as beats:
        connection = Beaten()
        beats.set(connection, 1_000)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(30.0)
        for _ in range(20):
            await trio.testing.wait_all_tasks_blocked()
        assert len(connection.beats) <= 1


# A node ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def session(running: LocalNode, codec: Codec) -> AsyncIterator[WebSocketConnection]:
    """Open a session with beats that holds the topic ``t``."""
    async with open_websocket_url(f"{running.url}/v1/ws", subprotocols=[codec.protocol]) as socket:

        async def say(message: messages.Message) -> None:
            data = codec.encode(message)
            await socket.send_message(data.decode() if codec.text else data)

        await say(messages.Hello(beat_ms=1_000))
        await say(messages.Subscribe("s", topics={"t": 0}, replace=True))
        welcome = codec.server_message(await socket.get_message())
        assert isinstance(welcome, messages.Welcome)
        assert welcome.beat_ms == 1_000
        await socket.get_message()
        yield socket


@pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
async def test_a_session_gets_the_position_that_it_was_pushed_up_to(codec: Codec) -> None:
    async with node(ttl_ms=60_000) as running, session(running, codec) as socket:
        hub = running.node.hub
        beat = codec.server_message(await socket.get_message())
        assert isinstance(beat, Beat)
        assert beat.position == hub.position
        assert 0 <= running.node.now() - beat.clock_ms / 1000 < 2.0
        assert running.node.counts()["beats"] >= 1


async def test_a_session_whose_lease_lost_a_name_gets_none_until_it_agrees_again() -> None:
    async with node(ttl_ms=60_000) as running, session(running, CBOR) as socket:
        (connection,) = running.node.sockets
        assert connection.machine.lease is not None
        running.node.leases.remove(connection.machine.lease, ["t"])
        now = running.node.now()
        connection.beat(SharedBeat((running.node.hub.position, now), 1.0, now))
        await socket.send_message(CBOR.encode(messages.Subscribe("s", topics={"t": 0}, replace=True)))
        assert isinstance(CBOR.server_message(await socket.get_message()), messages.Subscribed)
        assert isinstance(CBOR.server_message(await socket.get_message()), Beat)


def slot_of(connection: Connection) -> Slot | None:
    return connection.beat_slot


async def test_a_renewal_may_end_the_beats_and_the_connection_does() -> None:
    async with node(ttl_ms=60_000) as running:
        async with session(running, CBOR) as socket:
            (connection,) = running.node.sockets
            renew = messages.Renew("r", digest_text(digest_of(["t"])), 1, beat_ms=0)
            await socket.send_message(CBOR.encode(renew))
            while not isinstance(CBOR.server_message(await socket.get_message()), messages.Renewed):
                pass
            assert slot_of(connection) is None
            await socket.send_message(CBOR.encode(messages.Renew("r", digest_text(digest_of(["t"])), 1, beat_ms=1)))
            await socket.get_message()
            slot = slot_of(connection)
            assert slot == {connection: None}
        assert slot is not None
        with trio.fail_after(5):
            while slot:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("certified", [None, (Position("e", '"sent":0 \x64sent\x00', 9), 12.5)])
@pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
def test_a_beat_put_together_is_what_the_encoder_writes(codec: Codec, certified: tuple[Position, float] | None) -> None:
    position, clock_s = certified or (None, 0.0)
    beat = SharedBeat(certified, 4.0, 5.0)
    for sent in (0, 1, 23, 24, 300, 70_000, 2**53 - 1):
        message = Beat(4_000, sent, position, round(clock_s * 1000))
        assert beat.frame(codec, sent) == frame(codec.encode(message), text=codec.text)
