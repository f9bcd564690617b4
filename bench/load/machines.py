"""Thousands of real client machines in one process: `softstate.client.machine.machine` over raw sockets and epoll.

``python -m bench.load.machines``, driven over `bench.load.process`. The machines decide all actions and their times.
This module is their shell, as `softstate.client.shell.shell` is an application's, without a task for each client. It
leaves out TLS, keep-alive between polls (after a crash there is no connection to keep), pings, and clocks that jump.

One more machine publishes a few changes a second, each with a key, until it is acknowledged. So this process has an
upper bound of the time at which each value was superseded, and checks the ages that machines state against it.
"""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Literal, TypeAlias

import msgspec

from bench.load.ages import Ages, held
from bench.load.frames import client_frame, take_frames
from bench.load.process import LoadFailed, serve
from bench.load.sessions import UPGRADE
from softstate.client.machine.events import (
    Abandon,
    Action,
    Arrived,
    Connect,
    Connected,
    ConnectFailed,
    Disconnect,
    Event,
    Lost,
    Opened,
    PollAnswered,
    PublishAnswered,
    PublishRequested,
    RequestFailed,
    Send,
    SendPoll,
    SendPublish,
    Settled,
    Ticked,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.client.shell.http import HttpFailed, Reply
from softstate.client.shell.websocket import retry_after_ms
from softstate.errors import RequestError
from softstate.wire import CBOR, messages

Spread: TypeAlias = Literal["lease", "jitter"]
"""``lease``: clients come back within the advised spread. ``jitter``: after U(0, backoff base), as is common."""

EVENTS_MAX = 256
RECEIVE_BYTES = 64 * 1024
NAP_S_MAX = 0.05
OPENING_MAX = 64
"""Clients that open for the first time at once."""
OPEN_S_MAX = 180.0
CBOR_MAP = 0xA0
TOPICS = 20
PUBLISHES_PER_S = 4.0
CHECK_EVERY_S = 0.05
"""Interval at which the ages of some machines are checked."""
CHECKS = 100
"""Machines that are checked each time."""
ADDRESS_CLIENTS = 4_000
"""Clients of one loopback address, whose ports would run out while old connections are in TIME_WAIT."""


class Wire:
    """One socket of a client: its WebSocket, or one HTTP request."""

    __slots__ = ("action", "client", "data", "out", "socket", "stage")

    def __init__(self, client: Client, opened: socket.socket, action: Connect | SendPoll | SendPublish, out: bytes):
        self.client = client
        self.socket = opened
        self.action = action
        self.out = out
        self.data = b""
        self.stage: Literal["connecting", "asked", "open"] = "connecting"


class Client:
    """A machine and its sockets. `home` is the first of its URLs. If it `publishes`, it has no subscription."""

    __slots__ = ("conn", "due", "home", "machine", "number", "publishes", "requests", "topic", "wire")

    def __init__(self, number: int, urls: Sequence[str], random: Random, *, publishes: bool = False) -> None:
        self.number = number
        self.home = urls[0]
        self.publishes = publishes
        self.machine = Machine(MachineOptions(urls=tuple(urls)), random)
        self.topic = f"state/{number % TOPICS:02}"
        self.wire: Wire | None = None
        self.conn = 0
        self.requests: dict[int, Wire] = {}
        self.due = math.inf


class Machines:
    """All clients of one node. Each public method is a command of the process.

    `bench.load.fleet` extends it to several nodes, by `_open_all`, `_tell`, `_publish` and `_affected`.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._clients: list[Client] = []
        self._due: list[tuple[float, int, Client | Wire]] = []
        self._pushed = 0
        self._random = Random(1)
        self._spread: Spread = "lease"
        self._live: set[int] = set()
        self._ages = Ages()
        self._publishers: list[Client] = []
        """Of n publishers, each has n consecutive topics in turn: so the clients of each node follow all publishers."""
        self._publish_at = math.inf
        self._publishes_per_s = PUBLISHES_PER_S
        self._check_at = math.inf
        self._numbers: Counter[str] = Counter()
        self._asked: dict[int, tuple[str, int]] = {}
        """Unsettled publishes: topic and value, by ticket."""
        self._died_at = math.inf
        self._away: set[int] = set()
        self._back_s: list[float] = []
        self._attempts = self._refused = self._shed = 0
        self._handshakes: Counter[int] = Counter()
        self._polls: Counter[int] = Counter()

    # Commands -------------------------------------------------------------------------------------------------------

    def open(self, port: int, clients: int, spread: Spread, seed: int) -> dict[str, Any]:
        """Open the clients, `OPENING_MAX` at a time, until all are live, and begin to publish."""
        return self._open_all([port], clients, spread, seed)

    def go_on(self, seconds: float) -> dict[str, Any]:
        """Go on for some seconds; return the widest advised spread, and the number of live clients."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._turn()
        advised = [client.machine._core.advice.recover_spread_s for client in self._clients]  # noqa: SLF001
        return {"spread_s": max(advised), "live": len(self._live)}

    def crash(self, settle_s: float, patience_s: float) -> dict[str, Any]:
        """Go on while the node dies and starts again, until all clients are live, for at most `patience_s`."""
        cpu, began = time.process_time(), time.monotonic()
        while time.monotonic() - began < patience_s and (self._died_at == math.inf or not self._all_back):
            self._turn()
        busy = (time.process_time() - cpu) / (time.monotonic() - began)
        ends = time.monotonic() + settle_s
        self._publish_at = math.inf
        while time.monotonic() < ends:
            self._turn()
        stale = [client.number for client in self._clients if not self._current(client)]
        return {
            "died_at": self._died_at,
            "back_s": self._back_s,
            "attempts": self._attempts,
            "refused": self._refused,
            "shed": self._shed,
            "handshakes": sorted(self._handshakes.items()),
            "polls": sorted(self._polls.items()),
            "generator_busy": busy,
            "acknowledged": {topic: len(times) - 1 for topic, times in self._ages.times.items()},
            "unsettled": len(self._asked),
            "stale": len(stale),
            "checks": self._ages.checks,
            "too_low": self._ages.too_low,
            "least_margin_s": self._ages.least_margin_s,
        }

    # Opening --------------------------------------------------------------------------------------------------------

    def _open_all(self, ports: Sequence[int], clients: int, spread: Spread, seed: int) -> dict[str, Any]:
        """Open clients, and a publisher for each port. Each has all ports, and in turn another one first."""
        self._spread, self._random = spread, Random(seed)
        urls = [f"ws://127.0.0.1:{port}" for port in ports]
        for number in range(clients + len(urls)):
            publishes = number >= clients
            first = (number - clients if publishes else number) % len(urls)
            random = Random(self._random.getrandbits(64))
            client = Client(number, [*urls[first:], *urls[:first]], random, publishes=publishes)
            (self._publishers if publishes else self._clients).append(client)
        for publisher in self._publishers:
            self._tell(publisher, Opened())
        began = time.monotonic()
        opened = 0
        while len(self._live) < clients:
            while opened < clients and opened - len(self._live) < OPENING_MAX:
                client = self._clients[opened]
                self._tell(client, Wanted([client.topic]))
                self._tell(client, Opened())
                opened += 1
            self._turn()
            if time.monotonic() - began > OPEN_S_MAX:
                raise LoadFailed(f"only {len(self._live)} of {clients} clients went live within {OPEN_S_MAX:g} s")
        self._publish_at = self._check_at = time.monotonic()
        return {"open_s": time.monotonic() - began}

    # The loop -------------------------------------------------------------------------------------------------------

    @property
    def _all_back(self) -> bool:
        return not self._away

    def _turn(self) -> None:
        now = time.monotonic()
        if self._publish_at <= now:
            self._publish(now)
        if self._check_at <= now:
            self._check_at = now + CHECK_EVERY_S
            for client in self._random.sample(self._clients, min(CHECKS, len(self._clients))):
                self._ages.check(client.machine, client.topic, time.monotonic())
        while self._due and self._due[0][0] <= now:
            at, _, who = heapq.heappop(self._due)
            if isinstance(who, Wire):
                self._timed_out(who)
            elif who.due == at:
                who.due = math.inf
                self._tell(who, Ticked())
        wait_s = max(self._due[0][0] - now, 0.0) if self._due else NAP_S_MAX
        for fd, _ in self._epoll.poll(min(wait_s, NAP_S_MAX), EVENTS_MAX):
            wire = self._wires.get(fd)
            if wire is not None:  # else an event before it closed the socket
                self._ready(wire)

    def _publish(self, now: float) -> tuple[Client, str, int]:
        """Begin a publish; return its publisher, topic and value."""
        self._publish_at = now + 1 / self._publishes_per_s
        chosen = self._random.randrange(TOPICS)
        publisher = self._publishers[chosen // len(self._publishers) % len(self._publishers)]
        topic = f"state/{chosen:02}"
        number = self._numbers[topic]
        self._numbers[topic] += 1
        ticket = self._numbers.total()
        self._asked[ticket] = (topic, number)
        self._tell(publisher, PublishRequested(ticket, topic, number, False, None, f"{topic}-{number}"))
        return publisher, topic, number

    def _current(self, client: Client) -> bool:
        """Return whether a client holds the newest acknowledged value of its topic."""
        return held(client.machine, client.topic) + 1 >= len(self._ages.times.get(client.topic, []))

    # Machines -------------------------------------------------------------------------------------------------------

    def _tell(self, client: Client, event: Event) -> None:
        machine = client.machine
        for action in machine.handle(event, time.monotonic()):
            self._act(client, action)
        if machine.mode != "live":
            self._live.discard(client.number)
        elif client.number not in self._live and not client.publishes:
            self._live.add(client.number)
            if client.number in self._away:
                self._away.discard(client.number)
                self._back_s.append(time.monotonic() - self._died_at)
        due = machine.deadline()
        if due != client.due:
            client.due = due
            if due < math.inf:
                self._at(due, client)

    def _at(self, at: float, who: Client | Wire) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (at, self._pushed, who))

    def _act(self, client: Client, action: Action) -> None:
        match action:
            case Send() if client.wire is not None and client.conn == action.conn:
                self._write(client.wire, client_frame(CBOR.encode(action.message)))
            case Connect():
                client.conn = action.conn
                self._open(client, action, UPGRADE)
            case Disconnect() if client.conn == action.conn:
                self._drop(client.wire)
            case SendPoll():
                self._open(client, action, _post("/v1/poll", CBOR.dumps(action.message)))
            case SendPublish():
                batch = messages.Batch(list(action.changes))
                self._open(client, action, _post("/v1/publish", CBOR.dumps(batch)))
            case Abandon():
                self._drop(client.requests.get(action.request))
            case Settled(ticket=ticket, outcome=outcome):
                self._settled(ticket, outcome)

    def _settled(self, ticket: int, outcome: object) -> None:
        if not isinstance(outcome, messages.Published):
            raise LoadFailed(f"a publish failed: {outcome!r}")
        self._ages.settled(*self._asked.pop(ticket), time.monotonic())

    # Sockets --------------------------------------------------------------------------------------------------------

    def _open(self, client: Client, action: Connect | SendPoll | SendPublish, out: bytes) -> None:
        self._count(client, action)
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by `connect`
        opened.bind((f"127.0.0.{1 + client.number // ADDRESS_CLIENTS}", 0))
        wire = Wire(client, opened, action, out)
        if isinstance(action, Connect):
            client.wire = wire
        else:
            client.requests[action.request] = wire
        self._wires[opened.fileno()] = wire
        opened.connect_ex(("127.0.0.1", int(action.url.rpartition(":")[2])))
        self._epoll.register(opened.fileno(), select.EPOLLOUT)
        self._at(time.monotonic() + action.timeout_s, wire)

    def _count(self, client: Client, action: Action) -> None:
        if self._died_at == math.inf or client.publishes:
            return
        if isinstance(action, Connect):
            self._attempts += 1
        elif isinstance(action, SendPoll):
            self._polls[int(time.monotonic() - self._died_at)] += 1

    def _drop(self, wire: Wire | None) -> None:
        if wire is None or wire.socket.fileno() < 0:
            return
        self._epoll.unregister(wire.socket.fileno())
        del self._wires[wire.socket.fileno()]
        wire.socket.close()
        if isinstance(wire.action, Connect):
            wire.client.wire = None
        else:
            wire.client.requests.pop(wire.action.request, None)

    def _ready(self, wire: Wire) -> None:
        if wire.stage == "connecting":
            error = wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                if isinstance(wire.action, Connect) and self._died_at < math.inf:
                    self._refused += not wire.client.publishes
                self._failed(wire, "refused")
                return
            wire.stage = "asked"
            if isinstance(wire.action, Connect) and self._died_at < math.inf:
                self._handshakes[int(time.monotonic() - self._died_at)] += 1
            self._epoll.modify(wire.socket.fileno(), select.EPOLLIN)
            self._write(wire, wire.out)
            return
        try:
            data = wire.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._failed(wire, "connection lost")
        elif wire.stage == "open":
            self._messages(wire, data)
        else:
            self._answer(wire, data)

    def _affected(self, client: Client) -> set[int]:
        """Return the numbers of all clients that lose their node, when this one is the first to lose its connection."""
        del client
        return {other.number for other in self._clients}

    def _write(self, wire: Wire, data: bytes) -> None:
        with suppress(OSError):  # reading meets the same error, and reports it
            wire.socket.send(data)

    def _messages(self, wire: Wire, data: bytes) -> None:
        assert isinstance(wire.action, Connect)
        payloads, wire.data = take_frames(wire.data + data if wire.data else data)
        for payload in payloads:
            if wire.client.wire is not wire:
                return
            if payload[0] < CBOR_MAP:
                continue  # the code of a close frame
            message = CBOR.server_message(payload)
            self._tell(wire.client, Arrived(wire.action.conn, self._advised(message)))

    def _advised(self, message: messages.ServerMessage) -> messages.ServerMessage:
        """Return a message, with ``jitter`` without the advice to spread."""
        if self._spread == "lease" or not isinstance(message, messages.Welcome | messages.Renewed):
            return message
        recover = message.recover
        plain = messages.RecoverAdvice(recover.base_ms, recover.base_ms, recover.cap_ms)
        return msgspec.structs.replace(message, recover=plain)

    def _answer(self, wire: Wire, data: bytes) -> None:
        """Take data of the answer to a handshake or request, and handle the answer when it is complete."""
        wire.data += data
        head, end, body = wire.data.partition(b"\r\n\r\n")
        if not end:
            return
        status, headers = _head(head)
        client, action = wire.client, wire.action
        if isinstance(action, Connect):
            if status == 101:
                wire.stage, wire.data = "open", body
                self._tell(client, Connected(action.conn))
                return
            self._drop(wire)
            self._shed += not client.publishes
            self._tell(client, ConnectFailed(action.conn, f"answered {status}", status, retry_after_ms(headers)))
            return
        if len(body) < next((int(value) for name, value in headers if name == b"content-length"), 0):
            return
        self._drop(wire)
        self._tell(client, _answered(action, Reply(status, headers, body)))

    def _timed_out(self, wire: Wire) -> None:
        if wire.socket.fileno() >= 0 and wire.stage != "open":
            self._failed(wire, "timed out")

    def _failed(self, wire: Wire, reason: str) -> None:
        client, action, stage = wire.client, wire.action, wire.stage
        self._drop(wire)
        if not isinstance(action, Connect):
            self._tell(client, RequestFailed(action.request, reason))
        elif stage == "open":
            if self._died_at == math.inf and (affected := self._affected(client)):
                self._died_at, self._away = time.monotonic(), affected
            self._tell(client, Lost(action.conn, None, reason))
        else:
            self._tell(client, ConnectFailed(action.conn, reason))


def _post(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/cbor\r\n"
        f"Accept: application/cbor\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _head(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    first, *lines = head.split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return int(first.split()[1]), [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def _answered(action: SendPoll | SendPublish, reply: Reply) -> Event:
    try:
        if isinstance(action, SendPoll):
            return PollAnswered(action.request, reply.decode(messages.Polled))
        return PublishAnswered(action.request, reply.decode(messages.BatchResults).results)
    except RequestError as error:
        return RequestFailed(action.request, str(error), error)
    except HttpFailed as failure:
        return RequestFailed(action.request, str(failure))


def main() -> None:
    """Serve commands until the parent ends."""
    machines = Machines()
    serve({"open": machines.open, "go_on": machines.go_on, "crash": machines.crash})


if __name__ == "__main__":
    main()
