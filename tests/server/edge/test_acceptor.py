"""Accepting in the pump: for a bounded time, fairly between listeners, quietly while the system refuses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.edge.acceptor import ACCEPT_RETRY_S, ACCEPT_S_MAX, Acceptor, Listening
from softstate.server.edge.poller import READ, waited_s
from softstate.server.edge.pump import SocketWire
from softstate.server.listeners import BACKLOG
from tests.kit.node_rig import until
from tests.kit.pumps import pump_of, settled

EACH_S = ACCEPT_S_MAX / 4


class FakePoller:
    """Notes for which descriptors it is asked what."""

    def __init__(self) -> None:
        self.wanted: dict[int, int] = {}

    def add(self, fd: int, wanted: int) -> None:
        assert fd not in self.wanted
        self.wanted[fd] = wanted

    def change(self, fd: int, wanted: int) -> None:
        assert fd in self.wanted
        self.wanted[fd] = wanted

    def remove(self, fd: int) -> None:
        del self.wanted[fd]


class FakeListening:
    """Raises, or returns, what a test gives it."""

    def __init__(self, fd: int, *outcomes: object) -> None:
        self.fd = fd
        self.outcomes = list(outcomes)
        self.closed = False

    def accept(self) -> Any:
        if not self.outcomes:
            raise BlockingIOError
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, f"peer {outcome}"

    def waited_s(self, fd: int) -> float:
        return fd / 10

    def close(self) -> None:
        self.closed = True


class Rig:
    """An acceptor whose clock moves by `EACH_S` with each connection that begins."""

    def __init__(self, *listening: FakeListening, strict: bool = True) -> None:
        self.poller = FakePoller()
        self.bulkhead = Bulkhead(strict=strict)
        self.begun: list[object] = []
        self.ages: list[float] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.time_s = 0.0
        self.broken: object = None
        self.full: Callable[[], bool] = lambda: False
        self.listening = listening
        self.acceptor = Acceptor(
            self.poller,  # type: ignore[arg-type]
            self.bulkhead,
            self.begin,
            lambda after_s, call: self.later.append((after_s, call)),
            self.is_full,
            lambda: self.time_s,
        )
        for each in listening:
            self.acceptor.add(each)  # type: ignore[arg-type]

    def is_full(self) -> bool:
        return self.full()

    def begin(self, fd: int, address: str, age_s: float) -> None:
        assert address == f"peer {fd}"
        self.ages.append(age_s)
        self.time_s += EACH_S
        self.begun.append(fd)
        if fd == self.broken:
            raise ZeroDivisionError

    def turn(self) -> list[object]:
        """Have one turn; return what began in it."""
        before = len(self.begun)
        self.acceptor.accept([999, *(fd for fd, wanted in self.poller.wanted.items() if wanted)])
        return self.begun[before:]

    def resume(self) -> float:
        [(after_s, call)] = self.later
        self.later.clear()
        call()
        return after_s


async def test_one_turn_accepts_for_two_milliseconds_and_leaves_the_rest_to_the_next() -> None:
    rig = Rig(FakeListening(1, *range(10)))
    assert [len(rig.turn()) for _ in range(4)] == [4, 4, 2, 0]
    assert rig.begun == list(range(10))


async def test_one_connection_is_accepted_however_long_it_takes() -> None:
    rig = Rig(FakeListening(1, 1, 2))
    begin = rig.begin

    def slow(fd: int, address: str, age_s: float) -> None:
        begin(fd, address, age_s)
        rig.time_s += 1

    rig.acceptor._begin = slow
    assert [rig.turn(), rig.turn()] == [[1], [2]]


async def test_the_age_is_asked_for_while_some_were_left_waiting() -> None:
    rig = Rig(FakeListening(1, *range(1, 7)))
    assert (rig.turn(), rig.ages) == ([1, 2, 3, 4], [0.0] * 4)
    assert (rig.turn(), rig.ages[4:]) == ([5, 6], [0.5, 0.6])
    rig.listening[0].outcomes += [7]
    assert (rig.turn(), rig.ages[6:]) == ([7], [0.0])


async def test_the_age_is_asked_for_once_a_node_that_was_full_has_room() -> None:
    rig = Rig(FakeListening(1, 1, 2))
    rig.full = lambda: bool(rig.begun)
    assert rig.turn() == [1]
    rig.full = lambda: False
    assert (rig.turn(), rig.ages) == ([2], [0.0, 0.2])


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "none"), ZeroDivisionError()])
async def test_the_age_is_asked_for_after_a_pause(error: Exception) -> None:
    rig = Rig(FakeListening(1, error, 1, error, 2, 3, 4, 5), strict=False)
    with structlog.testing.capture_logs():  # to draw a traceback for people takes seconds on a busy machine
        assert rig.turn() == []
        rig.resume()
        assert (rig.turn(), rig.ages) == ([1], [0.1])
    rig.resume()
    assert (rig.turn(), rig.ages[1:]) == ([2, 3, 4, 5], [0.2, 0.3, 0.4, 0.5])
    rig.turn()
    rig.listening[0].outcomes += [6]
    assert (rig.turn(), rig.ages[5:]) == ([6], [0.0])


async def test_the_age_is_asked_for_after_a_time_in_which_the_node_was_full() -> None:
    """It may have become so when no connection was waiting: by those that were accepted before."""
    rig = Rig(FakeListening(1))
    rig.full = lambda: True
    rig.acceptor.look()
    rig.listening[0].outcomes += [1, 2]
    assert rig.turn() == []
    rig.full = lambda: False
    rig.acceptor.look()
    assert (rig.turn(), rig.ages) == ([1, 2], [0.1, 0.2])
    rig.listening[0].outcomes += [3]
    assert (rig.turn(), rig.ages[2:]) == ([3], [0.0])


async def test_no_listener_is_left_out() -> None:
    rig = Rig(FakeListening(1, *range(100, 200)), FakeListening(2, *range(200, 202)))
    assert rig.turn() == [100, 200, 101, 201]
    assert rig.turn() == [102, 103, 104, 105]


async def test_nothing_is_accepted_that_does_not_wait() -> None:
    rig = Rig(FakeListening(1, 1))
    rig.acceptor.accept([5, 6])
    assert rig.begun == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED])
async def test_a_spell_of_refusals_of_the_system_is_two_lines(
    number: int, autojump_clock: trio.testing.MockClock
) -> None:
    refused = OSError(number, os.strerror(number))
    rig = Rig(FakeListening(1, 1, *[refused] * 50, 2, refused, 3, 4, 5))
    with structlog.testing.capture_logs() as logs:
        assert rig.turn() == [1]
        for _ in range(49):
            assert rig.poller.wanted == {1: 0}, "it would be told of in each turn"
            assert rig.resume() == ACCEPT_RETRY_S
            assert rig.turn() == []
        rig.resume()
        assert rig.turn() == [2]
        rig.resume()
        await trio.sleep(1.5)
        assert rig.turn() == [3, 4, 5]
    first, last = logs
    assert (first["event"], last["event"]) == ("no connection can be accepted", "connections are accepted again")
    assert os.strerror(number) in first["because"]
    assert ("LimitNOFILE" in first["because"]) == (number in (errno.EMFILE, errno.ENFILE))
    assert last["refusals"] == 51
    assert "exc_info" not in first


async def test_a_bug_while_accepting_pauses_it() -> None:
    rig = Rig(FakeListening(1, 1, ZeroDivisionError(), 2), strict=False)
    assert rig.turn() == [1]
    assert rig.poller.wanted == {1: 0}
    assert rig.resume() == RETRY_S
    assert rig.poller.wanted == {1: READ}
    assert (rig.turn(), rig.bulkhead.bugs) == ([2], 1)


async def test_a_bug_with_one_connection_leaves_the_others_alone() -> None:
    rig = Rig(FakeListening(1, 1, 2, 3), strict=False)
    rig.broken = 2
    assert (rig.turn(), rig.bulkhead.bugs, rig.later) == ([1, 2, 3], 1, [])


async def test_none_is_accepted_at_the_limit_and_they_are_again_below_it() -> None:
    rig = Rig(FakeListening(1, *range(9)))
    rig.full = lambda: len(rig.begun) >= 3
    assert rig.turn() == [0, 1, 2]
    rig.acceptor.look()
    assert (rig.poller.wanted, rig.acceptor.held) == ({1: 0}, True)
    assert rig.turn() == []
    rig.full = lambda: len(rig.begun) >= 4
    rig.acceptor.look()
    assert (rig.poller.wanted, rig.acceptor.held) == ({1: READ}, False)
    assert rig.turn() == [3]


async def test_a_full_node_that_was_refused_waits_for_both() -> None:
    rig = Rig(FakeListening(1, OSError(errno.EMFILE, "none"), 2))
    assert rig.turn() == []
    rig.full = lambda: True
    rig.acceptor.look()
    rig.resume()
    assert rig.poller.wanted == {1: 0}
    rig.full = lambda: False
    rig.acceptor.look()
    assert rig.turn() == [2]


async def test_it_leaves_the_sockets_to_their_owner() -> None:
    rig = Rig(FakeListening(1, 1), FakeListening(2))
    rig.acceptor.end()
    assert rig.poller.wanted == {}
    assert all(each.closed for each in rig.listening)


# On sockets ----------------------------------------------------------------------------------------------------------


class Listener:
    """A socket that listens on loopback, and a pump that accepts there."""

    def __init__(self, accepted: Callable[[SocketWire, str, float], None], *, strict: bool = True) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.bulkhead = Bulkhead(strict=strict)
        self.pump = pump_of(self.bulkhead, accepted=accepted)
        self.pump.listen(trio.socket.from_stdlib_socket(self.socket))


async def test_a_connection_has_what_trio_gives_its_own_and_the_address_of_its_other_end() -> None:
    wires: list[tuple[SocketWire, str]] = []

    class Peer:
        def readable(self) -> None: ...
        def writable(self) -> None: ...
        def fail(self) -> None: ...

        def end(self) -> None:
            wires[0][0].close()

    def accepted(wire: SocketWire, name: str, _waited_s: float) -> None:
        wires.append((wire, name))
        wire.peer = Peer()

    listener = Listener(accepted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.pump.run)
        with socket.create_connection(listener.address) as client:
            await until(lambda: bool(wires))
            [(wire, name)] = wires
            assert name == "{}:{}".format(*client.getsockname())
            with socket.socket(fileno=os.dup(wire._fd)) as accepted_socket:
                assert accepted_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert not os.get_blocking(accepted_socket.fileno())
            assert not os.get_inheritable(wire._fd)
            nursery.cancel_scope.cancel()
    assert len(listener.pump) == 0
    listener.socket.close()


@pytest.mark.parametrize("says", [b"", b"GET"])
async def test_the_system_tells_for_how_long_a_request_has_waited(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listening = Listening(trio.socket.from_stdlib_socket(listener))
        with socket.create_connection(listener.getsockname()) as client:
            client.send(says)
            fd, _ = listening.accept()
            await until(lambda: 0.05 <= listening.waited_s(fd) < 20)
            client.send(b"more")
            # From the last bytes on: a head that comes in pieces is as old as its end.
            await until(lambda: listening.waited_s(fd) < 0.05)
        os.close(fd)
        listening.close()


async def test_a_socket_of_another_kind_tells_nothing() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert waited_s(one) == 0.0


async def test_one_that_gets_no_peer_is_closed() -> None:
    listener = Listener(lambda _wire, _name, _waited_s: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.pump.run)
        async with await trio.open_tcp_stream(*listener.address) as client:
            assert await client.receive_some() == b""
        assert len(listener.pump) == 0
        nursery.cancel_scope.cancel()
    listener.socket.close()


async def test_no_more_are_accepted_and_the_socket_stays_open() -> None:
    accepted: list[str] = []
    listener = Listener(lambda _wire, name, _waited_s: accepted.append(name))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.pump.run)
        listener.pump.accept_no_more()
        with socket.create_connection(listener.address):
            await settled(listener.pump)
            assert accepted == []
            turns = listener.pump.turns
            await settled(listener.pump)
            assert listener.pump.turns == turns
        nursery.cancel_scope.cancel()
    listener.socket.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.address)


async def test_the_system_is_asked_again_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[str] = []
    listener = Listener(lambda _wire, name, _waited_s: accepted.append(name))
    refusals = [OSError(errno.EMFILE, "Too many open files")] * 2
    accept = Listening.accept

    def refusing(self: Listening) -> tuple[int, str]:
        if refusals:
            raise refusals.pop()
        return accept(self)

    monkeypatch.setattr(Listening, "accept", refusing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.pump.run)
        with socket.create_connection(listener.address):
            await until(lambda: bool(accepted))
        assert not refusals
        nursery.cancel_scope.cancel()
    listener.socket.close()


async def test_those_left_waiting_are_accepted_though_the_system_does_not_tell_of_them_again() -> None:
    """It tells of so many sockets a turn, and of each in its turn."""
    rig = Rig(FakeListening(1, *range(6)), FakeListening(2, *range(10, 12)))
    assert len(rig.turn()) == 4
    rig.acceptor.accept([])
    assert len(rig.begun) == 8
    rig.acceptor.accept([])
    assert len(rig.begun) == 8


async def test_those_left_waiting_are_not_accepted_while_others_are_still_to_be_read() -> None:
    rig = Rig(FakeListening(1, *range(6)))
    assert len(rig.turn()) == 4
    rig.acceptor.accept([], idle=False)
    assert len(rig.begun) == 4
    rig.acceptor.accept([])
    assert len(rig.begun) == 6
