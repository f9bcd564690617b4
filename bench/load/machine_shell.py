"""The shell of thousands of client machines in one process: raw sockets, epoll, one heap of timers.

It does for `softstate.client.machine.machine` what `softstate.client.shell.shell` does for an application's, without a
task for each client. Like that one it keeps a client's HTTP connection for its next request, but only until the client
is live: a process may have so many sockets, and no more. It leaves out TLS, pings, and clocks that jump.
"""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Literal, TypeAlias

from bench.load.dialing import dial
from bench.load.frames import client_frame, take_frames
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
    PollAnswered,
    PublishAnswered,
    RequestFailed,
    Send,
    SendPoll,
    SendPublish,
    Settled,
    Ticked,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.client.requests.reply import HttpFailed, Reply, retry_after_ms
from softstate.errors import RequestError
from softstate.wire import CBOR, messages

EVENTS_MAX = 256
RECEIVE_BYTES = 64 * 1024
NAP_S_MAX = 0.05
CBOR_MAP = 0xA0
ADDRESS_CLIENTS = 1_000
"""Clients of one loopback address, whose ports would run out while old connections are in TIME_WAIT."""
REFUSED = "refused"
"""The reason of a dial that no connection came of: nothing listens."""

Asking: TypeAlias = Connect | SendPoll | SendPublish
"""The actions that take a socket."""


class Wire:
    """One socket of a client: its WebSocket, or one for HTTP requests, which is `idle` between two of them."""

    __slots__ = ("action", "client", "data", "deadline", "fresh", "out", "socket", "stage")

    def __init__(self, client: Client, opened: socket.socket, action: Asking, out: bytes, deadline: float) -> None:
        self.client = client
        self.socket = opened
        self.action = action
        self.out = out
        self.data = b""
        self.deadline = deadline
        self.fresh = True
        """Whether this is the first request on it: a later one is sent again if the node closes it (RFC 9112 9.3.1)."""
        self.stage: Literal["connecting", "asked", "open", "idle"] = "connecting"


class Client:
    """A machine and its sockets. `home` is the first of its URLs. If it `publishes`, it has no subscription."""

    __slots__ = (
        "address",
        "conn",
        "due",
        "home",
        "kept",
        "machine",
        "number",
        "publishes",
        "requests",
        "topic",
        "wire",
    )

    def __init__(
        self,
        number: int,
        urls: Sequence[str],
        random: Random,
        topic: str,
        address: str,
        *,
        publishes: bool = False,
        beats: bool = True,
    ) -> None:
        self.number = number
        self.home = urls[0]
        self.publishes = publishes
        options = MachineOptions(urls=tuple(urls))
        self.machine = Machine(options if beats else replace(options, beat_ms=None), random)
        self.topic = topic
        self.address = address
        self.wire: Wire | None = None
        self.conn = 0
        self.requests: dict[int, Wire] = {}
        self.kept: Wire | None = None
        self.due = math.inf


class MachineShell:
    """Carries out the machines' actions, and reports events to them. A subclass decides what is asked, and records.

    `attempts`, `refused` and `shed` count dials of WebSockets since the first one, `polls` and `polls_refused` polls.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._due: list[tuple[float, int, Client | Wire]] = []
        self._pushed = 0
        self.attempts = self.refused = self.shed = 0
        self.polls = self.polls_refused = 0

    # For a subclass --------------------------------------------------------------------------------------------------

    def advised(self, message: messages.ServerMessage) -> messages.ServerMessage:
        """Return a message as its client shall see it."""
        return message

    def handled(self, client: Client, event: Event, now: float) -> None:
        """Note that a machine has handled an event, and its actions were carried out."""

    def settled(self, ticket: int, outcome: object) -> None:
        """Note the outcome of a publish."""

    # The loop --------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Let machines handle what is due and what has arrived; wait for that, for at most `NAP_S_MAX`."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            at, _, who = heapq.heappop(self._due)
            if isinstance(who, Wire):
                self._timed_out(who, at)
            elif who.due == at:
                who.due = math.inf
                self.tell(who, Ticked())
        wait_s = max(self._due[0][0] - now, 0.0) if self._due else NAP_S_MAX
        for fd, _ in self._epoll.poll(min(wait_s, NAP_S_MAX), EVENTS_MAX):
            wire = self._wires.get(fd)
            if wire is not None:  # else an event before it closed the socket
                self._ready(wire)

    def tell(self, client: Client, event: Event) -> None:
        """Let a machine handle an event, and carry out its actions."""
        machine, now = client.machine, time.monotonic()
        for action in machine.handle(event, now):
            self._act(client, action)
        self.handled(client, event, now)
        due = machine.deadline()
        if due != client.due:
            client.due = due
            if due < math.inf:
                self._at(due, client)

    def forget_kept(self, client: Client) -> None:
        """Close the HTTP connection that is kept for a client's next request, if there is one."""
        if client.kept is not None:
            self._drop(client.kept)

    def _at(self, at: float, who: Client | Wire) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (at, self._pushed, who))

    def _act(self, client: Client, action: Action) -> None:
        match action:
            case Send() if client.wire is not None and client.conn == action.conn:
                self._write(client.wire, client_frame(CBOR.encode(action.message)))
            case Connect():
                client.conn = action.conn
                self.attempts += not client.publishes
                client.wire = self._open(client, action, UPGRADE)
            case Disconnect() if client.conn == action.conn:
                self._drop(client.wire)
            case SendPoll():
                self.polls += not client.publishes
                self._ask(client, action, _post("/v1/poll", CBOR.dumps(action.message)))
            case SendPublish():
                batch = messages.Batch(list(action.changes))
                self._ask(client, action, _post("/v1/publish", CBOR.dumps(batch)))
            case Abandon():
                self._drop(client.requests.get(action.request))
            case Settled(ticket=ticket, outcome=outcome):
                self.settled(ticket, outcome)

    # Sockets ---------------------------------------------------------------------------------------------------------

    def _ask(self, client: Client, action: SendPoll | SendPublish, out: bytes) -> None:
        """Send a request, on the kept connection if it goes to the same node."""
        kept = client.kept
        if kept is None or _port(kept.action) != _port(action):
            client.requests[action.request] = self._open(client, action, out)
            return
        client.kept = None
        kept.action, kept.out, kept.data, kept.fresh, kept.stage = action, out, b"", False, "asked"
        client.requests[action.request] = kept
        kept.deadline = time.monotonic() + action.timeout_s
        self._at(kept.deadline, kept)
        self._write(kept, out)

    def _open(self, client: Client, action: Asking, out: bytes) -> Wire:
        opened = dial(client.address, _port(action))
        wire = Wire(client, opened, action, out, time.monotonic() + action.timeout_s)
        self._wires[opened.fileno()] = wire
        self._epoll.register(opened.fileno(), select.EPOLLOUT)
        self._at(wire.deadline, wire)
        return wire

    def _drop(self, wire: Wire | None) -> None:
        if wire is None or wire.socket.fileno() < 0:
            return
        self._epoll.unregister(wire.socket.fileno())
        del self._wires[wire.socket.fileno()]
        wire.socket.close()
        self._release(wire)

    def _release(self, wire: Wire) -> None:
        client, action = wire.client, wire.action
        if client.kept is wire:
            client.kept = None
        elif isinstance(action, Connect):
            client.wire = None
        else:
            client.requests.pop(action.request, None)

    def _ready(self, wire: Wire) -> None:
        if wire.stage == "connecting":
            self._connected(wire)
            return
        try:
            data = wire.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data or wire.stage == "idle":
            self._failed(wire, "connection lost")
        elif wire.stage == "open":
            self._messages(wire, data)
        else:
            self._answer(wire, data)

    def _connected(self, wire: Wire) -> None:
        if wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            if not wire.client.publishes:
                self.refused += isinstance(wire.action, Connect)
                self.polls_refused += isinstance(wire.action, SendPoll)
            self._failed(wire, REFUSED)
            return
        wire.stage = "asked"
        self._epoll.modify(wire.socket.fileno(), select.EPOLLIN)
        self._write(wire, wire.out)

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
            self.tell(wire.client, Arrived(wire.action.conn, self.advised(message)))

    def _answer(self, wire: Wire, data: bytes) -> None:
        """Take data of the answer to a handshake or request, and handle the answer when it is complete."""
        wire.data += data
        head, end, body = wire.data.partition(b"\r\n\r\n")
        if not end:
            return
        client, action = wire.client, wire.action
        if isinstance(action, Connect) and head.startswith(b"HTTP/1.1 101 "):
            wire.stage, wire.data = "open", body
            self.tell(client, Connected(action.conn))
            return
        status, headers = _head(head)
        if isinstance(action, Connect):
            self._drop(wire)
            self.shed += not client.publishes
            self.tell(client, ConnectFailed(action.conn, f"answered {status}", status, retry_after_ms(headers)))
            return
        if len(body) < next((int(value) for name, value in headers if name == b"content-length"), 0):
            return
        self._keep(wire, closes=(b"connection", b"close") in headers)
        self.tell(client, _answered(action, Reply(status, headers, body)))

    def _keep(self, wire: Wire, *, closes: bool) -> None:
        """Keep the connection of an answered request, unless the node closes it or the client has no use for it."""
        client = wire.client
        live = client.wire is not None and client.wire.stage == "open"
        if closes or live or client.kept is not None:
            self._drop(wire)
            return
        self._release(wire)
        client.kept, wire.stage = wire, "idle"

    def _timed_out(self, wire: Wire, at: float) -> None:
        # On a kept connection only the deadline of its newest request counts.
        if wire.socket.fileno() >= 0 and wire.stage in ("connecting", "asked") and at >= wire.deadline:
            self._failed(wire, "timed out")

    def _failed(self, wire: Wire, reason: str) -> None:
        client, action, stage = wire.client, wire.action, wire.stage
        self._drop(wire)
        if stage == "idle":
            return
        if not isinstance(action, Connect):
            if stage == "asked" and not wire.fresh and reason == "connection lost" and not wire.data:
                client.requests[action.request] = self._open(client, action, wire.out)
                return
            self.tell(client, RequestFailed(action.request, reason, unsent=reason == REFUSED))
        elif stage == "open":
            self.tell(client, Lost(action.conn, None, reason))
        else:
            self.tell(client, ConnectFailed(action.conn, reason, unsent=reason == REFUSED))


def _port(action: Asking) -> int:
    return int(action.url.rpartition(":")[2])


def _post(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/cbor\r\n"
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
