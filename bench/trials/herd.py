"""A herd: the return of N clients of one node when it dies, in virtual time and without a network.

The clients are the real machine (`softstate.client.machine.machine`), the advice and the load shedding are the node's
own (`softstate.session.load_advice`). Between them is a model: a node that serves handshakes one after the other at a
fixed cost, also those whose clients have given up, and messages that take no time. All other work of a node costs
nothing. So a client that came back to a node that stays has nothing more to do with the herd: its renewals are left
out, which are most of the work of a large herd. 100,000 clients take two minutes of CPU.

Without shedding, abandoned handshakes consume the node's time. If its rate is r, the clients' timeout q and their mean
backoff b, the first r q clients succeed, and the others offer (N - r q) / (q + b) handshakes a second. The herd never
recovers if that exceeds r, that is, if N / r > 2 q + b: with full jitter b is half of the backoff's cap. Spreading over
N / (0.5 r) avoids this.

``python -m bench herd --clients 100000 --how killed`` prints the figures of one herd.
"""

from __future__ import annotations

import gc
import heapq
import math
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

from softstate.client.machine.events import (
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
    RequestFailed,
    Send,
    SendPoll,
    Ticked,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.model import Durability
from softstate.position import Position
from softstate.session import ServiceRate, advise
from softstate.session.load_advice import LOAD, RECOVER_CAP_MS, TIMEOUT_MS, renew_ms
from softstate.wire.messages import (
    Hello,
    Limits,
    PollAdvice,
    Polled,
    RecoverAdvice,
    Renew,
    Renewed,
    ServerBye,
    Subscribe,
    Subscribed,
    Welcome,
)

How: TypeAlias = Literal["killed", "power", "bye"]
"""``killed``: all connections are reset. ``power``: no client is told. ``bye``: the node sends `bye` before it ends."""

URL = "ws://node:8700"
TTL_MS = 60_000
LIMITS = Limits(10_000, 65_536, 1_048_576, 1_024, 1_000_000, 600_000, 1_024, 4_096, 16_384)
SETTLE_S = 1.25 * TTL_MS / 3_000
"""Time from the last client's arrival until all have renewed once, and know the spread for all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One herd. `handshake_s` is the cost of a handshake to the node, `refuse_s` that of refusing one.

    `known_per_s` is the rate that a node assumes until it has measured its own; `shed`: it refuses handshakes that it
    cannot serve in time; `spread`: it advises clients to spread by their number (else as if there were none).
    `timeout_s` is how long clients wait for an answer, `cap_s` their longest backoff, unless they are too many for it.
    """

    clients: int = 10_000
    how: How = "killed"
    down_s: float = 2.0
    handshake_s: float = 0.001
    refuse_s: float = 0.0001
    known_per_s: float = 500.0
    shed: bool = True
    spread: bool = True
    timeout_s: float = TIMEOUT_MS / 1000
    cap_s: float = RECOVER_CAP_MS / 1000
    patience_s: float = 600.0
    seed: int = 1


@dataclass(slots=True)
class Report:
    """The return of a herd. Times are seconds since the node died; `back_s` has one for each client that came back.

    `arrivals` counts handshakes that reached a running node, by second; `attempts` counts all, `polls` the polls since
    the node died, refused ones included. `wasted` were served after their client had given up, `shed` were refused.
    `spread_s` is the widest advised spread.
    """

    plan: Plan
    spread_s: float = 0.0
    back_s: list[float] = field(default_factory=list)
    attempts: int = 0
    wasted: int = 0
    shed: int = 0
    arrivals: Counter[int] = field(default_factory=Counter)
    tried: Counter[int] = field(default_factory=Counter)
    polls: int = 0

    @property
    def last_s(self) -> float:
        """The time at which the last client was back; infinity if one never was."""
        return max(self.back_s) if len(self.back_s) == self.plan.clients else math.inf

    def back(self, share: float) -> float:
        """Return the time at which a share of the clients that came back was back."""
        return sorted(self.back_s)[max(math.ceil(share * len(self.back_s)) - 1, 0)] if self.back_s else math.inf

    @property
    def peak_per_s(self) -> int:
        """The greatest number of handshakes that reached the node within one second."""
        return max(self.arrivals.values(), default=0)

    def __str__(self) -> str:
        plan = self.plan
        return (
            f"{plan.clients} clients, {plan.how}: back p50 {self.back(0.5):.1f} s, p99 {self.back(0.99):.1f} s,"
            f" last {self.last_s:.1f} s; spread {self.spread_s:.1f} s, {self.attempts / plan.clients:.2f} attempts"
            f" and {self.polls / plan.clients:.2f} polls each, peak {self.peak_per_s}/s, {self.shed} shed,"
            f" {self.wasted} wasted"
        )


class _Node:
    """One incarnation of the node. It serves handshakes in order, each for `handshake_s`."""

    def __init__(self, plan: Plan, number: int, random: Random) -> None:
        self.number = number
        self.position = Position("e", f"l{number}", 10 * number)
        self.sessions = 0
        self.rate = ServiceRate(prior_per_s=plan.known_per_s)
        self._plan = plan
        self._random = random
        self._free_at = 0.0
        self._advised_for = (-1, 0.0)
        self._advised: tuple[PollAdvice, RecoverAdvice]

    def advice(self) -> tuple[PollAdvice, RecoverAdvice]:
        """Return what to advise now, as `softstate.server.node.Node.terms` does."""
        sessions, per_s = self.sessions if self._plan.spread else 0, self.rate.per_s
        if self._advised_for != (sessions, per_s):
            timeout_ms, cap_ms = round(self._plan.timeout_s * 1000), round(self._plan.cap_s * 1000)
            self._advised = advise(sessions, per_s, per_s, cap_ms=cap_ms, timeout_ms=timeout_ms)
            self._advised_for = sessions, per_s
        return self._advised

    def take_handshake(self, now: float) -> tuple[float, float | None]:
        """Take a handshake; return the time of its end, and None if it is served, else the seconds until a retry."""
        begins = max(now, self._free_at)
        _, recover = self.advice()
        spread_s = self._random.uniform(0, recover.spread_ms / 1000)
        shed = self._plan.shed and not self.rate.in_time(self._plan.timeout_s)
        retry_s = self.rate.backlog_s() + spread_s if shed else None
        self._free_at = begins + (self._plan.handshake_s if retry_s is None else self._plan.refuse_s)
        if retry_s is None:
            self.rate.began(now)
        return self._free_at, retry_s


class _Client:
    """A machine and its connection. `conn` is the connection that it has or that is being made."""

    __slots__ = ("conn", "due", "events", "live", "machine", "node", "woken_at")

    def __init__(self, random: Random, timeout_s: float) -> None:
        options = MachineOptions(urls=(URL,), connect_timeout_s=timeout_s, hello_timeout_s=timeout_s)
        self.machine = Machine(options, random)
        self.conn = 0
        self.node = 0
        """Number of the incarnation at the other end of the connection; 0: none."""
        self.live = False
        self.due = math.inf
        """When its machine wants to be told the time."""
        self.woken_at = math.inf
        """When it will be looked at: not after `due`, and earlier if that has moved since."""
        self.events: deque[Event] = deque()


class Herd:
    """Runs a plan, by `run`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = Report(plan)
        self.now = 0.0
        self._random = Random(plan.seed)
        self._node: _Node | None = _Node(plan, 1, self._random)
        self._clients = [_Client(self._random, plan.timeout_s) for _ in range(plan.clients)]
        self._heap: list[tuple[float, int, Any, Any]] = []
        self._pushed = 0
        self._died_at = math.inf
        self._away = 0

    def run(self) -> Report:
        """Open the clients, let the node die and start again; return the report."""
        with _no_collector():
            return self._run()

    def _run(self) -> Report:
        plan, report = self.plan, self.report
        came_s = plan.clients * plan.handshake_s / LOAD
        for number, client in enumerate(self._clients):
            self._at(number * came_s / plan.clients, self._open, client)
        self._until(came_s + SETTLE_S)
        assert self._away == 0, f"{self._away} clients never arrived"
        report.spread_s = max(client.machine.advice.recover_spread_s for client in self._clients)
        self._die()
        self._at(self.now + plan.down_s, self._start, None)
        self._until(self.now + plan.patience_s, until_back=True)
        return report

    # Time ------------------------------------------------------------------------------------------------------------

    def _at(self, at: float, call: Any, argument: Any) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, call, argument))

    def _until(self, ends: float, *, until_back: bool = False) -> None:
        heap = self._heap
        while heap and heap[0][0] <= ends and not (until_back and self._away == 0):
            self.now, _, call, argument = heapq.heappop(heap)
            call(argument)
        self.now = max(self.now, ends) if not until_back else self.now

    # The node --------------------------------------------------------------------------------------------------------

    def _die(self) -> None:
        node, self._node = self._node, None
        assert node is not None
        self._died_at = self.now
        _, recover = node.advice()
        bye = ServerBye("draining", 0, recover.spread_ms)
        for client in self._clients:
            client.live = False
            self._away += 1
            if self.plan.how == "bye":
                self._tell(client, Arrived(client.conn, bye))
            elif self.plan.how == "killed":
                self._tell(client, Lost(client.conn, None, "connection reset"))

    def _start(self, _: None) -> None:
        self._node = _Node(self.plan, 2, self._random)

    # Clients ---------------------------------------------------------------------------------------------------------

    def _open(self, client: _Client) -> None:
        self._away += 1
        self._tell(client, Wanted(["t"]))
        self._tell(client, Opened())

    def _tick(self, client: _Client) -> None:
        if client.woken_at > self.now:
            return  # it was looked at earlier, for something else
        client.woken_at = math.inf
        if client.due <= self.now:
            self._tell(client, Ticked())
        else:
            self._wake(client)

    def _wake(self, client: _Client) -> None:
        if client.due < client.woken_at:
            client.woken_at = client.due
            self._at(client.due, self._tick, client)

    def _tell(self, client: _Client, event: Event) -> None:
        """Give a client an event, and all events that follow from its actions at this instant."""
        machine, events = client.machine, client.events
        events.append(event)
        while events:
            for action in machine.handle(events.popleft(), self.now):
                self._act(client, action)
        if not client.live and machine.mode == "live":
            self._is_back(client)
        if client.live and self._died_at < math.inf:
            client.due = client.woken_at = math.inf  # it has come back, and only renews from now on
        else:
            client.due = machine.deadline()
            self._wake(client)

    def _is_back(self, client: _Client) -> None:
        if client.node != (1 if self._died_at == math.inf else 2):
            return  # it does not know yet that its node died
        client.live = True
        self._away -= 1
        if self._died_at < math.inf:
            self.report.back_s.append(self.now - self._died_at)

    def _act(self, client: _Client, action: Action) -> None:
        match action:
            case Connect():
                self._connect(client, action.conn)
            case Disconnect() if action.conn == client.conn:
                self._leave(client)
            case Send() if action.conn == client.conn:
                self._send(client, action)
            case SendPoll():
                self._poll(client, action)

    def _leave(self, client: _Client) -> None:
        if self._node is not None and client.node == self._node.number:
            self._node.sessions -= 1
        client.conn = client.node = 0

    def _connect(self, client: _Client, conn: int) -> None:
        client.conn, client.node = conn, 0
        node = self._node
        if self._died_at < math.inf:
            self.report.attempts += 1
            self.report.tried[int(self.now - self._died_at)] += 1
        if node is None:
            if self.plan.how != "power":
                client.events.append(ConnectFailed(conn, "refused", unsent=True))
            return
        if self._died_at < math.inf:
            self.report.arrivals[int(self.now - self._died_at)] += 1
        done_at, retry_s = node.take_handshake(self.now)
        if retry_s is None:
            self._at(done_at, self._served, (node, client, conn))
        else:
            self.report.shed += 1
            refusal = ConnectFailed(conn, "overloaded", 503, math.ceil(retry_s * 1000))
            self._at(done_at, lambda told: self._tell(*told), (client, refusal))

    def _served(self, handshake: tuple[_Node, _Client, int]) -> None:
        node, client, conn = handshake
        node.rate.ended(self.now)
        if node is not self._node:
            return
        if client.conn != conn:
            self.report.wasted += 1
            return
        client.node = node.number
        node.sessions += 1
        self._tell(client, Connected(conn))

    def _send(self, client: _Client, send: Send) -> None:
        node, conn = self._node, send.conn
        if node is None:
            return
        if client.node != node.number:
            client.events.append(Lost(conn, None, "connection reset"))
            return
        (poll, recover), message = node.advice(), send.message
        match message:
            case Hello():
                timeout_ms = round(self.plan.timeout_s * 1000)
                terms = (TTL_MS, renew_ms(TTL_MS), timeout_ms, poll, recover, LIMITS, Durability.DURABLE)
                welcome = Welcome(f"s{conn}", False, f"n{node.number}", node.position, *terms)
                client.events.append(Arrived(conn, welcome))
            case Subscribe():
                client.events.append(Arrived(conn, Subscribed(message.id, node.position)))
            case Renew():
                renewed = Renewed(
                    message.id, True, node.position, 0, TTL_MS, renew_ms(TTL_MS), poll, recover, "ok"
                )  # fmt: skip
                client.events.append(Arrived(conn, renewed))

    def _poll(self, client: _Client, asked: SendPoll) -> None:
        self.report.polls += self._died_at < math.inf
        if self._node is not None:
            every_ms = self._node.advice()[0].every_ms
            client.events.append(PollAnswered(asked.request, Polled(0, self._node.position, next_ms=every_ms)))
        elif self.plan.how != "power":
            client.events.append(RequestFailed(asked.request, "refused", unsent=True))


@contextmanager
def _no_collector() -> Iterator[None]:
    """Have no cycles collected: it would walk all machines again and again, and they leave none behind."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def herd(plan: Plan) -> Report:
    """Run one herd."""
    return Herd(plan).run()
