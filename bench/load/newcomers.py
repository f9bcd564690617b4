"""Clients that come by the clock, whether others were served or not, and give up: an open loop of new connections.

``python -m bench.load.newcomers``, driven over `bench.load.process`. Each connects, says `hello` and `subscribe` in one
flight once its handshake is answered, and leaves when both are answered. One that is not live within its patience
closes its connection, as a client does.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import Any

from bench.load.dialing import dial
from bench.load.frames import client_frame, take_frames
from bench.load.process import serve
from bench.load.sessions import HELLO, UPGRADE
from softstate.server.descriptors import raise_limit
from softstate.wire import CBOR, messages

EVENTS_MAX = 256
RECEIVE_BYTES = 16 * 1024
ADDRESSES = 200
"""Source addresses, so that no client waits for a port."""
UNDER_WAY_MAX = 64
"""Connections under way at once while the peak is measured."""
FILES_MAX = 65_536
"""Files that are opened where the system has no limit, of which..."""
OTHER_FILES = 100
"""... so many are no connection."""
ANSWERS = 2
"""Frames that make a client live: `welcome` and `subscribed`."""

FLIGHT = HELLO + client_frame(CBOR.encode(messages.Subscribe(1, {"t": 0})))


class Newcomer:
    """One client, from its connect until it is live, refused, or has given up."""

    __slots__ = ("began_at", "data", "frames", "greeted", "socket")

    def __init__(self, port: int, number: int, now: float) -> None:
        self.began_at = now
        self.data = b""
        self.frames = 0
        self.greeted = False
        self.socket = dial(f"127.0.1.{1 + number % ADDRESSES}", port)

    def take(self, data: bytes) -> str | None:
        """Take what was received; return ``live`` or ``refused`` once that is known."""
        self.data += data
        if not data:
            return "refused"
        if not self.greeted:
            if b"\r\n\r\n" not in self.data:
                return None
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                return "refused"
            self.greeted = True
            self.socket.send(FLIGHT)
        payloads, self.data = take_frames(self.data)
        self.frames += len(payloads)
        return "live" if self.frames >= ANSWERS else None


class Newcomers:
    """All clients of one run, at most `open_max` at once. Each public method is a command of the process."""

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self._epoll = select.epoll()
        self._clients: dict[int, Newcomer] = {}
        self._in_order: deque[Newcomer] = deque()
        self._port = 0
        self._came = 0
        self._outcomes: list[tuple[str, float]] = []

    def peak(self, port: int, seconds: float) -> dict[str, Any]:
        """Come as soon as others are live, `UNDER_WAY_MAX` at once; return how many became live a second."""
        self._begin(port)
        cpu, began = time.process_time(), time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            while len(self._clients) < UNDER_WAY_MAX:
                self._come(now)
            self._turn(0.1)
        wall_s = time.monotonic() - began
        live = sum(outcome == "live" for outcome, _ in self._outcomes)
        self._leave()
        return {"per_s": live / wall_s, "generator_busy": (time.process_time() - cpu) / wall_s}

    def come(self, port: int, per_s: float, seconds: float, patience_s: float) -> dict[str, Any]:
        """Come by the clock for some seconds; return how many became live in each of them, and what became of all."""
        self._begin(port)
        cpu, began = time.process_time(), time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            due = round((now - began) * per_s)
            while self._came < due and len(self._clients) < self._open_max:
                self._come(now)
            self._give_up(now - patience_s)
            self._turn(0.001)
        wall_s = time.monotonic() - began
        live = [0] * int(seconds)
        for outcome, at in self._outcomes:
            if outcome == "live" and at - began < len(live):
                live[int(at - began)] += 1
        counts = {
            name: sum(outcome == name for outcome, _ in self._outcomes) for name in ("live", "refused", "gave up")
        }
        came = self._came
        self._leave()
        return {
            "live_per_s": live,
            "came_per_s": came / wall_s,
            "refused": counts["refused"] / came,
            "gave_up": counts["gave up"] / came,
            "generator_busy": (time.process_time() - cpu) / wall_s,
        }

    # Inside ---------------------------------------------------------------------------------------------------------

    def _begin(self, port: int) -> None:
        self._port = port
        self._came = 0
        self._outcomes = []

    def _come(self, now: float) -> None:
        client = Newcomer(self._port, self._came, now)
        self._came += 1
        self._clients[client.socket.fileno()] = client
        self._in_order.append(client)
        self._epoll.register(client.socket, select.EPOLLOUT)

    def _turn(self, timeout_s: float) -> None:
        for fd, events in self._epoll.poll(timeout_s, EVENTS_MAX):
            client = self._clients[fd]
            try:
                if events & select.EPOLLOUT and not events & (select.EPOLLERR | select.EPOLLHUP):
                    self._epoll.modify(fd, select.EPOLLIN)
                    client.socket.send(UPGRADE)
                    continue
                outcome = client.take(client.socket.recv(RECEIVE_BYTES))
            except OSError:
                outcome = "refused"
            if outcome is not None:
                self._end(client, outcome)

    def _give_up(self, came_before: float) -> None:
        waiting = self._in_order
        while waiting and (waiting[0].began_at < came_before or waiting[0].socket.fileno() < 0):
            client = waiting.popleft()
            if client.socket.fileno() >= 0:
                self._end(client, "gave up")

    def _end(self, client: Newcomer, outcome: str) -> None:
        self._outcomes.append((outcome, time.monotonic()))
        fd = client.socket.fileno()
        self._epoll.unregister(fd)
        del self._clients[fd]
        client.socket.close()

    def _leave(self) -> None:
        for fd, client in self._clients.items():
            self._epoll.unregister(fd)
            client.socket.close()
        self._clients.clear()
        self._in_order.clear()


def main() -> None:
    """Serve commands until the parent ends."""
    newcomers = Newcomers((raise_limit() or FILES_MAX) - OTHER_FILES)
    serve({"peak": newcomers.peak, "come": newcomers.come})


if __name__ == "__main__":
    main()
