"""The accept queue as the kernel tells it, and publishes that are attempted all the time, with real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from bench.load.course import CLOCK
from bench.measure.accept_queue import accept_queue
from bench.measure.publishing import Publishing, put
from bench.measure.witness import FOLLOWED, UNFOLLOWED, Witness

ECHO = Publishing(lambda topic, value: f"{topic} {value}\n".encode(), lambda data: data.endswith(b"\n"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as opened:
        yield opened


def _until(check: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not check():
        assert time.monotonic() < ends
        threading.Event().wait(0.01)


def test_the_accept_queue_holds_what_was_not_accepted(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert accept_queue(port) == 0
    with closing(socket.create_connection(("127.0.0.1", port))), closing(socket.create_connection(("127.0.0.1", port))):
        assert accept_queue(port) == 2
        listener.accept()[0].close()
        assert accept_queue(port) == 1
    listener.close()
    assert accept_queue(port) is None


def test_publishes_are_acknowledged_while_somebody_answers(listener: socket.socket) -> None:
    asked: list[bytes] = []

    def answer() -> None:
        while True:
            try:
                talk = listener.accept()[0]
            except OSError:
                return
            with talk:
                asked.append(talk.recv(100))
                talk.sendall(asked[-1])

    thread = threading.Thread(target=answer)
    thread.start()
    with Witness(listener.getsockname()[1], ECHO) as witness:
        _until(lambda: len(asked) > FOLLOWED + 1)
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    topics = [line.split()[0].decode() for line in asked]
    assert topics[: FOLLOWED + 1] == [CLOCK] + [UNFOLLOWED] * (FOLLOWED - 1) + [CLOCK]
    assert [int(line.split()[1]) for line in asked] == sorted(int(line.split()[1]) for line in asked)
    assert witness.attempts[0].took_s < 0.5
    assert {waiting is None for _, waiting in witness.samples} == {False}


def test_publishes_that_wait_in_the_queue_or_are_refused_are_not_acknowledged(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with Witness(port, ECHO) as witness:
        _until(lambda: any((waiting or 0) >= 3 for _, waiting in witness.samples))
        closed_at = time.monotonic()
        listener.close()
        _until(lambda: witness.samples[-1][1] is None and len(witness.attempts) > 8)
        with closing(socket.create_server(("127.0.0.1", port))):
            _until(lambda: witness.samples[-1][1] is not None)
    assert {attempt.took_s for attempt in witness.attempts} == {float("inf")}
    assert closed_at < witness.listens_at(closed_at) < time.monotonic()
    assert witness.listens_at(closed_at + 1e6) == closed_at + 1e6


def test_a_put_is_a_whole_request() -> None:
    assert put("clock", 12).endswith(b"Content-Length: 2\r\n\r\n12")
    assert put("clock", 12).startswith(b"PUT /v1/topics/clock HTTP/1.1\r\n")
