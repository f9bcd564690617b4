"""The sweeper: leases that end together, with many names, are over at once, and leave their groups in portions."""

import trio
from trio.testing import MockClock

from softstate.lease import Lease, LeaseTable
from softstate.server import Node, ServerConfig
from softstate.server.node import TOLD_PER_TURN
from softstate.store import MemoryDisk, MemoryStore
from softstate.wire.messages import Reason
from tests.kit.node_rig import until
from tests.kit.silent_sink import SilentSink

CONFIG = ServerConfig(ttl_ms=10_000, turn_names_max=100)
LEASES = 20
NAMES = 999


class Told(SilentSink):
    """Stands for a connection; the node tells it of the end of its lease."""

    def __init__(self, watch: "Watch") -> None:
        self.watch = watch

    def revoked(self, reason: Reason, retry_ms: int = 0) -> None:
        assert reason == "expired"
        self.watch.told += 1

    def fail(self) -> None:
        raise AssertionError


class Watch(trio.abc.Instrument):
    """Sees what happens in each turn of the loop: names that are reaped, and connections that are told."""

    def __init__(self, table: LeaseTable) -> None:
        self.table = table
        self.told = self.reaped_max = self.told_max = self.turns = 0
        self._names, self._told = 0, 0

    def after_io_wait(self, _timeout: float) -> None:
        self.turns += 1
        self.reaped_max = max(self.reaped_max, self._names - self.table._subscriptions)
        self.told_max = max(self.told_max, self.told - self._told)
        self._names, self._told = self.table._subscriptions, self.told


async def test_many_leases_with_many_names_expire_in_portions(autojump_clock: MockClock) -> None:
    store = MemoryStore(MemoryDisk())
    node = Node(CONFIG, store, await store.head())
    watch = Watch(node.leases)
    for number in range(LEASES + 10 * TOLD_PER_TURN):
        lease: Lease = node.leases.grant(f"t{number}", node.now(), 10.0)
        lease.sink = Told(watch)
        if number < LEASES:
            node.leases.add(lease, [f"{number % 7}/{name}" for name in range(NAMES)])
    assert node.leases.statistics().subscriptions == LEASES * NAMES
    autojump_clock.jump(11.5)
    trio.lowlevel.add_instrument(watch)
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        await until(lambda: not (node.leases._subscriptions or len(node.leases)))
        nursery.cancel_scope.cancel()
    assert watch.told == LEASES + 10 * TOLD_PER_TURN
    assert node.repairs["expired"] == watch.told
    assert watch.reaped_max == CONFIG.turn_names_max
    assert watch.told_max <= 2 * TOLD_PER_TURN
    assert watch.turns >= LEASES * NAMES / CONFIG.turn_names_max
