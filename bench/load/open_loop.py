"""An open loop: publishers that publish by the clock, and subscribers that note the arrival of each value.

``python -m bench.load.open_loop``, driven over `bench.load.process`. Each publish has an *intended* time, and all
latencies count from it, whether or not the publish before it was answered by then. So if the server, or this process,
stalls, the delay of each publish that was due in that time is counted ("coordinated omission", Gil Tene).

A subscriber *has* a publish when it holds that value or a newer one of its topic. Values end in their number.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from bench.load.frames import client_frame, take_frames
from bench.load.process import LoadFailed, serve
from bench.load.protocols import SEQUENCE_BYTES, Softstate, value_of
from softstate.wire import CBOR, messages

EVENTS_MAX = 64
RECEIVE_BYTES = 256 * 1024
ANSWER_S_MAX = 30.0
SETTLE_S_MAX = 30.0
"""Time after the last intended publish within which all deliveries must arrive."""
NAP_S = 100e-6
"""Pause when nothing is due: waking up for each frame would cost the server as much as the delivery."""


class Stream:
    """A connection after its handshake, with its unparsed bytes."""

    __slots__ = ("held", "rest", "socket", "topic", "waiting")

    def __init__(self, opened: socket.socket, topic: int) -> None:
        self.socket = opened
        self.topic = topic
        self.rest = b""
        self.held = 0
        """For a subscriber: number of the publishes of its topic that it has."""
        self.waiting: deque[int] = deque()
        """For a publisher: numbers of its unanswered publishes, in order."""


class OpenLoop:
    """Publishers and subscribers of one server, or of several. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._subscribers: dict[int, Stream] = {}
        self._publishers: dict[int, Stream] = {}
        self._turns: list[Stream] = []
        self._topics: list[str] = []
        self._protocol = Softstate()
        self._sent = 0
        self._first = 0
        self._each: list[list[int]] = []
        """For each topic, the numbers of its publishes in this run."""
        self._intended: list[float] = []
        self._acknowledged: list[float] = []
        self._delivered: list[tuple[int, float]] = []
        self._unanswered = 0
        self._owed = 0

    # Commands -------------------------------------------------------------------------------------------------------

    def open(
        self, port: int, topics: int, subscribers_each: int, publishers: int, subscriber_ports: Sequence[int] = (),
        token: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Connect publishers, and for each topic so many subscribers, to the same port or in turn to others.

        All present the `token`, if there is one.
        """
        self._protocol = Softstate(token)
        self._topics = [f"latency/{number:03}" for number in range(topics)]
        for number in range(publishers):
            opened = self._connect(port, None)
            self._publishers[opened.fileno()] = Stream(opened, number)
        ports = cycle(subscriber_ports or [port])
        for number, topic in enumerate(self._topics):
            for _ in range(subscribers_each):
                opened = self._connect(next(ports), topic)
                self._subscribers[opened.fileno()] = Stream(opened, number)
        self._turns = list(self._publishers.values())
        return {"subscribers": len(self._subscribers)}

    def ceiling(self, seconds: float, outstanding: int) -> dict[str, Any]:
        """Keep so many publishes under way for some seconds; return the rate of acknowledgements."""
        self._begin()
        began = now = time.monotonic()
        while now - began < seconds:
            while self._sent - self._first - self._answered < outstanding:
                self._publish(now)
            self._turn(1.0, nap=False)
            now = time.monotonic()
        per_s = self._answered / (now - began)
        self._settle()
        return {"per_s": per_s}

    def run(self, per_s: float, seconds: float) -> dict[str, Any]:
        """Publish by the clock, and return the latencies of all publishes and deliveries, in seconds."""
        self._begin()
        cpu = time.process_time()
        began = time.monotonic() + 0.01
        late: list[float] = []
        due = began
        count = round(per_s * seconds)
        for number in range(count):
            due = began + number / per_s
            while (now := time.monotonic()) < due:
                self._turn(due - now, nap=True)
            self._publish(due)
            late.append(now - due)
            if number % EVENTS_MAX == 0:
                self._turn(0.0, nap=False)  # receive also when always late
        self._settle()
        wall_s = time.monotonic() - began
        first = self._first
        applied = [at - self._intended[number - first] for number, at in self._delivered]
        after = [at - self._acknowledged[number - first] for number, at in self._delivered]
        answered = [at - due for at, due in zip(self._acknowledged, self._intended, strict=True)]
        return {
            **quantiles("applied", applied),
            **quantiles("acknowledged", answered),
            **quantiles("after", after),
            **quantiles("late", late),
            "publishes": count,
            "deliveries": len(applied),
            "generator_busy": (time.process_time() - cpu) / wall_s,
        }

    # Opening --------------------------------------------------------------------------------------------------------

    def _connect(self, port: int, topic: str | None) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S_MAX)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        steps = self._protocol.publisher() if topic is None else self._protocol.subscriber([topic])
        for step in steps:
            opened.sendall(step.send)
            data = b""
            while not step.complete(data):
                more = opened.recv(RECEIVE_BYTES)
                if not more:
                    raise LoadFailed("closed during the handshake")
                data += more
        opened.setblocking(False)
        self._epoll.register(opened.fileno(), select.EPOLLIN)
        return opened

    # Publishing and receiving ---------------------------------------------------------------------------------------

    @property
    def _answered(self) -> int:
        return len(self._acknowledged) - self._unanswered

    def _begin(self) -> None:
        self._first = self._sent
        self._each = [[] for _ in self._topics]
        self._intended, self._acknowledged, self._delivered = [], [], []
        self._unanswered = self._owed = 0
        for stream in self._subscribers.values():
            stream.held = 0

    def _publish(self, intended: float) -> None:
        number = self._sent
        self._sent += 1
        topic = number % len(self._topics)
        self._each[topic].append(number)
        self._intended.append(intended)
        self._acknowledged.append(0.0)
        self._unanswered += 1
        self._owed += len(self._subscribers) // len(self._topics)
        # A topic is always published on the same connection: on several, the order would not be defined.
        stream = self._turns[topic % len(self._turns)]
        stream.waiting.append(number)
        data = client_frame(CBOR.encode(messages.Publish(number, self._topics[topic], value_of(number))))
        if stream.socket.send(data) != len(data):
            raise LoadFailed("the server does not read publishes as fast as they are due")

    def _turn(self, timeout_s: float, *, nap: bool) -> None:
        events = self._epoll.poll(0 if nap else timeout_s, EVENTS_MAX)
        if nap and not events:
            time.sleep(min(timeout_s, NAP_S))
            return
        now = time.monotonic()
        for fd, _ in events:
            stream = self._subscribers.get(fd)
            take: Callable[[Stream, Sequence[bytes], float], None] = self._deliver
            if stream is None:
                stream, take = self._publishers[fd], self._acknowledge
            data = stream.socket.recv(RECEIVE_BYTES)
            if not data:
                raise LoadFailed("the server closed a connection")
            payloads, stream.rest = take_frames(stream.rest + data if stream.rest else data)
            take(stream, payloads, now)

    def _deliver(self, stream: Stream, payloads: Sequence[bytes], now: float) -> None:
        each = self._each[stream.topic]
        for payload in payloads:
            try:
                number = int(payload[-SEQUENCE_BYTES:])
            except ValueError:
                raise LoadFailed(f"not a delivery: {CBOR.server_message(payload)}") from None
            while stream.held < len(each) and each[stream.held] <= number:
                self._delivered.append((each[stream.held], now))
                stream.held += 1
                self._owed -= 1

    def _acknowledge(self, stream: Stream, payloads: Sequence[bytes], now: float) -> None:
        for payload in payloads:
            number = stream.waiting.popleft()
            if b"published" not in payload:
                raise LoadFailed(f"a publish was refused: {CBOR.server_message(payload)}")
            self._acknowledged[number - self._first] = now
            self._unanswered -= 1

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_S_MAX
        while self._owed or self._unanswered:
            if time.monotonic() > deadline:
                raise LoadFailed(f"{self._owed} deliveries, {self._unanswered} answers missing after {SETTLE_S_MAX} s")
            self._turn(1.0, nap=False)


QUANTILES = {"50": 0.5, "99": 0.99, "999": 0.999}


def quantiles(name: str, values: list[float]) -> dict[str, float]:
    """Return quantiles of some values, by the names of figures."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {f"{name}_p{text}_s": ordered[round(last * share)] for text, share in QUANTILES.items()}


def main() -> None:
    """Serve commands until the parent ends."""
    loop = OpenLoop()
    serve({"open": loop.open, "ceiling": loop.ceiling, "run": loop.run})


if __name__ == "__main__":
    main()
