"""Advice of a node: how many clients it counts, and at which rates it believes to serve them."""

from __future__ import annotations

from softstate.lease.table import Sink
from softstate.server import Node, ServerConfig
from softstate.session.load_advice import SPREAD_MS_MIN
from softstate.store.memory.store import MemoryStore
from softstate.wire.push import PushBatch


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Silent(Sink):
    """A connection that takes pushes, and does nothing with them."""

    def offer(self, batch: PushBatch) -> None:
        pass


async def a_node(clock: Clock, config: ServerConfig | None = None) -> Node:
    store = MemoryStore()
    return Node(config or ServerConfig(), store, await store.head(), now=clock)


async def test_dead_leases_raise_no_spread_once_their_clients_would_be_back() -> None:
    clock = Clock()
    node = await a_node(clock)
    for number in range(941):
        lease = node.leases.grant(str(number), clock(), 60.0)
        node.leases.attach(lease, Silent())
        if number:
            node.leases.detach(lease)
    assert node.terms().recover.spread_ms == 2510
    clock.now += 30
    assert node.terms().recover.spread_ms == SPREAD_MS_MIN
    assert node.terms().poll.spread_ms == SPREAD_MS_MIN
    counts = node.counts()
    assert (counts["sessions"], counts["attached"], counts["detached"]) == (941, 1, 940)
