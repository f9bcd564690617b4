"""A host for nodes in a simulated world: real nodes run on it one after the other, until the scenario ends them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import final

import trio

from softstate.auth.authority import RulesAuthority
from softstate.auth.open_authority import EVERYBODY_MAY_ALL, Authority
from softstate.errors import ConfigError, Unavailable
from softstate.lease.table import Lease
from softstate.position import Position
from softstate.server import Node, ServerConfig
from softstate.server.auth.callout import CalloutShell
from softstate.server.auth.keeper import PolicyKeeper
from softstate.server.bulkhead import Bulkhead
from softstate.server.storage.follower import first_position
from softstate.testing.network.capacity import Work
from softstate.testing.simulation.clocks import SimClock
from softstate.testing.simulation.disk import SimStore
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.freezer import start_on
from softstate.testing.simulation.issuer import SimAuthority, SimIssuer
from softstate.testing.simulation.signed_issuer import SignedIssuer
from softstate.testing.trace import HeldLease, LeasesDropped, NodeEnded, NodeSampled, NodeStarted

PORT = 8700

REVOKED = ("slow_consumer", "overloaded", "denied", "skipped")
"""The counters of a node for leases that it ended before their time."""

OPEN_RETRY_S = 0.5
"""Seconds between attempts of a starting node to open the store."""

HUB_TURN_US = 10
"""The budget of a turn of the hub: two writes, so that requests come between the pushes of one commit."""


def _no_memory() -> int:
    """Return nothing: what the simulator takes is no node's."""
    return 0


@final
class SimNode:
    """A host name, a clock, and the `Node` that runs there, if one does. `incarnation` counts the starts."""

    def __init__(self, environment: Environment, name: str, config: ServerConfig) -> None:
        self.name = name
        self.config = config
        self.clock = SimClock()
        self.wall_offset_s = 0.0
        """How much its clock for people is ahead."""
        self.incarnation = 0
        self.node: Node | None = None
        self.store: SimStore | None = None
        self._environment = environment
        self._random = environment.seeds.random(f"node {name}")
        self._nonces = environment.seeds.random(f"nonces {name}")
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        self._points: dict[str, tuple[int, Callable[[], None]]] = {}

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"ws://{self.name}:{PORT}"

    def wall(self) -> float:
        """Return the time by its clock for people."""
        return trio.current_time() + self.wall_offset_s

    @property
    def up(self) -> bool:
        """Whether a node runs here, frozen or not."""
        return self.node is not None

    async def start(self) -> None:
        """Start a node from the disk alone; returns once it listens. During an outage it waits for the disk."""
        await self._ended.wait()
        started = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self.incarnation += 1
        start_on(self.name, self._environment.nursery, self._run, started)
        await started.wait()

    async def _run(self, started: trio.Event) -> None:
        with self._scope:
            store, position = await self._open()
            random, issuer = Random(self._random.getrandbits(64)), self._environment.issuer
            bulkhead, callout = Bulkhead(strict=True), self._environment.callout
            authority: Authority = SimAuthority(issuer) if isinstance(issuer, SimIssuer) else EVERYBODY_MAY_ALL
            shell: CalloutShell | PolicyKeeper | None = None
            if isinstance(issuer, SignedIssuer):
                shell = await self._keeper(issuer, bulkhead)
                authority = shell.authority
            elif callout is not None:
                authority, shell = callout.authority(self.name, self.clock, bulkhead)
            node = Node(
                self.config,
                store,
                position,
                tokens=self._token,
                jitter=random,
                now=self.clock.now,
                bulkhead=bulkhead,
                date=None,
                authority=authority,
                wall=self.wall,
                resident=_no_memory,
            )
            node.hub.turn_us = HUB_TURN_US
            node.addresses.append(f"{self.name}:{PORT}")
            self.store, self.node = store, node
            if (processor := self._environment.network.processors.get(self.name)) is not None:
                processor.told = partial(_measure, node)
            listener = self._environment.network.listen(self.name, PORT)
            self._environment.trace.add(NodeStarted(trio.current_time(), self.name, self.incarnation))
            if shell is None:
                await node.run([listener], started=started.set)
            else:
                async with trio.open_nursery() as beside:
                    if isinstance(shell, PolicyKeeper):
                        await beside.start(shell.run)
                    else:
                        beside.start_soon(shell.run)
                    await node.run([listener], started=started.set)
                    beside.cancel_scope.cancel()
        self._mark_ended("drained")
        started.set()
        self._ended.set()

    async def _open(self) -> tuple[SimStore, Position]:
        while True:
            try:
                store = SimStore(self._environment.disk, self._random, self._pass_point)
                return store, await first_position(store)
            except Unavailable:
                await trio.sleep(OPEN_RETRY_S)

    async def _keeper(self, issuer: SignedIssuer, bulkhead: Bulkhead) -> PolicyKeeper:
        while True:
            try:
                return issuer.keeper(self.name, self.clock, self.wall, bulkhead)
            except ConfigError:  # a node that cannot read its policy does not start
                await trio.sleep(OPEN_RETRY_S)

    def _token(self) -> str:
        return f"{self._nonces.getrandbits(128):032x}"

    # Ending ----------------------------------------------------------------------------------------------------------

    def end(self, how: str = "killed") -> None:
        """End the node at this instant, by ``killed`` or ``power``. Nothing that its tasks still do has an effect.

        The kernel resets the connections of a killed process; a host without power sends nothing.
        """
        if self.node is None and self._ended.is_set():
            return
        self._mark_ended(how)
        self._environment.freezer.thaw(self.name)
        self._scope.cancel()

    def _mark_ended(self, how: str) -> None:
        self._points.clear()
        if self.node is None:
            return
        assert self.store is not None
        self.store.dead = True
        self.node = self.store = None
        self._environment.network.end_process(self.name, silently=how == "power")
        self._environment.trace.add(NodeEnded(trio.current_time(), self.name, self.incarnation, how))

    async def ended(self) -> None:
        """Wait until no node runs here."""
        await self._ended.wait()

    def at_point(self, point: str, call: Callable[[], None], after: int = 1) -> None:
        """Call something when this node passes a crash point of its store (see `SimStore`) for the `after`-th time."""
        self._points[point] = (after, call)

    def clear_points(self) -> None:
        """Remove the calls of `at_point`."""
        self._points.clear()

    async def _pass_point(self, point: str) -> None:
        if point not in self._points:
            return
        left, call = self._points.pop(point)
        if left > 1:
            self._points[point] = (left - 1, call)
            return
        call()
        if self.node is None:
            await trio.sleep_forever()

    # Samples and amnesia --------------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Record the leases, connections and outboxes of the node."""
        node = self.node
        if node is None:
            return
        now = self.clock.now()
        leases = tuple(
            HeldLease(lease.name, lease.count, lease.deadline - now, lease.sink is not None) for lease in _leases(node)
        )
        outboxes = [connection.outbox for connection in node.sockets if connection.outbox is not None]
        pending = max((len(outbox) for outbox in outboxes), default=0)
        pending_bytes = max((outbox._bytes for outbox in outboxes), default=0)  # noqa: SLF001
        # A request without valid credentials ends the lease, and is answered so.
        revoked = sum(node.repairs[reason] for reason in REVOKED) + node.gate.refusals.total()
        if isinstance(node.gate.authority, SimAuthority):
            revoked += node.gate.authority.heard
        elif isinstance(node.gate.authority, RulesAuthority):
            revoked += node.gate.authority.generation
        sample = NodeSampled(
            trio.current_time(), self.name, self.incarnation, leases, len(node.sockets), pending, pending_bytes, revoked
        )
        self._environment.trace.add(sample)

    def forget_leases(self, share: float, random: Random) -> None:
        """Delete each lease with a chance of `share`, without telling its client."""
        if self.node is None:
            return
        gone = [lease for lease in _leases(self.node) if random.random() < share]
        for lease in gone:
            self.node.leases.release(lease)
        names = tuple(lease.name for lease in gone)
        self._environment.trace.add(LeasesDropped(trio.current_time(), self.name, names))

    def forget_names(self, share: float, random: Random) -> None:
        """Delete each subscription of each lease with a chance of `share`."""
        if self.node is None:
            return
        for lease in _leases(self.node):
            self.node.leases.remove(lease, [name for name in lease.names if random.random() < share])


def _leases(node: Node) -> list[Lease]:
    return list(node.leases._leases.values())  # noqa: SLF001


def _measure(node: Node, work: Work, begins: bool) -> None:
    """Count the time of its processor in the rates that a node measures."""
    if work != "other":
        rate = node.polls if work == "poll" else node.handshakes
        (rate.began if begins else rate.paused)(trio.current_time())
