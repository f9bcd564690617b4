"""Many subscribers and one publisher in one process: epoll, `recv_into` one shared buffer, and counting.

``python -m bench.load.sink``, driven over `bench.load.process`. Nothing is parsed while measuring: sizes are known, so
a connection has all deliveries when it has as many bytes. Only the first delivery after `open` is read in full, on all
connections. The sink does not answer while measuring, so servers must not send pings or expect renewals then.

Times are those of this process alone, from just before the publish is written to the `recv` that completed a
connection. The clock is read once for each `EVENTS_MAX` connections that were ready together.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.load.process import LoadFailed, serve
from bench.load.protocols import PROTOCOLS, Change, Protocol, Softstate, Step, http_reply_is_whole, value_of

EVENTS_MAX = 64
RECEIVE_BYTES = 256 * 1024
HANDSHAKES_MAX = 64
"""Handshakes under way at once: few enough that no listen queue overflows and no server sheds load."""
NAP_S = 200e-6
"""Pause whenever fewer than `EVENTS_MAX` connections were ready.

Subscribers of a real server are on other machines. A sink that waited in epoll would be woken by nearly each delivery,
at the expense of both processes. With the pause, arrivals are known to about a quarter of a millisecond.
"""
OPEN_S_MAX = 120.0
ANSWER_S_MAX = 30.0
_NEVER = -(1 << 60)
"""Initial count of a connection that is not a subscriber, so low that it reaches no target."""


class Sink:
    """The connections to one server. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._protocol: Protocol = PROTOCOLS["softstate"]
        self._topics: Sequence[str] = ()
        self._apart = False
        self._buffer = bytearray(RECEIVE_BYTES)
        self._sockets: dict[int, socket.socket] = {}
        self._receive: dict[int, Callable[[bytearray], int]] = {}
        self._got: dict[int, int] = {}
        self._subscribers: list[int] = []
        self._publisher: socket.socket | None = None
        self._batch: socket.socket | None = None
        self._epoll = select.epoll()
        self._sequence = 0
        self._tls: ssl.SSLContext | None = None

    # Commands -------------------------------------------------------------------------------------------------------

    def open(
        self,
        protocol: str,
        port: int,
        connections: int,
        topics: Sequence[str],
        apart: bool = False,
        token: str = "",
        authority: str = "",
    ) -> dict[str, Any]:
        """Open all connections, subscribe, wait for all answers, and check one delivery of each topic in full.

        All follow all of `topics`, or each, if they follow them `apart`, its own: then there are as many topics, with
        names of one length, and one delivery is checked. Connections to softstate present the `token`, if there is one.
        With the file of an `authority`, all speak TLS.
        """
        self._tls = ssl.create_default_context(cafile=authority) if authority else None
        self._protocol = Softstate(token) if token else PROTOCOLS[protocol]
        self._topics = topics
        self._apart = apart
        began = time.monotonic()
        for followed, count in [([topic], 1) for topic in topics] if apart else [(topics, connections)]:
            for opened in self._connect_all(port, self._protocol.subscriber(followed), count):
                self._admit(opened, 0)
                self._subscribers.append(opened.fileno())
        opened_s = time.monotonic() - began
        [self._publisher] = self._connect_all(port, self._protocol.publisher(), 1)
        self._admit(self._publisher, _NEVER)
        batch = self._protocol.batch()
        self._batch = self._publisher
        if batch is not None:
            [self._batch] = self._connect_all(port, batch, 1)
            warm_up = self._protocol.warm_up()
            if warm_up is not None:
                _exchange(self._batch, warm_up)
            self._admit(self._batch, _NEVER)
        self._settle()
        for topic in topics[:1] if apart else topics:
            self._check(self._changes([topic])[0], self._subscribers[:1] if apart else self._subscribers)
        return {"opened": len(self._subscribers), "open_s": opened_s}

    def paced(self, changes: int) -> dict[str, Any]:
        """Publish changes of the first topic, each when all subscribers have the one before."""
        arrivals: list[int] = []
        wall_ns = 0
        cpu = time.process_time_ns()
        for _ in range(changes):
            data = self._protocol.publish(self._changes(self._topics[:1]))
            began = time.monotonic_ns()
            self._publishing().sendall(data)
            self._collect(self._protocol.delivery_bytes(self._topics[0]), began, arrivals)
            wall_ns += arrivals[-1]
        cpu = time.process_time_ns() - cpu
        return self._result(changes, wall_ns, cpu, arrivals)

    def bursts(self, times: int) -> dict[str, Any]:
        """Publish one change of each topic at once; the next burst when all subscribers have this one."""
        mine = self._topics[:1] if self._apart else self._topics
        each = sum(map(self._protocol.delivery_bytes, mine))
        arrivals: list[int] = []
        wall_ns = 0
        cpu = time.process_time_ns()
        for _ in range(times):
            data = self._protocol.publish_batch(self._changes(self._topics))
            assert self._batch is not None
            began = time.monotonic_ns()
            self._batch.sendall(data)
            self._collect(each, began, arrivals)
            wall_ns += arrivals[-1]
        cpu = time.process_time_ns() - cpu
        return self._result(times * len(mine), wall_ns, cpu, arrivals)

    def unfollowed(self, times: int) -> dict[str, Any]:
        """Publish as many changes at once as `bursts` does, of topics without subscribers, each when all are answered.

        Only for softstate. There are no deliveries in it; `wall_s` is the sum of the times until the answers.
        """
        assert self._batch is not None
        self._settle()
        wall_ns = 0
        for _ in range(times):
            changes = [Change(f"x{topic}", value) for topic, value in self._changes(self._topics)]
            step = Step(self._protocol.publish_batch(changes), http_reply_is_whole)
            began = time.monotonic_ns()
            _exchange(self._batch, step)
            wall_ns += time.monotonic_ns() - began
        self._batch.setblocking(False)
        return {"wall_s": wall_ns / 1e9}

    def hot(self, changes: int, timeout_s: float) -> dict[str, Any]:
        """Publish changes of the first topic as fast as the server reads them, until all subscribers hold the last.

        A server may leave out older values, so the number of deliveries is unknown, and only the end of each
        connection's data is compared.
        """
        batch = [self._changes(self._topics[:1])[0] for _ in range(changes)]
        data = memoryview(self._protocol.publish(batch))
        tail = batch[-1].value + self._protocol.trailer
        cpu, began = time.process_time_ns(), time.monotonic_ns()
        received, arrivals = self._collect_last(data, tail, began, timeout_s)
        cpu = time.process_time_ns() - cpu
        self._settle()
        return self._result(changes, arrivals[-1], cpu, arrivals) | {"received_bytes": received}

    # Opening --------------------------------------------------------------------------------------------------------

    def _connect_all(self, port: int, steps: Sequence[Step], count: int) -> list[socket.socket]:
        """Open connections, `HANDSHAKES_MAX` at a time, and return them non-blocking when all are answered."""
        done: list[socket.socket] = []
        waiting: deque[socket.socket] = deque()
        deadline = time.monotonic() + OPEN_S_MAX
        while len(done) < count:
            if time.monotonic() > deadline:
                raise LoadFailed(f"only {len(done)} of {count} connections opened within {OPEN_S_MAX:g} s")
            while len(waiting) < HANDSHAKES_MAX and len(done) + len(waiting) < count:
                opened = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S_MAX)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    opened = self._tls.wrap_socket(opened, server_hostname="127.0.0.1")
                if steps:
                    opened.sendall(steps[0].send)
                waiting.append(opened)
            # All connections of the group have sent their first request: the server works while we wait for one.
            group = list(waiting)
            waiting.clear()
            for number, step in enumerate(steps):
                for opened in group:
                    if number > 0:
                        opened.sendall(step.send)
                for opened in group:
                    _answer(opened, step)
            done += group
        for opened in done:
            opened.setblocking(False)
        return done

    def _admit(self, opened: socket.socket, got: int) -> None:
        number = opened.fileno()
        opened.setblocking(False)
        # Delayed acknowledgements, as between machines: else each `recv` sends one, a third of the sink's cost.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        self._sockets[number] = opened
        self._receive[number] = partial(_unseal, opened) if isinstance(opened, ssl.SSLSocket) else opened.recv_into
        self._got[number] = got
        self._epoll.register(number, select.EPOLLIN)

    def _publishing(self) -> socket.socket:
        assert self._publisher is not None
        return self._publisher

    def _settle(self) -> None:
        """Receive for `settle_s`, and answer requests that the server sends on its own."""
        unasked = self._protocol.unasked
        settle_s = self._protocol.settle_s
        self._protocol.settle_s = min(settle_s, 0.2)  # the whole time only after opening
        deadline = time.monotonic() + settle_s
        while (left_s := deadline - time.monotonic()) > 0:
            for number, _ in self._epoll.poll(left_s, EVENTS_MAX):
                size = self._receive[number](self._buffer)
                if unasked is not None and bytes(self._buffer[:size]) == unasked[0]:
                    self._sockets[number].send(unasked[1])

    def _changes(self, topics: Sequence[str]) -> list[Change]:
        changes = []
        for topic in topics:
            self._sequence += 1
            changes.append(Change(topic, value_of(self._sequence)))
        return changes

    def _check(self, change: Change, subscribers: Sequence[int]) -> None:
        """Publish one change, and compare the delivery to each of its subscribers."""
        want = self._protocol.delivery_bytes(change.topic)
        seen = dict.fromkeys(subscribers, b"")
        left = set(seen)
        self._publishing().sendall(self._protocol.publish([change]))
        deadline = time.monotonic() + ANSWER_S_MAX
        while left:
            if time.monotonic() > deadline:
                raise LoadFailed(f"{len(left)} of {len(seen)} did not get the first delivery of {change.topic}")
            for number, _ in self._epoll.poll(1.0, EVENTS_MAX):
                data = bytes(self._buffer[: self._receive[number](self._buffer)])
                if number in seen:
                    seen[number] += data
                    if len(seen[number]) >= want:
                        left.discard(number)
        wrong = [data for data in seen.values() if not self._protocol.holds(data, change)]
        if wrong:
            raise LoadFailed(f"{len(wrong)} got other bytes than a delivery of {change}: {wrong[0]!r}")

    # Counting -------------------------------------------------------------------------------------------------------

    def _collect(self, each: int, began_ns: int, arrivals: list[int]) -> None:
        """Receive until each subscriber has `each` bytes; append the times of that, in ns after `began_ns`."""
        got, receive, buffer, poll = self._got, self._receive, self._buffer, self._epoll.poll
        clock = time.monotonic_ns
        for number in self._subscribers:
            got[number] = 0
        left = len(self._subscribers)
        while left:
            events = poll(ANSWER_S_MAX, EVENTS_MAX)
            if not events:
                raise LoadFailed(f"{left} of {len(self._subscribers)} lack bytes after {ANSWER_S_MAX:g} s")
            now = clock() - began_ns
            for number, _ in events:
                size = receive[number](buffer)
                count = got[number] + size
                got[number] = count
                if count >= each:
                    if count > each or not size:
                        raise LoadFailed(f"a subscriber got {count} bytes, not {each}")
                    arrivals.append(now)
                    left -= 1
                elif not size:
                    raise LoadFailed("the server closed a connection")
            if len(events) < EVENTS_MAX and left:
                time.sleep(NAP_S)

    def _collect_last(self, out: memoryview, tail: bytes, began_ns: int, timeout_s: float) -> tuple[int, list[int]]:
        """Write `out` as the server reads it, and receive until the data of each subscriber ends in `tail`."""
        publisher = self._publishing()
        writing = publisher.fileno()
        self._epoll.modify(writing, select.EPOLLIN | select.EPOLLOUT)
        ends = dict.fromkeys(self._subscribers, b"")
        arrivals: list[int] = []
        received = 0
        deadline = time.monotonic() + timeout_s
        while len(arrivals) < len(self._subscribers):
            if time.monotonic() > deadline:
                lacking = len(self._subscribers) - len(arrivals)
                raise LoadFailed(f"{lacking} of {len(self._subscribers)} lack the last value after {timeout_s:g} s")
            for number, event in self._epoll.poll(1.0, EVENTS_MAX):
                if event & select.EPOLLOUT:
                    out = out[publisher.send(out) :]
                    if not out:
                        self._epoll.modify(writing, select.EPOLLIN)
                if event & ~select.EPOLLOUT:
                    size = self._receive[number](self._buffer)
                    if not size:
                        raise LoadFailed("the server closed a connection")
                    if number not in ends:
                        continue
                    received += size
                    end = bytes(self._buffer[max(0, size - len(tail)) : size])
                    ends[number] = end = (ends[number] + end)[-len(tail) :]
                    if end == tail:
                        arrivals.append(time.monotonic_ns() - began_ns)
        return received, arrivals

    def _result(self, changes: int, wall_ns: int, cpu_ns: int, arrivals: list[int]) -> dict[str, Any]:
        ordered = sorted(arrivals)
        return {
            "changes": changes,
            "deliveries": changes * len(self._subscribers),
            "wall_s": wall_ns / 1e9,
            "sink_cpu_s": cpu_ns / 1e9,
            "p50_s": ordered[len(ordered) // 2] / 1e9,
            "p99_s": ordered[len(ordered) * 99 // 100] / 1e9,
        }


def _unseal(opened: ssl.SSLSocket, buffer: bytearray) -> int:
    """Receive a record, which has begun to come."""
    while True:
        try:
            return opened.recv_into(buffer)
        except ssl.SSLWantReadError:
            select.select([opened], [], [], ANSWER_S_MAX)


def _exchange(opened: socket.socket, step: Step) -> None:
    opened.setblocking(True)
    opened.sendall(step.send)
    _answer(opened, step)


def _answer(opened: socket.socket, step: Step) -> None:
    """Read the answer to a step."""
    opened.settimeout(ANSWER_S_MAX)
    data = b""
    try:
        while not step.complete(data):
            more = opened.recv(65_536)
            if not more:
                raise LoadFailed(f"closed during the handshake, after {data[:80]!r}")
            data += more
    except ValueError as refused:
        raise LoadFailed(f"handshake refused: {refused}") from None


def main() -> None:
    """Serve commands until the parent ends."""
    sink = Sink()
    serve(
        {"open": sink.open, "paced": sink.paced, "bursts": sink.bursts, "hot": sink.hot, "unfollowed": sink.unfollowed}
    )


if __name__ == "__main__":
    main()
