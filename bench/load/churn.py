"""Subscribers that come and go: Poisson arrivals, heavy-tailed lifetimes, some that vanish silently and may return.

``python -m bench.load.churn``, driven over `bench.load.process`; several processes share a large load. One that leaves
sends `bye`. One that vanishes neither reads nor sends, and keeps its socket until the node has closed the connection,
as if its network had failed; it may return by another connection, and ask for its session (`bench.load.subscribers`).

One more connection publishes by the clock to topics of this process. Staleness is the time from when a publish was due
until a subscriber, whose subscribe was answered before, has it.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from bench.load.frames import client_frame
from bench.load.lifetimes import residual_s
from bench.load.process import LoadFailed, serve
from bench.load.protocols import value_of
from bench.load.sessions import HELLO, UPGRADE
from bench.load.subscribers import RECEIVE_BYTES, TOPICS, Subscribers
from softstate.server.descriptors import raise_limit
from softstate.wire import CBOR, messages

NOBODYS = "nobody"
"""The last part of the topic that nobody follows."""
TOGETHER_S = 1.0
"""Time within which a crowd arrives, or a part of all leaves."""
FILL_S_MAX = 600.0
"""Time after which `fill` gives up."""


class Churn(Subscribers):
    """The subscribers and the publisher of one process. Each public method of the first part is a command."""

    def __init__(self) -> None:
        super().__init__()
        self._publisher: socket.socket | None = None
        self._newest = [-1] * TOPICS
        """The number of the newest publish to each topic."""
        self._publish_at = self._arrive_at = math.inf
        self._publish_s = self._per_s = 0.0
        self._followed = True

    # Commands -------------------------------------------------------------------------------------------------------

    def open(self, port: int, part: int, mean_s: float, seed: int, away_s: Sequence[float] = ()) -> dict[str, Any]:
        """Connect the publisher of process `part`. With `away_s`, those that vanish return after U(least, most)."""
        raise_limit()
        self._port, self._part, self._mean_s = port, part, mean_s
        self._random = Random(seed * 1_000 + part)
        self._away_s = (away_s[0], away_s[1]) if away_s else None
        publisher = socket.create_connection(("127.0.0.1", port), timeout=30)
        publisher.sendall(UPGRADE)
        while not publisher.recv(RECEIVE_BYTES).endswith(b"\r\n\r\n"):
            pass
        publisher.sendall(HELLO)
        publisher.recv(RECEIVE_BYTES)
        publisher.setblocking(False)
        self._publisher = publisher
        self._epoll.register(publisher.fileno(), select.EPOLLIN)
        return {}

    def fill(self, sessions: int, per_s: float) -> dict[str, Any]:
        """Let so many arrive at an even rate, until all are subscribed. Raises `LoadFailed` if they never are."""
        self.forget()
        cpu, began = time.process_time(), time.monotonic()
        for number in range(sessions):
            self._at(began + number / per_s, self._dial, self._new(began + number / per_s))
        while len(self._present) < sessions:
            self._go_on()
            if time.monotonic() - began > FILL_S_MAX:
                raise LoadFailed(f"only {len(self._present)} of {sessions} are subscribed after {FILL_S_MAX:g} s")
        return self._told(cpu, time.monotonic() - began)

    def live(self) -> dict[str, Any]:
        """Begin the lives of those that are present, in the middle: of a population in a steady state."""
        self._lives = True
        now = time.monotonic()
        for subscriber in self._present:
            self._at(now + residual_s(self._random.random(), self._mean_s), self._end, subscriber)
        return {}

    def phase(
        self,
        seconds: float,
        per_s: float = 0.0,
        publishes_per_s: float = 0.0,
        crowd: int = 0,
        departure: float = 0.0,
        *,
        followed: bool = True,
    ) -> dict[str, Any]:
        """Go on for some seconds, with arrivals and publishes at these rates; return what happened.

        A `crowd` comes within `TOGETHER_S` of the beginning, and the part `departure` of all leaves, in order. If not
        `followed`, publishes are to topics that nobody follows. Of clients that return, those are counted that vanished
        in this phase, and so early that the last of them is back before its end: else either the quick or the slow
        ones would be too many.
        """
        self.forget()
        cpu, began = time.process_time(), time.monotonic()
        ends = began + seconds
        self._per_s, self._publish_s, self._followed = per_s, 1 / publishes_per_s if publishes_per_s else 0.0, followed
        self._arrive_at = began + self._random.expovariate(per_s) if per_s else math.inf
        self._publish_at = began if publishes_per_s else math.inf
        self._counted = began, ends - self._away_s[1] if self._away_s else ends
        for _ in range(crowd):
            at = began + self._random.uniform(0.0, TOGETHER_S)
            self._at(at, self._dial, self._new(at))
        for subscriber in list(self._present):
            if self._random.random() < departure:
                self._at(began + self._random.uniform(0.0, TOGETHER_S), self._leave, subscriber)
        while time.monotonic() < ends:
            self._go_on(ends)
        self._arrive_at = self._publish_at = math.inf
        return self._told(cpu, seconds)

    def rest(self, seconds: float) -> dict[str, Any]:
        """Go on without arrivals and publishes; return how many present ones lack the newest value of their topic."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self._go_on()
        behind = sum(
            subscriber.newest < self._newest[subscriber.topic] >= subscriber.since for subscriber in self._present
        )
        return {"behind": behind}

    def _told(self, cpu: float, seconds: float) -> dict[str, Any]:
        return {
            "counts": dict(self._counts),
            "present": len(self._present),
            "stale": self._stale.told(),
            "opening": self._opening.told(),
            "generator_busy": (time.process_time() - cpu) / seconds,
        }

    # The loop --------------------------------------------------------------------------------------------------------

    def _go_on(self, ends: float = math.inf) -> None:
        now = time.monotonic()
        while self._publish_at <= now:
            self._publish(self._publish_at)
            self._publish_at += self._publish_s
        while self._arrive_at <= now:
            self._dial(self._new(self._arrive_at), now)
            self._arrive_at += self._random.expovariate(self._per_s)
        self.turn(min(self._publish_at, self._arrive_at, ends))

    def other(self, fd: int) -> None:
        """Read what the publisher gets, besides."""
        if self._publisher is None or fd != self._publisher.fileno():
            super().other(fd)
            return
        data = self._publisher.recv(RECEIVE_BYTES)
        if not data:
            raise LoadFailed("the server closed the publisher's connection")
        self._counts["publish errors"] += data.count(b"bopeerror")

    def _publish(self, due: float) -> None:
        assert self._publisher is not None
        number, topic = len(self._published), f"churn/{self._part}/{NOBODYS}"
        if self._followed:
            self._published.append(due)
            topic = self._topic(number % TOPICS)
            self._newest[number % TOPICS] = number
        self._counts["publishes"] += 1
        self._publisher.send(client_frame(CBOR.encode(messages.Publish(number, topic, value_of(number)))))


def main() -> None:
    """Serve commands until the parent ends."""
    churn = Churn()
    serve({"open": churn.open, "fill": churn.fill, "live": churn.live, "phase": churn.phase, "rest": churn.rest})


if __name__ == "__main__":
    main()
