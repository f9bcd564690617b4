"""A witness of a recovery: a thread that reads the accept queue all the time, and attempts a publish every 100 ms.

Each attempt has a connection of its own, as a publisher has whose old one ended with the node: so it shows whether
publishes come through beside a herd. It counts as acknowledged if the answer is there within `ANSWER_S_MAX`; then the
connection is closed.

One attempt in ten goes to the topic that all clients follow (`CLOCK`), and all do from a refused connection until one
is acknowledged: so a value from after the restart is there as soon as the node takes one, and the load generators are
not busy with ten deliveries a second to each client, also while publishes are acknowledged late.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench.load.course import CLOCK
from bench.load.dialing import dial
from bench.measure.accept_queue import accept_queue
from bench.measure.publishing import PUT, Publishing

ATTEMPT_EVERY_S = 0.1
ANSWER_S_MAX = 0.5
LOOK_EVERY_S = 0.02
"""Interval at which the accept queue is read."""
FOLLOWED = 10
"""While publishes are acknowledged, one in so many goes to `CLOCK`."""
UNFOLLOWED = "probe"
ADDRESS = "127.0.0.250"
"""The source of attempts, which no load generator uses."""
RECEIVE_BYTES = 65_536


@dataclass(slots=True)
class Attempt:
    """One publish: when it began, and how long it took until it was acknowledged; infinity if it was not in time."""

    began_at: float
    took_s: float = math.inf


@dataclass(slots=True)
class _Conversation:
    socket: socket.socket
    attempt: Attempt
    request: bytes
    data: bytes = b""


class Witness:
    """Watches one port for the duration of a block. `samples` and `attempts` are to be read after its end.

    `samples` are times (of `time.monotonic`) and lengths of the accept queue, None while nothing listens.
    """

    def __init__(self, port: int, publishing: Publishing = PUT) -> None:
        self.samples: list[tuple[float, int | None]] = []
        self.attempts: list[Attempt] = []
        self._port = port
        self._publishing = publishing
        self._epoll = select.epoll()
        self._talks: dict[int, _Conversation] = {}
        self._ends = threading.Event()
        self._followed_next = True
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End before the block does; attempts under way are not counted."""
        self._ends.set()
        self._thread.join()

    def listens_at(self, after: float) -> float:
        """Return when something listened again after it had ended at `after`; that itself if it was never away."""
        later = [(at, waiting) for at, waiting in self.samples if at > after]
        away = next((at for at, waiting in later if waiting is None), None)
        if away is None:
            return after
        return next((at for at, waiting in later if at > away and waiting is not None), math.inf)

    def _run(self) -> None:
        attempt_at = look_at = time.monotonic()
        while not self._ends.is_set():
            now = time.monotonic()
            if now >= look_at:
                look_at = now + LOOK_EVERY_S
                self.samples.append((now, accept_queue(self._port)))
            if now >= attempt_at:
                attempt_at = max(attempt_at + ATTEMPT_EVERY_S, now)
                self._attempt(now)
            for talk in [talk for talk in self._talks.values() if now - talk.attempt.began_at > ANSWER_S_MAX]:
                self._end(talk, math.inf)
            for fd, events in self._epoll.poll(max(min(attempt_at, look_at) - time.monotonic(), 0.0)):
                self._ready(self._talks[fd], events)
        for talk in list(self._talks.values()):
            self.attempts.remove(talk.attempt)  # it had less time than the others
            self._end(talk, math.inf)
        self._epoll.close()

    def _attempt(self, now: float) -> None:
        followed = self._followed_next or len(self.attempts) % FOLLOWED == 0
        request = self._publishing.request(CLOCK if followed else UNFOLLOWED, int(now * 1e6))
        attempt = Attempt(now)
        self.attempts.append(attempt)
        opened = dial(ADDRESS, self._port)
        self._talks[opened.fileno()] = _Conversation(opened, attempt, request)
        self._epoll.register(opened.fileno(), select.EPOLLOUT)

    def _ready(self, talk: _Conversation, events: int) -> None:
        if events & select.EPOLLOUT and events & (select.EPOLLERR | select.EPOLLHUP):
            self._followed_next = True
        elif events & select.EPOLLOUT:
            self._epoll.modify(talk.socket.fileno(), select.EPOLLIN)
            with suppress(OSError):  # reading meets the same error
                talk.socket.send(talk.request)
            return
        try:
            data = talk.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        talk.data += data
        if self._publishing.acknowledged(talk.data):
            self._end(talk, time.monotonic() - talk.attempt.began_at)
        elif not data:
            self._end(talk, math.inf)

    def _end(self, talk: _Conversation, took_s: float) -> None:
        talk.attempt.took_s = took_s if took_s <= ANSWER_S_MAX else math.inf
        if took_s < math.inf:
            self._followed_next = False
        del self._talks[talk.socket.fileno()]
        self._epoll.unregister(talk.socket.fileno())
        talk.socket.close()
