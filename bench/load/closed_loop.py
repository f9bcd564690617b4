"""A closed loop: clients in one process that send a request, wait for the answer, and send the next one.

``python -m bench.load.closed_loop``, driven over `bench.load.process`. Each connection has one request under way. A
request is a template of bytes: `CONNECTION` in it becomes the connection's number, `SEQUENCE` a number that is used
once, both padded to the width of the placeholder, so that no length changes. An answer is only examined as far as
needed to see that it is complete and a success. Unlike `bench.load.sink`, this process waits in epoll without pauses,
since a client that waits for an answer receives it at once.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.load.frames import count_frames, upgrade
from bench.load.process import LoadFailed, serve, step_back
from bench.load.protocols import Softstate, Step

CONNECTION = b"@@@@@@"
SEQUENCE = b"##########"
EVENTS_MAX = 256
RECEIVE_BYTES = 65_536
ANSWER_S_MAX = 30.0


def exchanges(protocol: str, token: str = "") -> Sequence[Step]:
    """Return the exchanges on a new connection before the first request; one to softstate presents a token, if any."""
    match protocol:
        case "softstate":
            return Softstate(token).publisher()
        case "websocket":
            return [Step(upgrade("/"), lambda data: data.endswith(b"\r\n\r\n"))]
    return []


class ClosedLoop:
    """The connections to one server. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._numbers: dict[int, int] = {}
        self._epoll = select.epoll()
        self._sequence = 0
        self._protocol = "http"

    def open(self, port: int, connections: int, protocol: str, token: str = "") -> dict[str, Any]:
        """Close open connections; open new ones, and do their `exchanges`: http, softstate or websocket."""
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()
        self._numbers.clear()
        self._epoll = select.epoll()
        self._protocol = protocol
        for number in range(connections):
            opened = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S_MAX)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for step in exchanges(protocol, token):
                opened.sendall(step.send)
                data = b""
                while not step.complete(data):
                    more = opened.recv(RECEIVE_BYTES)
                    if not more:
                        raise LoadFailed(f"closed during the handshake, after {data[:80]!r}")
                    data += more
            self._sockets[opened.fileno()] = opened
            self._numbers[opened.fileno()] = number
            self._epoll.register(opened, select.EPOLLIN)
        return {}

    def once(self, request: str) -> dict[str, Any]:
        """Send a request once, on the first connection, and return the answer."""
        opened = next(iter(self._sockets.values()))
        opened.sendall(self._next(template(request.encode("latin-1"), 0)))
        return {"answer": self._receive(opened, self._whole("")).decode("latin-1")}

    def ask(self, request: str, seconds: float, good: str) -> dict[str, Any]:
        """Send requests on all connections for so many seconds; each answer must contain `good`."""
        sockets, poll, clock = self._sockets, self._epoll.poll, time.monotonic_ns
        data = request.encode("latin-1")
        following = {opened: template(data, number) for opened, number in self._numbers.items()}
        whole = self._whole(good)
        parts: dict[int, bytes] = {}
        began: dict[int, int] = {}
        took: list[int] = []
        cpu_ns, start = time.process_time_ns(), clock()
        end = start + int(seconds * 1e9)
        for number, opened in sockets.items():
            began[number] = clock()
            opened.sendall(self._next(following[number]))
        while began:
            events = poll(ANSWER_S_MAX, EVENTS_MAX)
            if not events:
                raise LoadFailed(f"{len(began)} requests have no answer after {ANSWER_S_MAX:g} s")
            for number, _ in events:
                data = sockets[number].recv(RECEIVE_BYTES)
                if not data:
                    raise LoadFailed("the server closed a connection")
                if number in parts:
                    data = parts.pop(number) + data
                if not whole(data):
                    parts[number] = data
                    continue
                now = clock()
                took.append(now - began[number])
                if now < end:
                    began[number] = now
                    sockets[number].sendall(self._next(following[number]))
                else:
                    del began[number]
        return _figures(took, (clock() - start) / 1e9, (time.process_time_ns() - cpu_ns) / 1e9)

    def pace(self, request: str, per_s: float, seconds: float, good: str) -> dict[str, Any]:
        """Send requests on the first connection by the clock, each once the one before is answered, at least one."""
        number, opened = next(iter(self._sockets.items()))
        following = template(request.encode("latin-1"), self._numbers[number])
        whole = self._whole(good)
        took: list[int] = []
        cpu_ns, start = time.process_time_ns(), time.monotonic_ns()
        for due in range(max(round(per_s * seconds), 1)):
            time.sleep(max(start / 1e9 + due / per_s - time.monotonic(), 0.0))
            began = time.monotonic_ns()
            opened.sendall(self._next(following))
            self._receive(opened, whole)
            took.append(time.monotonic_ns() - began)
        return _figures(took, (time.monotonic_ns() - start) / 1e9, (time.process_time_ns() - cpu_ns) / 1e9)

    def _receive(self, opened: socket.socket, whole: Callable[[bytes], bool]) -> bytes:
        answer = b""
        while not whole(answer):
            more = opened.recv(RECEIVE_BYTES)
            if not more:
                raise LoadFailed(f"the server closed the connection after {answer[:80]!r}")
            answer += more
        return answer

    def _next(self, request: Callable[[int], bytes]) -> bytes:
        self._sequence += 1
        return request(self._sequence)

    def _whole(self, good: str) -> Callable[[bytes], bool]:
        """Return the test for a complete answer; it raises `LoadFailed` if the answer does not contain `good`."""
        wanted = good.encode("latin-1")
        complete = http_is_whole if self._protocol == "http" else _frame_is_whole

        def whole(data: bytes) -> bool:
            if not complete(data):
                return False
            if wanted not in data:
                raise LoadFailed(f"unexpected answer: {data[:400]!r}")
            return True

        return whole


def _figures(took: list[int], wall_s: float, generator_cpu_s: float) -> dict[str, Any]:
    """Return the figures of a run: the times of all answers are in nanoseconds, in any order."""
    took.sort()
    return {
        "answers": len(took),
        "wall_s": wall_s,
        "generator_cpu_s": generator_cpu_s,
        "p50_s": took[len(took) // 2] / 1e9,
        "p99_s": took[len(took) * 99 // 100] / 1e9,
    }


def template(request: bytes, number: int) -> Callable[[int], bytes]:
    """Return a function from sequence numbers to a connection's requests; the constant parts are joined once."""
    fixed = request.replace(CONNECTION, b"%0*d" % (len(CONNECTION), number))
    pieces = fixed.split(SEQUENCE)
    if len(pieces) == 1:
        return lambda _sequence: fixed
    width = len(SEQUENCE)
    return lambda sequence: (b"%0*d" % (width, sequence)).join(pieces)


def http_is_whole(data: bytes) -> bool:
    """Return whether these are the head and body of a reply; without ``Content-Length`` it has no body."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = data.find(b"ontent-Length: ", 0, end)  # h11 keeps the case of names
    if at < 0:
        at = data.find(b"ontent-length: ", 0, end)
    if at < 0:
        return True
    size = int(data[at + 15 : data.index(b"\r\n", at)])
    return len(data) >= end + 4 + size


def _frame_is_whole(data: bytes) -> bool:
    return count_frames(data) >= 1


def main() -> None:
    """Serve commands until the parent ends."""
    loop = ClosedLoop()
    serve({"open": loop.open, "once": loop.once, "ask": loop.ask, "pace": loop.pace, "step_back": step_back})


if __name__ == "__main__":
    main()
