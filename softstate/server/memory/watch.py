"""Looks at the memory of a node every few seconds, has the lease table take no more, and ends leases (P-CONN-17)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, final

import structlog
import trio

from softstate.lease import Lease, LeaseTable
from softstate.lease.weight import MEMORY_LIMIT, MEMORY_RETRY_MS, victims, weight_parts
from softstate.server.bulkhead import Bulkhead
from softstate.server.memory.pressure import LEASES_MIN, Fill, Pressure
from softstate.server.memory.system import resident_bytes

LOOK_S = 5.0
"""Time between two looks."""

CONNECTION_BYTES = 2_000
"""A connection, beside its lease: 1,760 (`python -m bench.measure.holdings`). The kernel's buffers are not in it."""

TLS_BYTES = 18 * 1024
"""TLS of a connection: 18,092 (likewise)."""

SUMMED_PER_TURN = 4_096
"""Connections whose pending bytes are added up in one turn of the loop: about 1 ms."""

log = structlog.get_logger("softstate.memory")


class Pending(Protocol):
    """A queue of one connection."""

    @property
    def pending_bytes(self) -> int:
        """The bytes that wait in it."""


@final
class MemoryWatch:
    """The memory of one node, which may use `most` bytes; 0: it is not watched.

    `connections` counts what is open, `queues` returns what waits for each of them, `revoke` ends leases as
    `overloaded`, `limited` notes that this was done. `resident` tells the memory of this process, in bytes, and before
    anything is held what a node takes by itself. `tls` tells that connections are sealed.
    """

    def __init__(
        self,
        most: int,
        leases: LeaseTable,
        connections: Callable[[], int],
        queues: Callable[[], Collection[Pending]],
        revoke: Callable[[Sequence[Lease]], None],
        limited: Callable[[str], None],
        resident: Callable[[], int] = resident_bytes,
        *,
        tls: bool = False,
    ) -> None:
        self.pressure = Pressure(most)
        self.parts: dict[str, int] = {}
        """The bytes of all that is held, by what it is, as of the last look."""
        self.revoked = 0
        """Leases that were ended."""
        self._leases = leases
        self._connections = connections
        self._connection_bytes = CONNECTION_BYTES + (TLS_BYTES if tls else 0)
        self._queues = queues
        self._revoke = revoke
        self._limited = limited
        self._resident = resident
        self._base = resident() if most else 0

    def statistics(self) -> dict[str, int]:
        """Count under the names that are shown."""
        return {
            "memory_max_bytes": self.pressure.most,
            "memory_used_bytes": self.pressure.used,
            "memory_revoked": self.revoked,
        }

    async def run(self, bulkhead: Bulkhead) -> None:
        """Look until cancelled: at first before anybody comes, so that a herd finds the limit."""
        while self.pressure.most:
            with bulkhead.contain("memory"):
                await self.look()
            await trio.sleep(LOOK_S)
        await trio.lowlevel.checkpoint()

    async def look(self) -> None:
        """Look once, and act: in as many turns of the loop as that takes."""
        pending = await self._pending()
        leases, pressure = self._leases, self.pressure
        counts = leases.statistics()
        held = weight_parts(counts)
        connections = self._connections() * self._connection_bytes
        self.parts = {"base": self._base, **held, "connections": connections, "pending": pending}
        changed = pressure.look(sum(self.parts.values()), self._resident())
        weight = sum(held.values())
        leases.weight_max = pressure.room(weight)
        leases.retry_ms = 0 if pressure.fill is Fill.EASY else MEMORY_RETRY_MS
        if changed:
            self._tell(weight)
        excess = pressure.excess(weight)
        # Names of leases that have ended still count until they are reaped.
        if excess and not leases.reapable:
            for portion in victims(leases.all(), counts, excess):
                ending = [lease for lease in portion if leases.get(lease.token) is lease]
                if ending:
                    self._revoke(ending)
                    self._limited(MEMORY_LIMIT)
                    self.revoked += len(ending)
                await trio.lowlevel.checkpoint()

    async def _pending(self) -> int:
        queues, total = tuple(self._queues()), 0
        for at in range(0, len(queues), SUMMED_PER_TURN):
            total += sum([queue.pending_bytes for queue in queues[at : at + SUMMED_PER_TURN]])
            await trio.lowlevel.checkpoint()
        return total

    def _tell(self, weight: int) -> None:
        pressure = self.pressure
        told = {"used": pressure.used, "memory_max": pressure.most, **self.parts}
        match pressure.fill:
            case Fill.EASY:
                log.info("memory in order again", **told)
            case Fill.TIGHT:
                log.warning("memory nearly full: no new sessions and names", **told)
            case Fill.FULL if weight < LEASES_MIN * pressure.most:
                log.error("memory full, and not of leases: no new sessions and names", **told)
            case Fill.FULL:
                log.error("memory full: leases are revoked, the largest identities first", **told)
