"""Where session state may be: nowhere, in the node alone, in a store beside it with an expiry, or durable for good.

The alternatives sit behind the product's own lease table: `PlacedTable` writes each grant, extension, name and end to a
`Mirror` before the call returns, so before the client has its answer, and a node that starts reads all of it back. The
session, the node and the client are the product's; a client resumes its session there as after a lost connection.

The mirror stands for Redis (a hash with an expiry) or for tables in SQLite or PostgreSQL (leases, and a queue of
changes for each client). It counts operations, and does them in a real engine if it has one (`bench.spectrum.stores`).
Queues are not read: a client that comes back reads the newest values, as the product's do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bench.spectrum.stores import SessionStore
from softstate.auth.identity import Identity
from softstate.lease.table import Group, Lease, LeaseTable

Where: TypeAlias = Literal["nowhere", "node", "external", "durable"]

NOTHING_ENDS_S = 1.0
"""Time until a node looks again for leases that are over, where none ever is: names may have to be reaped."""


@dataclass(slots=True)
class Row:
    """The session that a mirror holds."""

    deadline: float
    ttl_s: float
    name: str
    names: dict[str, None] = field(default_factory=dict)
    identity: Identity | None = None
    """The owner; without one it is not resumed."""


@dataclass(slots=True)
class Mirror:
    """Sessions outside of any node. `operations` are counted by kind; `durable`: they never expire, and have queues.

    What is written goes to the `store` as well, if there is one.
    """

    durable: bool
    clock: Callable[[], float]
    rows: dict[str, Row] = field(default_factory=dict)
    operations: Counter[str] = field(default_factory=Counter)
    store: SessionStore | None = None

    def living(self) -> dict[str, Row]:
        """Return the sessions that have not expired, as a node reads them when it starts: one operation each."""
        if not self.durable:
            now = self.clock()
            self.rows = {token: row for token, row in self.rows.items() if row.deadline > now}
        self.operations["load"] += len(self.rows)
        return self.rows

    def put(self, kind: str, token: str, row: Row) -> None:
        """Write a session: one operation."""
        self.rows[token] = row
        self.operations[kind] += 1
        if self.store is not None:
            self.store.put([(token, " ".join(row.names))])

    def extend(self, token: str, deadline: float) -> None:
        """Move the end of a session: one operation, unless sessions have no end."""
        row = self.rows.get(token)
        if self.durable or row is None:
            return
        row.deadline = deadline
        self.operations["extend"] += 1
        if self.store is not None:
            self.store.extend(token)

    def drop(self, token: str) -> None:
        """Delete a session, if it is there: one operation."""
        if self.rows.pop(token, None) is None:
            return
        self.operations["release"] += 1
        if self.store is not None:
            self.store.drop(token)

    def queue(self, topic: str, owed: list[str], told: list[str]) -> None:
        """Queue a change for each session that is owed it, and unqueue it for those that were told."""
        self.operations["queue"] += len(owed)
        self.operations["unqueue"] += len(told)
        if self.store is not None:
            self.store.queue(owed, topic)
            self.store.unqueue(told, topic)


class PlacedTable(LeaseTable):
    """The lease table of a node whose sessions are in a mirror as well. `placed_in` makes it for one."""

    mirror: Mirror

    def __init__(self, now: float, **options: Any) -> None:
        super().__init__(now, **options)
        for token, row in self.mirror.living().items():
            lease = super().grant(token, now, row.ttl_s, row.name, row.identity)
            super().add(lease, row.names)
            self.detach(lease)

    def grant(self, token: str, now: float, ttl_s: float, *rest: Any, **named: Any) -> Lease:
        """See `LeaseTable.grant`; one operation."""
        lease = super().grant(token, now, ttl_s, *rest, **named)
        self.mirror.put("grant", token, Row(self._deadline(ttl_s), ttl_s, lease.name, identity=lease.identity))
        return lease

    def extend(self, lease: Lease, now: float, ttl_s: float | None = None) -> None:
        """See `LeaseTable.extend`; one operation, unless sessions have no end."""
        super().extend(lease, now, ttl_s)
        self.mirror.extend(lease.token, self._deadline(lease.ttl_s))

    def add(self, lease: Lease, names: Iterable[str]) -> list[str]:
        """See `LeaseTable.add`; one operation."""
        fresh = super().add(lease, names)
        if fresh:
            row = self.mirror.rows[lease.token]
            row.names.update(dict.fromkeys(fresh))
            self.mirror.put("add", lease.token, row)
        return fresh

    def remove(self, lease: Lease, names: Iterable[str]) -> None:
        """See `LeaseTable.remove`; one operation."""
        held = [name for name in names if name in lease.names]
        super().remove(lease, held)
        row = self.mirror.rows.get(lease.token)
        if held and row is not None:
            for name in held:
                row.names.pop(name, None)
            self.mirror.put("remove", lease.token, row)

    def release(self, lease: Lease) -> None:
        """See `LeaseTable.release`; one operation."""
        super().release(lease)
        self._gone([lease])

    def clear(self, leases: Iterable[Lease] | None = None) -> list[Lease]:
        """See `LeaseTable.clear`; one operation for each lease."""
        ended = super().clear(leases)
        self._gone(ended)
        return ended

    def expire(self, now: float, limit: int = 1_000) -> list[Lease]:
        """See `LeaseTable.expire`; sessions of a durable mirror have no end. A store with expiry needs no operation."""
        if self.mirror.durable:
            return []
        ended = super().expire(now, limit)
        for lease in ended:
            self.mirror.rows.pop(lease.token, None)
        return ended

    def next_expire_s(self, now: float) -> float:
        """See `LeaseTable.next_expire_s`."""
        return NOTHING_ENDS_S if self.mirror.durable and not self.reapable else super().next_expire_s(now)

    def reached(self, topic: str) -> list[Group]:
        """See `LeaseTable.reached`; a durable mirror queues the change for each lease, and unqueues it once it is sent.

        Called once for each change.
        """
        groups = super().reached(topic)
        if self.mirror.durable and groups:
            leases = list(self.merge(groups))
            told = [lease.token for lease in leases if lease.sink is not None]
            self.mirror.queue(topic, [lease.token for lease in leases], told)
        return groups

    def _deadline(self, ttl_s: float) -> float:
        return self.mirror.clock() + ttl_s * self._lasts

    def _gone(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            self.mirror.drop(lease.token)


def placed_in(mirror: Mirror) -> type[PlacedTable]:
    """Return the lease table of nodes that share a mirror."""
    return type("PlacedTable", (PlacedTable,), {"mirror": mirror})
