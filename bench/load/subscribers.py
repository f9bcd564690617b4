"""The subscribers of `bench.load.churn`: what each of thousands does, over raw sockets, epoll and one heap of timers.

A subscriber obeys the node: it renews as `welcome` and `renewed` say, and comes back after `Retry-After` and a backoff
of its own (P-CLI-4) if it is refused, or not answered within the time that clients wait.
"""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from random import Random

from bench.load.churn_frames import (
    Resuming,
    first_flight,
    matches,
    number_in,
    op_of,
    renew_frame,
    subscribe_frame,
    uint_in,
    was_resumed,
)
from bench.load.dialing import dial
from bench.load.durations import Durations
from bench.load.frames import take_frames
from bench.load.lifetimes import VANISHING, lifetime_s
from bench.load.sessions import BYE, UPGRADE
from softstate.session.load_advice import RECOVER_BASE_MS, RECOVER_CAP_MS, TIMEOUT_MS

EVENTS_MAX = 256
DUE_MAX = 256
"""Due actions between two looks at the sockets."""
NAP_S_MAX = 0.05
RECEIVE_BYTES = 64 * 1024
ADDRESSES = 200
"""Loopback addresses of a process: the ports of one would run out while old connections are in TIME_WAIT."""
TOPICS = 20
JITTER = 0.2
"""Fraction by which the interval of renewals varies either way, as the client's does (P-CLI-1)."""
BACKOFFS_MAX = 16


class Stage(Enum):
    """The states of a subscriber."""

    AWAY = "away"
    DIALING = "dialing"
    UPGRADING = "upgrading"
    GREETING = "greeting"
    PRESENT = "present"
    LEAVING = "leaving"


class Subscriber:
    """One arrival. `life` counts its connections: what is planned for an earlier one is over."""

    __slots__ = (
        "attempts", "came_at", "certified", "data", "gone_at", "life", "newest", "number", "renew_s", "resuming",
        "since", "socket", "stage", "topic", "welcome",
    )  # fmt: skip

    def __init__(self, number: int, topic: int, came_at: float) -> None:
        self.number = number
        self.topic = topic
        self.came_at = came_at
        self.gone_at = 0.0
        self.stage = Stage.AWAY
        self.socket: socket.socket | None = None
        self.life = self.attempts = 0
        self.data = b""
        self.since = 0
        """Number of the first publish that it must get."""
        self.newest = -1
        self.renew_s = 0.0
        self.welcome = self.certified = b""
        self.resuming = False


class Subscribers:
    """All subscribers of one process, of topics of its own. What they do is counted since `forget`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._subscribers: dict[int, Subscriber] = {}
        """Those with a connection, by its descriptor."""
        self._silent: dict[int, socket.socket] = {}
        """Connections of those that have vanished."""
        self._present: dict[Subscriber, None] = {}
        self._due: list[tuple[float, int, int, Callable[[Subscriber, float], None], Subscriber]] = []
        self._pushed = self._numbers = 0
        self._random = Random(1)
        self._port = self._part = 0
        self._mean_s = 0.0
        self._away_s: tuple[float, float] | None = None
        self._lives = False
        self._published: list[float] = []
        """When each publish was due, by its number."""
        self._counted = 0.0, math.inf
        """Times between which one has to vanish for its return to be counted."""
        self.forget()

    def forget(self) -> None:
        """Begin to count again."""
        self._counts: Counter[str] = Counter()
        self._stale, self._opening = Durations(), Durations()

    def turn(self, until: float) -> None:
        """Do what is due and has arrived; wait for that, for at most `NAP_S_MAX` and not beyond `until`."""
        now, due = time.monotonic(), self._due
        for _ in range(DUE_MAX):
            if not due or due[0][0] > now:
                break
            at, _, life, call, subscriber = heapq.heappop(due)
            if subscriber.life == life:
                call(subscriber, at)
        next_at = min(until, due[0][0] if due else math.inf)
        for fd, events in self._epoll.poll(min(max(next_at - now, 0.0), NAP_S_MAX), EVENTS_MAX):
            ready = self._subscribers.get(fd)
            if ready is None:
                self.other(fd)
            else:
                self._ready(ready, events)

    def other(self, fd: int) -> None:
        """Close a connection of one that has vanished, which the node has closed."""
        silent = self._silent.pop(fd, None)
        if silent is not None:
            self._epoll.unregister(fd)
            silent.close()

    def _at(self, at: float, call: Callable[[Subscriber, float], None], subscriber: Subscriber) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (at, self._pushed, subscriber.life, call, subscriber))

    def _topic(self, number: int) -> str:
        return f"churn/{self._part}/{number:02}"

    # Its actions ---------------------------------------------------------------------------------------------------

    def _new(self, came_at: float) -> Subscriber:
        self._numbers += 1
        return Subscriber(self._numbers, self._random.randrange(TOPICS), came_at)

    def _dial(self, subscriber: Subscriber, _at: float) -> None:
        if not subscriber.attempts:
            self._counts["arrivals"] += 1
        subscriber.attempts += 1
        opened = dial(f"127.1.{self._part}.{1 + subscriber.number % ADDRESSES}", self._port)
        subscriber.socket, subscriber.stage, subscriber.data = opened, Stage.DIALING, b""
        self._subscribers[opened.fileno()] = subscriber
        self._epoll.register(opened.fileno(), select.EPOLLOUT)
        self._at(time.monotonic() + TIMEOUT_MS / 1000, self._give_up, subscriber)

    def _give_up(self, subscriber: Subscriber, _at: float) -> None:
        if subscriber.stage in (Stage.DIALING, Stage.UPGRADING, Stage.GREETING):
            self._again(subscriber, "timed out")

    def _again(self, subscriber: Subscriber, counted: str, retry_s: float = 0.0) -> None:
        """Drop the connection, and dial again after `retry_s` and a backoff."""
        self._counts[counted] += 1
        self._drop(subscriber)
        subscriber.resuming = False
        recover = subscriber.welcome[max(subscriber.welcome.find(b"grecover"), 0) :]
        spread_ms = uint_in(recover, "spread_ms")
        doubled = RECOVER_BASE_MS * 2 ** min(subscriber.attempts - 1, BACKOFFS_MAX)
        backoff_s = self._random.uniform(0.0, max(spread_ms, min(RECOVER_CAP_MS, doubled))) / 1000
        self._at(time.monotonic() + retry_s + backoff_s, self._dial, subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        """Close its connection, and forget all that was planned for it."""
        assert subscriber.socket is not None
        fd = subscriber.socket.fileno()
        self._epoll.unregister(fd)
        del self._subscribers[fd]
        subscriber.socket.close()
        self._absent(subscriber)

    def _absent(self, subscriber: Subscriber) -> None:
        self._present.pop(subscriber, None)
        subscriber.socket, subscriber.stage = None, Stage.AWAY
        subscriber.life += 1

    def _send(self, subscriber: Subscriber, data: bytes) -> None:
        assert subscriber.socket is not None
        with suppress(OSError):  # reading meets the same error
            subscriber.socket.send(data)

    def _renew(self, subscriber: Subscriber, at: float) -> None:
        if subscriber.stage is Stage.PRESENT:
            self._counts["renewals"] += 1
            self._send(subscriber, renew_frame(self._topic(subscriber.topic)))
            self._at(at + self._renew_s(subscriber), self._renew, subscriber)

    def _renew_s(self, subscriber: Subscriber) -> float:
        return subscriber.renew_s * self._random.uniform(1 - JITTER, 1 + JITTER)

    def _end(self, subscriber: Subscriber, at: float) -> None:
        if subscriber.stage is not Stage.PRESENT:
            return
        if self._random.random() >= VANISHING:
            self._leave(subscriber, at)
            return
        assert subscriber.socket is not None
        self._counts["vanished"] += 1
        fd = subscriber.socket.fileno()
        self._silent[fd] = subscriber.socket
        del self._subscribers[fd]
        self._epoll.modify(fd, select.EPOLLRDHUP)
        self._absent(subscriber)
        subscriber.gone_at = at
        if self._away_s is not None:
            self._at(at + self._random.uniform(*self._away_s), self._return, subscriber)

    def _leave(self, subscriber: Subscriber, _at: float) -> None:
        if subscriber.stage is Stage.PRESENT:
            assert subscriber.socket is not None
            self._counts["left"] += 1
            self._send(subscriber, BYE)
            with suppress(OSError):
                subscriber.socket.shutdown(socket.SHUT_WR)
            del self._present[subscriber]
            subscriber.stage = Stage.LEAVING

    def _return(self, subscriber: Subscriber, at: float) -> None:
        """Come back after having vanished, and ask for the session."""
        subscriber.came_at, subscriber.resuming = at, True
        self._counts["returned"] += self._counts_return(subscriber)
        self._dial(subscriber, at)

    def _counts_return(self, subscriber: Subscriber) -> bool:
        since, until = self._counted
        return since <= subscriber.gone_at < until

    # Received data ---------------------------------------------------------------------------------------------------

    def _ready(self, subscriber: Subscriber, events: int) -> None:
        assert subscriber.socket is not None
        if subscriber.stage is Stage.DIALING:
            if events & (select.EPOLLERR | select.EPOLLHUP):
                self._again(subscriber, "refused")
                return
            self._epoll.modify(subscriber.socket.fileno(), select.EPOLLIN)
            subscriber.stage = Stage.UPGRADING
            self._send(subscriber, UPGRADE)
            return
        try:
            data = subscriber.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if data:
            self._took(subscriber, data)
        elif subscriber.stage is Stage.LEAVING:
            self._drop(subscriber)
        else:
            self._again(subscriber, "lost")

    def _took(self, subscriber: Subscriber, data: bytes) -> None:
        data = subscriber.data + data if subscriber.data else data
        if subscriber.stage is Stage.UPGRADING:
            subscriber.data = data
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._again(subscriber, "refused", _retry_s(head))
                return
            subscriber.stage = Stage.GREETING
            self._greet(subscriber)
        payloads, subscriber.data = take_frames(data)
        now, life = time.monotonic(), subscriber.life
        for payload in payloads:
            if subscriber.life == life and subscriber.stage is not Stage.LEAVING:
                self._took_frame(subscriber, payload, now)

    def _greet(self, subscriber: Subscriber) -> None:
        if subscriber.resuming:
            self._send(subscriber, Resuming(subscriber.welcome, subscriber.certified).hello())
        else:
            self._send(subscriber, first_flight(self._topic(subscriber.topic)))

    def _took_frame(self, subscriber: Subscriber, payload: bytes, now: float) -> None:
        match op_of(payload):
            case "notify":
                number = number_in(payload)
                subscriber.newest = max(subscriber.newest, number)
                if number >= subscriber.since and subscriber.stage is Stage.PRESENT:
                    self._stale.add(now - self._published[number])
            case "renewed":
                subscriber.certified = payload
                subscriber.renew_s = uint_in(payload, "renew_ms") / 1000
                self._counts["mismatches"] += not matches(payload)
            case "welcome":
                self._welcomed(subscriber, payload, now)
            case "subscribed":
                subscriber.certified = payload
                self._subscribed(subscriber, now)
            case "revoked" | "error":
                counted = "revoked" if subscriber.stage is Stage.PRESENT else "refused"
                self._again(subscriber, counted, uint_in(payload, "retry_ms") / 1000)
            case "bye" | "position":
                pass  # the end of the connection follows; the history goes on

    def _welcomed(self, subscriber: Subscriber, payload: bytes, now: float) -> None:
        subscriber.welcome = payload
        subscriber.renew_s = uint_in(payload, "renew_ms") / 1000
        if not subscriber.resuming:
            return
        subscriber.resuming = False
        if was_resumed(payload):
            self._counts["resumed"] += self._counts_return(subscriber)
            subscriber.certified = payload
            self._subscribed(subscriber, now)
        else:
            self._send(subscriber, subscribe_frame(self._topic(subscriber.topic)))

    def _subscribed(self, subscriber: Subscriber, now: float) -> None:
        subscriber.stage, subscriber.attempts = Stage.PRESENT, 1
        subscriber.since = len(self._published)
        self._present[subscriber] = None
        self._opening.add(now - subscriber.came_at)
        self._at(now + self._renew_s(subscriber), self._renew, subscriber)
        if self._lives:
            self._at(now + lifetime_s(self._random.random(), self._mean_s), self._end, subscriber)


def _retry_s(head: bytes) -> float:
    """Return the `Retry-After` of a refusal, in seconds; 0.0 without one."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"retry-after" and value.strip().isdigit():
            return float(value)
    return 0.0
