"""Subscribers that come and go: Poisson arrivals, heavy-tailed lifetimes, and some that vanish silently.

``python -m bench.load.churn``, driven over `bench.load.process`. A subscriber that leaves sends `bye`. One that
vanishes no longer reads or sends, and keeps its socket open until the node must have closed the connection, as if its
network had failed. One more connection publishes by the clock; staleness is the time from when a publish was due until
a subscriber, whose subscribe was answered before, has it.
"""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections import deque
from enum import Enum
from random import Random
from typing import Any

from bench.load.frames import client_frame, take_frames
from bench.load.process import LoadFailed, serve
from bench.load.protocols import SEQUENCE_BYTES, value_of
from bench.load.sessions import BYE, HELLO, RECEIVE_BYTES, UPGRADE
from softstate.lease.table import GRACE
from softstate.session.load_advice import RENEWALS_PER_TTL
from softstate.wire import CBOR, messages
from softstate.wire.subscription_digest import digest_of, digest_text

EVENTS_MAX = 64
NAP_S_MAX = 0.05
TOPICS = 50
TAIL = 1.5
"""Exponent of the Pareto distribution of lifetimes: without the cut-off it has a mean and no variance."""
LIFETIME_MEANS_MAX = 10.0
"""Cut-off of lifetimes, in means, so that a run reaches a steady state."""
VANISHING = 0.25
"""Share of subscribers that vanish."""
IDLE_LEASES = 2
"""Silence, in multiples of TTL plus grace, after which a node closes a connection."""


def lifetime_s(share: float, mean_s: float) -> float:
    """Return the quantile `share` (0 to 1, 1 excluded) of the lifetimes."""
    least_s = mean_s * (TAIL - 1) / TAIL
    return float(min(least_s * (1 - share) ** (-1 / TAIL), LIFETIME_MEANS_MAX * mean_s))


class Stage(Enum):
    """The states of a subscriber."""

    UPGRADING = "upgrading"
    SUBSCRIBING = "subscribing"
    PRESENT = "present"
    LEAVING = "leaving"
    VANISHED = "vanished"
    GONE = "gone"


class Subscriber:
    """One arrival. `frames` answers are missing until it is subscribed; it must get all publishes from `since` on."""

    __slots__ = (
        "arrived_at", "data", "ends_at", "fd", "frames", "renewal", "since", "socket", "stage", "subscribe", "vanishes"
    )  # fmt: skip

    def __init__(self, opened: socket.socket, topic: str, arrived_at: float, ends_at: float, *, vanishes: bool) -> None:
        self.socket = opened
        self.fd = opened.fileno()
        self.arrived_at = arrived_at
        self.ends_at = ends_at
        self.vanishes = vanishes
        self.stage = Stage.UPGRADING
        self.data = b""
        self.frames = 2
        self.since = 0
        self.subscribe = client_frame(CBOR.encode(messages.Subscribe(1, {topic: 0})))
        self.renewal = client_frame(CBOR.encode(messages.Renew(2, digest_text(digest_of([topic])), 1)))


class Churn:
    """All subscribers of one node. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._subscribers: dict[int, Subscriber] = {}
        self._due: list[tuple[float, int, Subscriber]] = []
        self._pushed = 0
        self._random = Random(1)
        self._publisher: socket.socket | None = None
        self._port = 0
        self._ttl_s = self._mean_s = 0.0
        self._publishes_per_s = 0.0
        self._publish_at = 0.0
        self._published: deque[float] = deque()
        self._stale_s: list[float] = []
        self._opening_s: list[float] = []

    # Commands -------------------------------------------------------------------------------------------------------

    def open(self, port: int, ttl_s: float, mean_s: float, publishes_per_s: float, seed: int) -> dict[str, Any]:
        """Connect the publisher."""
        self._port, self._ttl_s, self._mean_s = port, ttl_s, mean_s
        self._publishes_per_s, self._random = publishes_per_s, Random(seed)
        publisher = socket.create_connection(("127.0.0.1", port), timeout=30)
        publisher.sendall(UPGRADE)
        while not publisher.recv(RECEIVE_BYTES).endswith(b"\r\n\r\n"):
            pass
        publisher.sendall(HELLO)
        publisher.recv(RECEIVE_BYTES)
        publisher.setblocking(False)
        self._publisher = publisher
        self._epoll.register(publisher.fileno(), select.EPOLLIN)
        self._publish_at = time.monotonic()
        return {}

    def phase(self, per_s: float, seconds: float) -> dict[str, Any]:
        """Let subscribers arrive at a rate for some seconds."""
        self._stale_s.clear()
        self._opening_s.clear()
        cpu, began = time.process_time(), time.monotonic()
        ends, now = began + seconds, began
        arrives_at = began + self._random.expovariate(per_s)
        arrivals = renewals = 0
        while now < ends:
            while arrives_at <= now:
                self._arrive(arrives_at)
                arrivals += 1
                arrives_at += self._random.expovariate(per_s)
            while self._publish_at <= now:
                self._publish(self._publish_at)
                self._publish_at += 1 / self._publishes_per_s
            while self._due and self._due[0][0] <= now:
                at, _, subscriber = heapq.heappop(self._due)
                renewals += self._act(subscriber, at)
            next_at = min(arrives_at, self._publish_at, ends, self._due[0][0] if self._due else math.inf)
            self._turn(min(max(next_at - now, 0.0), NAP_S_MAX))
            now = time.monotonic()
        stale, opening = sorted(self._stale_s) or [0.0], sorted(self._opening_s) or [0.0]
        return {
            "arrivals": arrivals,
            "renewals": renewals,
            "deliveries": len(self._stale_s),
            "stale_p50_s": stale[len(stale) // 2],
            "stale_p99_s": stale[len(stale) * 99 // 100],
            "opening_p99_s": opening[len(opening) * 99 // 100],
            "generator_busy": (time.process_time() - cpu) / seconds,
        }

    # Due actions ---------------------------------------------------------------------------------------------------

    def _arrive(self, at: float) -> None:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(UPGRADE)
        opened.setblocking(False)
        ends_at = at + lifetime_s(self._random.random(), self._mean_s)
        topic = f"churn/{self._random.randrange(TOPICS):02}"
        subscriber = Subscriber(opened, topic, at, ends_at, vanishes=self._random.random() < VANISHING)
        self._subscribers[subscriber.fd] = subscriber
        self._epoll.register(subscriber.fd, select.EPOLLIN)
        self._at(ends_at, subscriber)
        self._at(at + self._renew_s, subscriber)

    @property
    def _renew_s(self) -> float:
        return self._ttl_s / RENEWALS_PER_TTL

    def _at(self, at: float, subscriber: Subscriber) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (at, self._pushed, subscriber))

    def _act(self, subscriber: Subscriber, at: float) -> int:
        """Do the due action of a subscriber; return 1 for a renewal."""
        if subscriber.stage is Stage.VANISHED:
            if at >= subscriber.ends_at + self._closed_by_node_s:
                subscriber.socket.close()
                subscriber.stage = Stage.GONE
        elif subscriber.stage is Stage.PRESENT and at < subscriber.ends_at:
            subscriber.socket.send(subscriber.renewal)
            self._at(at + self._renew_s, subscriber)
            return 1
        elif subscriber.stage in (Stage.UPGRADING, Stage.SUBSCRIBING):
            self._at(at + self._renew_s / 10, subscriber)  # not subscribed yet
        elif subscriber.stage is Stage.PRESENT:
            self._end(subscriber)
        return 0

    @property
    def _closed_by_node_s(self) -> float:
        return (IDLE_LEASES + 1) * self._ttl_s * (1 + GRACE)

    def _end(self, subscriber: Subscriber) -> None:
        if subscriber.vanishes:
            subscriber.stage = Stage.VANISHED
            self._epoll.unregister(subscriber.fd)
            del self._subscribers[subscriber.fd]
            self._at(subscriber.ends_at + self._closed_by_node_s, subscriber)
            return
        subscriber.stage = Stage.LEAVING
        subscriber.socket.send(BYE)
        subscriber.socket.shutdown(socket.SHUT_WR)

    def _publish(self, due: float) -> None:
        assert self._publisher is not None
        number = len(self._published)
        self._published.append(due)
        topic = f"churn/{number % TOPICS:02}"
        self._publisher.send(client_frame(CBOR.encode(messages.Publish(number, topic, value_of(number)))))

    # Received data ------------------------------------------------------------------------------------------------

    def _turn(self, timeout_s: float) -> None:
        for fd, _ in self._epoll.poll(timeout_s, EVENTS_MAX):
            subscriber = self._subscribers.get(fd)
            if subscriber is None:
                assert self._publisher is not None
                if not self._publisher.recv(RECEIVE_BYTES):
                    raise LoadFailed("the server closed the publisher's connection")
                continue
            data = subscriber.socket.recv(RECEIVE_BYTES)
            if data:
                self._took(subscriber, data)
            elif subscriber.stage is Stage.LEAVING:
                subscriber.stage = Stage.GONE
                self._epoll.unregister(fd)
                del self._subscribers[fd]
                subscriber.socket.close()
            else:
                raise LoadFailed("the server closed a connection")

    def _took(self, subscriber: Subscriber, data: bytes) -> None:
        data = subscriber.data + data
        if subscriber.stage is Stage.UPGRADING:
            subscriber.data = data
            if b"\r\n\r\n" in data:
                if not data.startswith(b"HTTP/1.1 101"):
                    raise LoadFailed(f"handshake refused: {data[:40]!r}")
                subscriber.data = b""
                subscriber.stage = Stage.SUBSCRIBING
                subscriber.socket.send(HELLO + subscriber.subscribe)
            return
        payloads, subscriber.data = take_frames(data)
        now = time.monotonic()
        for payload in payloads:
            if subscriber.frames:
                subscriber.frames -= 1
                if not subscriber.frames:
                    subscriber.stage = Stage.PRESENT
                    subscriber.since = len(self._published)
                    self._opening_s.append(now - subscriber.arrived_at)
            elif payload[-SEQUENCE_BYTES:].isdigit():
                number = int(payload[-SEQUENCE_BYTES:])
                if number >= subscriber.since:
                    self._stale_s.append(now - self._published[number])


def main() -> None:
    """Serve commands until the parent ends."""
    churn = Churn()
    serve({"open": churn.open, "phase": churn.phase})


if __name__ == "__main__":
    main()
