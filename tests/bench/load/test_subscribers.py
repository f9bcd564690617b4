"""Subscribers beside a node that the test plays: what they do when they are refused, lost, or vanish."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest

from bench.load.lifetimes import VANISHING
from bench.load.subscribers import Stage, Subscriber, Subscribers
from softstate.session.load_advice import RECOVER_BASE_MS

TURNS_MAX = 200


class Alone(Subscribers):
    """One subscriber, and the listener that it dials."""

    def __init__(self) -> None:
        super().__init__()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self._port = self.listener.getsockname()[1]
        self._mean_s, self._part = 1.0, 3
        self.one = Subscriber(1, 0, time.monotonic())
        self._dial(self.one, 0.0)
        self.node, (self.address, _) = self.listener.accept()
        self.node.settimeout(10)

    def until(self, done: Callable[[], bool]) -> None:
        """Take turns until something is the case."""
        for _ in range(TURNS_MAX):
            if done():
                return
            self.turn(time.monotonic() + 0.05)
        raise AssertionError(f"it is not so after {TURNS_MAX} turns: {self.one.stage}, {self._counts}")

    def until_stage(self, stage: Stage) -> None:
        """Take turns until the subscriber is in a stage."""
        self.until(lambda: self.one.stage is stage)

    def again_at(self) -> float:
        """Return when it dials again."""
        [at] = [entry[0] for entry in self._due if entry[2] == self.one.life]
        return at


@pytest.fixture
def alone() -> Iterator[Alone]:
    """Let it dial."""
    made = Alone()
    yield made
    for opened in (made.node, made.listener, *made._silent.values()):
        opened.close()
    if made.one.socket is not None:
        made.one.socket.close()
    made._epoll.close()


def test_a_refusal_is_counted_and_its_time_is_obeyed(alone: Alone) -> None:
    alone.until_stage(Stage.UPGRADING)
    assert alone.address == "127.1.3.2"
    before = time.monotonic()
    alone.node.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    alone.until_stage(Stage.AWAY)
    assert alone._counts["refused"] == 1
    assert alone.again_at() - before >= 7.0
    assert alone.again_at() - time.monotonic() <= 7.0 + RECOVER_BASE_MS / 1000
    assert alone.node.recv(4_096).startswith(b"GET /v1/ws ")
    assert alone.node.recv(1) == b""


def test_one_that_is_not_answered_gives_up_and_backs_off_longer_each_time(alone: Alone) -> None:
    class Most(Random):
        def uniform(self, _a: float, b: float) -> float:
            return b

    alone.until_stage(Stage.UPGRADING)
    alone._random, alone.one.attempts = Most(), 4
    before = time.monotonic()
    alone._give_up(alone.one, before)
    assert alone._counts["timed out"] == 1
    assert alone.again_at() - before >= RECOVER_BASE_MS / 1000 * 2**3


def test_a_connection_that_ends_unasked_is_lost(alone: Alone) -> None:
    alone.until_stage(Stage.UPGRADING)
    alone.node.close()
    alone.until_stage(Stage.AWAY)
    assert alone._counts["lost"] == 1
    assert alone._present == {}


def test_one_that_vanishes_reads_nothing_and_keeps_its_socket_until_the_node_closes(alone: Alone) -> None:
    alone.until_stage(Stage.UPGRADING)
    alone._away_s = (30.0, 30.0)
    alone._subscribed(alone.one, time.monotonic())
    now = time.monotonic()
    alone._random = next(Random(seed) for seed in range(100) if Random(seed).random() < VANISHING)
    alone._end(alone.one, now)
    assert alone._counts["vanished"] == 1
    [kept] = alone._silent.values()
    alone.node.sendall(b"not read")
    alone.turn(time.monotonic())
    assert list(alone._silent.values()) == [kept]
    alone.node.shutdown(socket.SHUT_WR)
    alone.until(lambda: not alone._silent)
    assert kept.fileno() < 0
    assert alone.again_at() == now + 30.0


def test_returns_are_counted_of_those_that_vanished_within_the_time_alone(alone: Alone) -> None:
    alone._counted = 10.0, 20.0
    counted = []
    for gone_at in (9.0, 10.0, 19.0, 20.0):
        other = Subscriber(2, 0, 0.0)
        other.gone_at = gone_at
        alone._return(other, 25.0)
        counted.append(alone._counts["returned"])
        alone._drop(other)
    assert counted == [0, 1, 2, 2]
