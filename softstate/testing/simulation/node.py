"""A node's place in a simulated world: real nodes run there one after the other, and end however the scenario wants."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import final

import trio

from softstate.errors import Unavailable
from softstate.lease.table import Lease
from softstate.position import Position
from softstate.server import Node, ServerConfig
from softstate.server.storage.follower import first_position
from softstate.testing.simulation.clocks import NodeClock
from softstate.testing.simulation.disk import SimStore
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.freezer import start_on
from softstate.testing.trace import HeldLease, LeasesDropped, NodeEnded, NodeSampled, NodeStarted

PORT = 8700

REVOKED = ("slow_consumer", "overloaded", "denied", "skipped")
"""What a node counts when it ends leases before their time."""

OPEN_RETRY_S = 0.5
"""How often a node that starts looks whether the store is back."""


@final
class SimNode:
    """One place for a node: a host name, a clock, and perhaps a running `Node`."""

    def __init__(self, environment: Environment, name: str, config: ServerConfig) -> None:
        self.name = name
        self.config = config
        self.clock = NodeClock()
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
        """Where clients find it."""
        return f"ws://{self.name}:{PORT}"

    @property
    def up(self) -> bool:
        """Whether a node runs here, frozen or not."""
        return self.node is not None

    async def start(self) -> None:
        """Start a node, with nothing but the disk; returns once it listens. During an outage it waits for the disk."""
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
            random = Random(self._random.getrandbits(64))
            node = Node(self.config, store, position, tokens=self._token, jitter=random, now=self.clock.now)
            node.addresses.append(f"{self.name}:{PORT}")
            self.store, self.node = store, node
            listener = self._environment.network.listen(self.name, PORT)
            self._environment.trace.add(NodeStarted(trio.current_time(), self.name, self.incarnation))
            await node.run([listener], started=started.set)
        self._over("drained")
        started.set()
        self._ended.set()

    async def _open(self) -> tuple[SimStore, Position]:
        while True:
            try:
                store = SimStore(self._environment.disk, self._random, self._reached)
                return store, await first_position(store)
            except Unavailable:
                await trio.sleep(OPEN_RETRY_S)

    def _token(self) -> str:
        return f"{self._nonces.getrandbits(128):032x}"

    # Ending ----------------------------------------------------------------------------------------------------------

    def end(self, how: str = "killed") -> None:
        """End whatever runs here at this instant, by ``killed`` or ``power``. What it would still do has no effect.

        A killed process's connections are reset by its kernel; a host without power says nothing to anybody.
        """
        if self.node is None and self._ended.is_set():
            return
        self._over(how)
        self._environment.freezer.thaw(self.name)
        self._scope.cancel()

    def _over(self, how: str) -> None:
        self._points.clear()
        if self.node is None:
            return
        assert self.store is not None
        self.store.dead = True
        self.node = self.store = None
        self._environment.network.leave(self.name, silently=how == "power")
        self._environment.trace.add(NodeEnded(trio.current_time(), self.name, self.incarnation, how))

    async def ended(self) -> None:
        """Return once nothing runs here."""
        await self._ended.wait()

    def at_point(self, point: str, call: Callable[[], None], after: int = 1) -> None:
        """Call something when this node comes past a point of its store (see `SimStore`) for the `after`-th time."""
        self._points[point] = (after, call)

    def clear_points(self) -> None:
        """Call nothing at any point."""
        self._points.clear()

    async def _reached(self, point: str) -> None:
        if point not in self._points:
            return
        left, call = self._points.pop(point)
        if left > 1:
            self._points[point] = (left - 1, call)
            return
        call()
        if self.node is None:
            await trio.sleep_forever()

    # Looking in, and amnesia -----------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Note what the node holds."""
        node = self.node
        if node is None:
            return
        now = self.clock.now()
        leases = tuple(
            HeldLease(lease.name, lease.count, lease.deadline - now, lease.sink is not None) for lease in _leases(node)
        )
        outboxes = [connection.outbox for connection in node.sockets() if connection.outbox is not None]
        pending = max((len(outbox) for outbox in outboxes), default=0)
        pending_bytes = max((outbox._bytes for outbox in outboxes), default=0)  # noqa: SLF001
        revoked = sum(node.repairs[reason] for reason in REVOKED)
        sample = NodeSampled(
            trio.current_time(),
            self.name,
            self.incarnation,
            leases,
            len(node.sockets()),
            pending,
            pending_bytes,
            revoked,
        )
        self._environment.trace.add(sample)

    def forget_leases(self, share: float, random: Random) -> None:
        """Delete each lease with a chance of `share`, as if it had never been."""
        if self.node is None:
            return
        gone = [lease for lease in _leases(self.node) if random.random() < share]
        for lease in gone:
            self.node.table.release(lease)
        names = tuple(lease.name for lease in gone)
        self._environment.trace.add(LeasesDropped(trio.current_time(), self.name, names))

    def forget_names(self, share: float, random: Random) -> None:
        """Delete each subscription of each lease with a chance of `share`."""
        if self.node is None:
            return
        for lease in _leases(self.node):
            self.node.table.remove(lease, [name for name in lease.names if random.random() < share])


def _leases(node: Node) -> list[Lease]:
    return list(node.table._leases.values())  # noqa: SLF001
