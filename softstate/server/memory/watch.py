"""Looks at the memory of a node every few seconds, has the lease table take no more, and ends leases (P-CONN-17)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, final

import structlog
import trio

from softstate.errors import Overloaded
from softstate.lease import Lease, LeaseTable
from softstate.lease.weight import MEMORY_LIMIT, MEMORY_RETRY_MS, victims, weight_parts
from softstate.server.bulkhead import Bulkhead
from softstate.server.memory.pressure import LEASES_MIN, Fill, Pressure
from softstate.server.memory.system import resident_bytes

LOOK_S = 5.0
"""Time between two looks..."""

LOOK_SOON_S = 0.5
"""... and while connections hold more than `SOON` of the memory, which can grow fast."""

SOON = 0.05

HELD_BYTES_MIN = 16 * 1024
"""Bytes that a connection may hold in any case: a full node closes those that hold more."""

CONNECTION_BYTES = 2_000
"""A connection, beside its lease: 1,760 (`python -m bench.measure.holdings`). The kernel's buffers are not in it."""

TLS_BYTES = 18 * 1024
"""TLS of a connection: 18,092 (likewise)."""

SUMMED_PER_TURN = 4_096
"""Connections whose pending bytes are added up in one turn of the loop: about 1 ms."""

SHED_TEXT = f"this node's memory is full ({MEMORY_LIMIT}), and this message large: send it later, or to another node"

SHED_PER_TURN = 64
"""Connections that are closed in one turn of the loop."""

log = structlog.get_logger("softstate.memory")


class Pending(Protocol):
    """A queue of one connection."""

    @property
    def pending_bytes(self) -> int:
        """The bytes that wait in it."""


class Holder(Protocol):
    """A connection."""

    @property
    def held_bytes(self) -> int:
        """The bytes of what it has received in part, or has to write."""

    def shed_memory(self, error: Overloaded) -> None:
        """Close it, since the memory is full: `error` says so."""


@final
class MemoryWatch:
    """The memory of one node, which may use `most` bytes; 0: it is not watched.

    `connections` counts what is open, `queues` returns what waits for each of them, `holders` those that may hold what
    came in part; `revoke` ends leases as `overloaded`, `limited` notes that this, or shedding, was done. `resident`
    tells the memory of this process, in bytes, and before anything is held what a node takes by itself. `tls` tells
    that connections are sealed.
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
        holders: Callable[[], Collection[Holder]] = tuple,
    ) -> None:
        self.pressure = Pressure(most)
        self.parts: dict[str, int] = {}
        """The bytes of all that is held, by what it is, as of the last look."""
        self.revoked = 0
        """Leases that were ended."""
        self.shed = 0
        """Connections that were closed."""
        self._leases = leases
        self._connections = connections
        self._connection_bytes = CONNECTION_BYTES + (TLS_BYTES if tls else 0)
        self._queues = queues
        self._holders = holders
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
            "memory_shed": self.shed,
        }

    async def run(self, bulkhead: Bulkhead) -> None:
        """Look until cancelled: at first before anybody comes, so that a herd finds the limit."""
        while self.pressure.most:
            with bulkhead.contain("memory"):
                await self.look()
            soon = self.parts.get("unfinished", 0) > SOON * self.pressure.most
            await trio.sleep(LOOK_SOON_S if soon else LOOK_S)
        await trio.lowlevel.checkpoint()

    async def look(self) -> None:
        """Look once, and act: in as many turns of the loop as that takes."""
        pending = await self._pending()
        unfinished, large = await self._unfinished()
        leases, pressure = self._leases, self.pressure
        counts = leases.statistics()
        held = weight_parts(counts)
        connections = self._connections() * self._connection_bytes
        self.parts = {
            "base": self._base, **held, "connections": connections, "pending": pending,
            "unfinished": unfinished,
        }  # fmt: skip
        changed = pressure.look(sum(self.parts.values()), self._resident())
        weight = sum(held.values())
        leases.weight_max = pressure.room(weight)
        leases.retry_ms = 0 if pressure.fill is Fill.EASY else MEMORY_RETRY_MS
        if changed:
            self._tell(weight)
        freed = await self._shed(large, pressure.beyond())
        excess = pressure.excess(weight) - freed
        # Names of leases that have ended still count until they are reaped.
        if excess > 0 and not leases.reapable:
            for portion in victims(leases.all(), counts, excess):
                ending = [lease for lease in portion if leases.get(lease.token) is lease]
                if ending:
                    self._revoke(ending)
                    self._limited(MEMORY_LIMIT)
                    self.revoked += len(ending)
                await trio.lowlevel.checkpoint()

    async def _unfinished(self) -> tuple[int, list[tuple[int, Holder]]]:
        """Return how many bytes connections hold, and those that hold much, with how much that is."""
        holders, total, large = tuple(self._holders()), 0, list[tuple[int, Holder]]()
        for at in range(0, len(holders), SUMMED_PER_TURN):
            held = [(holder.held_bytes, holder) for holder in holders[at : at + SUMMED_PER_TURN]]
            total += sum([size for size, _ in held])
            large += [each for each in held if each[0] > HELD_BYTES_MIN]
            await trio.lowlevel.checkpoint()
        return total, large

    async def _shed(self, large: list[tuple[int, Holder]], excess: float) -> int:
        """Close those that hold most, until so many bytes are free; return how many these are."""
        freed, error = 0, Overloaded(SHED_TEXT, retry_ms=MEMORY_RETRY_MS, why=MEMORY_LIMIT)
        large.sort(key=lambda each: -each[0])
        for number, (size, holder) in enumerate(large):
            if freed >= excess:
                break
            holder.shed_memory(error)
            self._limited(MEMORY_LIMIT)
            self.shed += 1
            freed += size
            if number % SHED_PER_TURN == SHED_PER_TURN - 1:
                await trio.lowlevel.checkpoint()
        return freed

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
                log.error(
                    "memory full, and not of leases: what holds large messages is closed, nothing new taken", **told
                )
            case Fill.FULL:
                log.error("memory full: leases are revoked, the largest identities first", **told)
