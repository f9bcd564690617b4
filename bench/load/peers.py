"""Thousands of clients of another system in one process, for `bench recovery`: ``python -m bench.load.peers``.

The commands and their answers are those of `bench.load.machines`, as far as the system has what they tell.
"""

from __future__ import annotations

import heapq
import math
import re
import select
import socket
import time
from contextlib import suppress
from random import Random
from typing import Any

from bench.load.course import Course
from bench.load.dialing import dial
from bench.load.machine_shell import ADDRESS_CLIENTS, EVENTS_MAX, NAP_S_MAX, RECEIVE_BYTES
from bench.load.machines import OPEN_S_MAX, OPENING_MAX, PART_ADDRESSES
from bench.load.peer_protocols import PROTOCOLS, Centrifugo, PeerProtocol, Talk
from bench.load.process import LoadFailed, serve

PREPARE_S_MAX = 10.0
"""Time for a server to start until it takes the preparation."""


class PeerClient:
    """One client. `due` is when it gives up an attempt, or begins the next."""

    __slots__ = ("address", "due", "failures", "live", "number", "socket", "talk", "value")

    def __init__(self, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self.socket: socket.socket | None = None
        self.talk: Talk | None = None
        """None until the connection is made."""
        self.live = False
        self.failures = 0
        self.due = math.inf
        self.value = -1


class Peers:
    """All clients of one server. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._protocol: PeerProtocol = Centrifugo()
        self._port = 0
        self._random = Random(1)
        self._epoll = select.epoll()
        self._clients: list[PeerClient] = []
        self._by_fd: dict[int, PeerClient] = {}
        self._due: list[tuple[float, int, PeerClient]] = []
        self._live = 0
        self._died_at = math.inf
        self._away: set[int] = set()
        self._stale: set[int] = set()
        self._back_s: list[float] = []
        self._attempts = self._refused = 0
        self._course = Course()

    # Commands -------------------------------------------------------------------------------------------------------

    def open(
        self, port: int, clients: int, system: str, seed: int, part: int = 0, opening: int = OPENING_MAX
    ) -> dict[str, Any]:
        """Open the clients, `opening` at a time, until all are live."""
        self._protocol, self._port, self._random = PROTOCOLS[system](), port, Random(seed + part)
        if request := self._protocol.prepare():  # each process, since any may be first; the same again changes nothing
            self._prepare(request)
        for number in range(clients):
            address = f"127.0.0.{1 + part * PART_ADDRESSES + number // ADDRESS_CLIENTS}"
            self._clients.append(PeerClient(number, address))
        began = time.monotonic()
        opened = 0
        while self._live < clients:
            while opened < clients and opened - self._live < opening:
                self._open(self._clients[opened])
                opened += 1
            self._turn()
            if time.monotonic() - began > OPEN_S_MAX:
                raise LoadFailed(f"only {self._live} of {clients} clients went live within {OPEN_S_MAX:g} s")
        return {"open_s": time.monotonic() - began}

    def go_on(self, seconds: float) -> dict[str, Any]:
        """Go on for some seconds; these systems advise no spread."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._turn()
        return {"spread_s": 0.0, "live": self._live}

    def crash(self, settle_s: float, patience_s: float, *, freshness: bool = False) -> dict[str, Any]:
        """Go on while the server dies and starts again, until all clients are live, and fresh with `freshness`."""
        del settle_s
        cpu, began = time.process_time(), time.monotonic()
        self._attempts = self._refused = 0
        while time.monotonic() - began < patience_s and not self._recovered(freshness):
            self._turn()
            self._note_course()
        self._note_course(last=True)
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        return {
            "died_at": self._died_at, "back_s": self._back_s, "fresh_s": self._course.fresh_s,
            "attempts": self._attempts, "refused": self._refused, "shed": 0, "polls": 0, "course": self._course.rows,
            "generator_busy": busy, "acknowledged": {}, "unsettled": 0, "stale": 0, "checks": 0, "too_low": 0,
            "least_margin_s": math.inf,
        }  # fmt: skip

    def close(self) -> None:
        """Close all sockets."""
        for client in self._by_fd.values():
            assert client.socket is not None
            client.socket.close()
        self._by_fd.clear()
        self._epoll.close()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _note_course(self, *, last: bool = False) -> None:
        fresh = len(self._clients) - len(self._stale) if self._died_at < math.inf else 0
        self._course.note(self._live, fresh, self._attempts, self._refused, 0, last=last)

    def _recovered(self, freshness: bool) -> bool:
        return self._died_at < math.inf and not self._away and not (freshness and self._stale)

    def _prepare(self, request: bytes) -> None:
        """Have the server take the preparation, which it may refuse while it starts."""
        until = time.monotonic() + PREPARE_S_MAX
        while b'"error"' in (answer := self._ask(request)):
            if time.monotonic() > until:
                raise LoadFailed(f"the server did not take the preparation: {answer[-200:]!r}")
            time.sleep(NAP_S_MAX)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port), timeout=OPEN_S_MAX) as talk:
            talk.sendall(request)
            data = b""
            # The line that begins an answer, and its body: both may come apart.
            while not re.search(rb"(?s)\r\nMSG [^\r]*\r\n.*\r\n", data):
                received = talk.recv(RECEIVE_BYTES)
                if not received:
                    raise LoadFailed(f"the server did not take the preparation: {data[-200:]!r}")
                data += received
        return data

    def _turn(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            at, _, client = heapq.heappop(self._due)
            if client.due == at:
                self._is_due(client)
        wait_s = max(self._due[0][0] - now, 0.0) if self._due else NAP_S_MAX
        for fd, events in self._epoll.poll(min(wait_s, NAP_S_MAX), EVENTS_MAX):
            client = self._by_fd[fd]
            if client.talk is None:
                self._connected(client, events)
            else:
                self._receive(client, client.talk)

    def _at(self, client: PeerClient, due: float) -> None:
        client.due = due
        heapq.heappush(self._due, (due, client.number, client))

    def _is_due(self, client: PeerClient) -> None:
        client.due = math.inf
        if client.socket is None:
            self._open(client)
        else:
            self._lost(client)

    def _open(self, client: PeerClient) -> None:
        self._attempts += 1
        opened = client.socket = dial(client.address, self._port)
        self._by_fd[opened.fileno()] = client
        self._epoll.register(opened.fileno(), select.EPOLLOUT)
        self._at(client, time.monotonic() + self._protocol.timeout_s)

    def _connected(self, client: PeerClient, events: int) -> None:
        assert client.socket is not None
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self._refused += 1
            self._lost(client)
            return
        client.talk = Talk()
        self._epoll.modify(client.socket.fileno(), select.EPOLLIN)
        self._send(client, self._protocol.first())

    def _send(self, client: PeerClient, data: bytes) -> None:
        assert client.socket is not None
        with suppress(OSError):  # reading meets the same error, and reports it
            client.socket.send(data)

    def _receive(self, client: PeerClient, talk: Talk) -> None:
        assert client.socket is not None
        try:
            data = client.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        try:
            heard = self._protocol.take(talk, data) if data else None
        except ValueError as error:
            if self._died_at == math.inf:
                raise LoadFailed(f"the server refused a client: {error}") from None
            heard = None
        if heard is None:
            self._lost(client)
            return
        if heard.send:
            self._send(client, heard.send)
        if heard.live:
            self._is_live(client)
        if heard.value > client.value:
            client.value = heard.value
            if client.number in self._stale and heard.value > self._died_at * 1e6:
                self._stale.discard(client.number)
                self._course.fresh_s.append(time.monotonic() - self._died_at)

    def _is_live(self, client: PeerClient) -> None:
        client.live, client.failures, client.due = True, 0, math.inf
        self._live += 1
        if client.number in self._away:
            self._away.discard(client.number)
            self._back_s.append(time.monotonic() - self._died_at)

    def _lost(self, client: PeerClient) -> None:
        assert client.socket is not None
        self._epoll.unregister(client.socket.fileno())
        del self._by_fd[client.socket.fileno()]
        client.socket.close()
        client.socket = client.talk = None
        if client.live:
            client.live = False
            self._live -= 1
            if self._died_at == math.inf:
                self._died_at = time.monotonic()
                self._away = set(range(len(self._clients)))
                self._stale = set(self._away)
        self._at(client, time.monotonic() + self._protocol.wait_s(client.failures, self._random))
        client.failures += 1


def main() -> None:
    """Serve commands until the parent ends."""
    peers = Peers()
    serve({"open": peers.open, "go_on": peers.go_on, "crash": peers.crash})


if __name__ == "__main__":
    main()
