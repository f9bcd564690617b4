"""An engine alone: an open loop of writes with notifications, and a closed loop of writes.

``python -m bench.load.engines.native``, driven over `bench.load.process`. It does to an engine what
`bench.load.open_loop` and `bench.load.closed_loop` do to softstate, with as many connections and topics, values of the
same size, the same clock, and the same way of counting, in one thread.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import Any

from bench.load.engines.dialect import ANSWER_S_MAX, Dialect, Listener, Writer
from bench.load.open_loop import EVENTS_MAX, NAP_S, SETTLE_S_MAX, quantiles
from bench.load.process import LoadFailed, serve
from bench.load.protocols import SEQUENCE_BYTES, value_of

CONNECTIONS = (1, 2, 4, 8, 16)
"""Numbers of writers that are tried for the greatest rate."""
TRIES = 3
"""Tries of each; on a busy machine the best of several is steadier than one."""


def dialect(url: str, mark: str) -> Dialect:
    """Return the protocol of the engine that a store URL names. Raises `LoadFailed`."""
    # Imported when used, so that the drivers of other engines need not be installed.
    match url.partition(":")[0]:
        case "redis":
            from bench.load.engines.redis import Redis  # noqa: PLC0415

            return Redis(url, mark)
        case "postgresql" | "postgres":
            from bench.load.engines.postgres import Postgres  # noqa: PLC0415

            return Postgres(url, mark)
        case "etcd":
            from bench.load.engines.etcd import Etcd  # noqa: PLC0415

            return Etcd(url, mark)
        case scheme:
            raise LoadFailed(f"this bench cannot load {scheme}: URLs; use redis:, postgresql: or etcd:")


class Turn:
    """A writer, and its queue of publishes, the first of which is under way."""

    __slots__ = ("topic", "waiting", "writer")

    def __init__(self, topic: int, writer: Writer) -> None:
        self.topic = topic
        self.writer = writer
        self.waiting: deque[int] = deque()


class Native:
    """Writers and a listener of one engine. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._dialect: Dialect | None = None
        self._epoll = select.epoll()
        self._turns: dict[int, Turn] = {}
        self._order: list[Turn] = []
        self._listener: Listener | None = None
        self._bare: list[Writer] = []
        self._sent = self._first = 0
        self._intended: list[float] = []
        self._acknowledged: list[float] = []
        self._notified: list[tuple[int, float]] = []
        self._unanswered = 0

    # Commands -------------------------------------------------------------------------------------------------------

    def open(self, url: str, mark: str, topics: int) -> dict[str, Any]:
        """Connect a writer for each topic, and one listener."""
        self._dialect = dialect(url, mark)
        for topic in range(topics):
            writer = self._dialect.writer()
            self._order.append(Turn(topic, writer))
            self._turns[writer.fd] = self._order[-1]
            self._epoll.register(writer.fd, select.EPOLLIN)
        self._listener = self._dialect.listener()
        self._epoll.register(self._listener.fd, select.EPOLLIN)
        return {}

    def run(self, per_s: float, seconds: float) -> dict[str, Any]:
        """Write by the clock, and return the latencies of all writes and notifications, in seconds."""
        self._first = self._sent
        self._intended, self._acknowledged, self._notified = [], [], []
        cpu = time.process_time()
        began = time.monotonic() + 0.01
        late: list[float] = []
        count = round(per_s * seconds)
        for number in range(count):
            due = began + number / per_s
            while (now := time.monotonic()) < due:
                self._turn(due - now, nap=True)
            self._publish(due)
            late.append(now - due)
            if number % EVENTS_MAX == 0:
                self._turn(0.0, nap=False)
        self._settle(count)
        wall_s = time.monotonic() - began
        first = self._first
        return {
            **quantiles("applied", [at - self._intended[number - first] for number, at in self._notified]),
            **quantiles("acknowledged", [at - due for at, due in zip(self._acknowledged, self._intended, strict=True)]),
            **quantiles("after", [at - self._acknowledged[number - first] for number, at in self._notified]),
            **quantiles("late", late),
            "publishes": count,
            "deliveries": len(self._notified),
            "generator_busy": (time.process_time() - cpu) / wall_s,
        }

    def fastest(self, seconds: float) -> dict[str, Any]:
        """Try each number of `CONNECTIONS` `TRIES` times; return them, the one with the greatest rate first."""
        best = dict.fromkeys(CONNECTIONS, 0.0)
        for _ in range(TRIES):
            for count in CONNECTIONS:
                run = self.ask(count, seconds)
                best[count] = max(best[count], run["answers"] / run["wall_s"])
        return {"connections": sorted(CONNECTIONS, key=best.__getitem__, reverse=True)}

    def ask(self, connections: int, seconds: float) -> dict[str, Any]:
        """Write on so many connections, each again as soon as it is acknowledged, without notifications."""
        assert self._dialect is not None
        while len(self._bare) < connections:
            self._bare.append(self._dialect.writer())
        epoll = select.epoll()
        topics = {writer.fd: topic for topic, writer in enumerate(self._bare[:connections])}
        began: dict[int, float] = {}
        took: list[float] = []
        cpu, start = time.process_time(), time.monotonic()
        for fd, topic in topics.items():
            epoll.register(fd, select.EPOLLIN)
            began[fd] = time.monotonic()
            self._write_bare(topic)
        while began:
            events = epoll.poll(ANSWER_S_MAX, EVENTS_MAX)
            if not events:
                raise LoadFailed(f"{len(began)} writes have no answer after {ANSWER_S_MAX:g} s")
            for fd, _ in events:
                topic = topics[fd]
                if not self._bare[topic].acknowledged():
                    continue
                now = time.monotonic()
                took.append(now - began[fd])
                if now - start < seconds:
                    began[fd] = now
                    self._write_bare(topic)
                else:
                    del began[fd]
        epoll.close()
        wall_s = time.monotonic() - start
        took.sort()
        return {
            "answers": len(took),
            "wall_s": wall_s,
            "generator_cpu_s": time.process_time() - cpu,
            "p50_s": took[len(took) // 2],
            "p99_s": took[len(took) * 99 // 100],
        }

    def clear(self) -> dict[str, Any]:
        """Remove all that was written."""
        if self._dialect is not None:
            self._dialect.clear()
        return {}

    # Inside ---------------------------------------------------------------------------------------------------------

    def _write_bare(self, topic: int) -> None:
        self._bare[topic].write(topic, value_of(self._sent), tell=False)
        self._sent += 1

    def _publish(self, intended: float) -> None:
        number = self._sent
        self._sent += 1
        self._intended.append(intended)
        self._acknowledged.append(0.0)
        self._unanswered += 1
        turn = self._order[number % len(self._order)]
        turn.waiting.append(number)
        if len(turn.waiting) == 1:
            turn.writer.write(turn.topic, value_of(number), tell=True)

    def _turn(self, timeout_s: float, *, nap: bool) -> None:
        events = self._epoll.poll(0 if nap else timeout_s, EVENTS_MAX)
        if nap and not events:
            time.sleep(min(timeout_s, NAP_S))
            return
        now = time.monotonic()
        for fd, _ in events:
            if fd not in self._turns:
                assert self._listener is not None
                self._notified += [(int(value[-SEQUENCE_BYTES:]), now) for value in self._listener.values()]
                continue
            turn = self._turns[fd]
            if turn.writer.acknowledged():
                self._acknowledged[turn.waiting.popleft() - self._first] = now
                self._unanswered -= 1
                if turn.waiting:
                    turn.writer.write(turn.topic, value_of(turn.waiting[0]), tell=True)

    def _settle(self, count: int) -> None:
        deadline = time.monotonic() + SETTLE_S_MAX
        while len(self._notified) < count or self._unanswered:
            if time.monotonic() > deadline:
                missing = count - len(self._notified)
                raise LoadFailed(f"no {missing} notifications, {self._unanswered} answers after {SETTLE_S_MAX:g} s")
            self._turn(1.0, nap=False)


def main() -> None:
    """Serve commands until the parent ends."""
    native = Native()
    serve({
        "open": native.open, "run": native.run, "fastest": native.fastest, "ask": native.ask, "clear": native.clear,
    })  # fmt: skip


if __name__ == "__main__":
    main()
