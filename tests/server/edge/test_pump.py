"""The pump, on real sockets: who is told of what in which turn, and how much one turn does."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from softstate.server.bulkhead import Bulkhead
from softstate.server.edge import pump as module
from softstate.server.edge.pump import EVENTS_PER_TURN, READ_S
from tests.kit.node_rig import until
from tests.kit.pumps import pump_of


class Rig:
    """A pump, and what its peers were told, in order; `turns` are the lengths of that at the end of each turn."""

    def __init__(self, *, strict: bool = True) -> None:
        self.told: list[str] = []
        self.turns: list[int] = []
        self.bulkhead = Bulkhead(strict=strict)
        self.pump = pump_of(self.bulkhead, self._flush)

    def _flush(self) -> None:
        self.turns.append(len(self.told))

    def peer(self, name: str) -> Told:
        return Told(self, name)


class Told:
    """A peer that notes what it is told, and ends with its socket."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.name = name
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.wire = rig.pump.adopt(near.detach())
        self.wire.peer = self
        self.data = b""
        self.act: Callable[[], None] = lambda: None

    def readable(self) -> None:
        self.rig.told.append(f"{self.name} readable")
        self.act()
        try:
            data = self.wire.receive(1_000)
        except BlockingIOError:
            return
        self.data += data
        if not data:
            self.end()

    def writable(self) -> None:
        self.rig.told.append(f"{self.name} writable")
        self.wire.want_write(False)

    def end(self) -> None:
        self.rig.told.append(f"{self.name} ends")
        self.far.close()
        self.wire.close()

    def fail(self) -> None:
        self.rig.told.append(f"{self.name} fails")
        self.end()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no turn be over because the machine is slow."""
    monkeypatch.setattr(module, "READ_S", 60.0)


@asynccontextmanager
async def running(*, strict: bool = True) -> AsyncIterator[Rig]:
    rig = Rig(strict=strict)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.pump.run)
        yield rig
        nursery.cancel_scope.cancel()
    assert len(rig.pump) == 0


async def test_all_that_may_write_come_before_all_that_read_and_the_flush_comes_last(patient: None) -> None:
    async with running() as rig:
        one, other = rig.peer("one"), rig.peer("other")
        for peer in (one, other):
            peer.far.send(b"x")
            peer.wire.want_write(True)
        await until(lambda: len(rig.told) == 4)
        assert sorted(rig.told[:2]) == ["one writable", "other writable"]
        assert sorted(rig.told[2:]) == ["one readable", "other readable"]
        await until(lambda: bool(rig.turns))
        assert rig.turns == [4]
        assert (one.data, other.data) == (b"x", b"x")


async def test_thousands_that_vanish_at_once_are_ended_some_in_each_turn() -> None:
    async with running() as rig:
        peers = [rig.peer(str(number)) for number in range(5 * EVENTS_PER_TURN)]
        innocent = rig.peer("innocent")
        for peer in peers:
            peer.far.close()
        innocent.far.send(b"x")
        await until(lambda: len(rig.pump) == 1 and innocent.data == b"x")
        await until(lambda: rig.turns[-1] == len(rig.told))
        ends = [
            sum("ends" in told for told in rig.told[begin:end])
            for begin, end in zip([0, *rig.turns], rig.turns, strict=False)
        ]
        assert sum(ends) == len(peers)
        assert max(ends) <= EVENTS_PER_TURN
        # It goes round: one that has something does not wait for all that have more.
        turn = next(number for number, end in enumerate(rig.turns) if "innocent readable" in rig.told[:end])
        assert turn <= len(peers) // EVENTS_PER_TURN + 1


async def test_a_peer_that_is_not_read_is_not_told_and_one_that_is_gone_is_ended_all_the_same() -> None:
    async with running() as rig:
        peer = rig.peer("peer")
        peer.wire.want_read(False)
        peer.far.send(b"x")
        await trio.sleep(0.02)
        assert rig.told == []
        peer.wire.want_read(True)
        await until(lambda: peer.data == b"x")
        peer.wire.want_read(False)
        peer.far.close()
        await until(lambda: len(rig.pump) == 0)
        assert rig.told == ["peer readable", "peer ends"]


async def test_a_wire_tells_that_its_other_end_is_gone_and_also_once_it_is_closed() -> None:
    """Else a read would be made, and others refused for it, for a peer that is not there any more."""
    async with running() as rig:
        left, ended = rig.peer("left"), rig.peer("ended")
        assert not left.wire.hung_up()
        left.far.close()
        assert left.wire.hung_up()
        ended.end()
        assert ended.wire.hung_up()


async def test_a_peer_that_asks_to_be_told_again_wakes_a_pump_that_sleeps() -> None:
    async with running() as rig:
        peer = rig.peer("peer")
        await trio.sleep(0.02)
        for count in (1, 2):
            peer.wire.again()
            peer.wire.again()
            await until(lambda count=count: len(rig.turns) == count)  # type: ignore[misc]
        assert rig.told == ["peer readable"] * 2
        peer.act = peer.wire.again
        peer.wire.again()
        await until(lambda: len(rig.turns) > 20)
        peer.act = lambda: None


async def test_thousands_that_ask_to_be_told_again_are_told_some_in_each_turn_and_in_order(patient: None) -> None:
    async with running() as rig:
        peers = [rig.peer(str(number)) for number in range(3 * EVENTS_PER_TURN)]
        for peer in peers:
            peer.wire.again()
        # It comes last, though others have asked again meanwhile.
        peers[0].act = peers[0].wire.again
        await until(lambda: f"{len(peers) - 1} readable" in rig.told)
        peers[0].act = lambda: None
        told = rig.told[: len(peers)]
        assert sorted(told) == sorted(f"{peer.name} readable" for peer in peers)
        assert max(end - begin for begin, end in pairwise([0, *rig.turns])) == EVENTS_PER_TURN
        peers[1].wire.again()
        peers[1].wire.close()
        peers[1].far.close()
        count = len(rig.turns)
        peers[2].wire.again()
        await until(lambda: len(rig.turns) > count)
        assert rig.told.count("1 readable") == 1, "one that was closed is told no more"


async def test_a_turn_reads_for_a_limited_time_and_the_next_goes_on_where_it_ended(mock_clock: MockClock) -> None:
    mock_clock.rate = 1.0
    async with running() as rig:
        peers = [rig.peer(str(number)) for number in range(3)]
        for peer in peers:
            peer.act = partial(mock_clock.jump, READ_S)  # it took so long
            peer.wire.again()
        # Though it is told of in each turn, and asks again, it does not come before those that wait.
        peers[0].far.send(b"x")

        def slow_and_unsated() -> None:
            mock_clock.jump(READ_S)
            peers[0].wire.again()

        peers[0].act = slow_and_unsated
        await until(lambda: len(rig.turns) >= 4)
        peers[0].act = lambda: None
        assert rig.told[:4] == [f"{number} readable" for number in (0, 1, 2, 0)]
        assert rig.turns[:4] == [1, 2, 3, 4]


async def test_one_that_is_closed_by_another_in_the_same_turn_is_not_told() -> None:
    """Its number may be another socket's already."""
    async with running() as rig:
        one, other = rig.peer("one"), rig.peer("other")
        one.act, other.act = other.wire.close, one.wire.close
        for peer in (one, other):
            peer.far.send(b"x")
        await until(lambda: bool(rig.turns))
        assert len(rig.told) == 1
        assert len(rig.pump) == 1
        one.far.close()
        other.far.close()


async def test_a_bug_of_one_peer_ends_that_one_alone() -> None:
    async with running(strict=False) as rig:
        victim, innocent = rig.peer("victim"), rig.peer("innocent")
        victim.act = lambda: 1 / 0  # type: ignore[assignment]
        victim.far.send(b"x")
        await until(lambda: len(rig.pump) == 1)
        assert rig.told == ["victim readable", "victim fails", "victim ends"]
        assert rig.bulkhead.bugs == 1
        innocent.far.send(b"x")
        await until(lambda: innocent.data == b"x")


async def test_a_bug_of_the_pump_itself_does_not_end_it() -> None:
    rig = Rig(strict=False)
    failing = [ZeroDivisionError()]

    def flush() -> None:
        if failing:
            raise failing.pop()

    rig.pump = pump_of(rig.bulkhead, flush)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.pump.run)
        peer = rig.peer("peer")
        for count in (1, 2):
            peer.far.send(b"x")
            await until(lambda count=count: len(peer.data) == count)  # type: ignore[misc]
        assert rig.bulkhead.bugs == 1
        nursery.cancel_scope.cancel()


async def test_all_peers_end_with_the_pump() -> None:
    async with running() as rig:
        for number in range(3):
            rig.peer(str(number))
    assert rig.told == ["0 ends", "1 ends", "2 ends"]
