"""Writing: read, judge, and commit if the head is still the one that was read; else repeat.

No code of ours runs inside etcd, so only nodes write to the store, and they keep the rule that a lineage begins after
anything that may have rewound history. Restoring a backup ends every etcd process that served the old data. So a write
goes over the connection over which its base was read, and a connection over which no lineage row was begun yet begins
one, in the same transaction and before any change. A lineage thus never spans a restored backup: a client that saw what
the backup does not hold finds another lineage at that revision, however far the copy has advanced since, and whichever
node advanced it.

That holds as long as a TCP connection to an endpoint ends in an etcd process. An HTTP proxy in between may keep it open
over a restart: then only the cluster id, the member id and the leader's term, which every answer carries, can show it,
and an etcd restored in the same place repeats them.

Every write also compares that nothing lies in the inbox under the reserved first segment, and moves that first: so what
is put there rules over every publish that is requested after the put.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

import trio

from softstate.errors import Unavailable
from softstate.position import Position
from softstate.store.base import Verdict, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.errors import SnapshotGone
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.inbox import entries_op, move
from softstate.store.etcd.last_write import LastWrite
from softstate.store.etcd.messages import Op, folded, none_in, put, value_is
from softstate.store.etcd.plan import Plan, plan_publish
from softstate.store.etcd.schema import Layout, StoredHead, prefix_end, write_head
from softstate.store.etcd.snapshot import begin_snapshot
from softstate.store.etcd.transaction import Bounds, EtcdTransaction, TransactionTooLong
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.nonce import lineage_nonce

CONTENTION_S = 0.002
"""Maximum pause after losing a compare-and-swap on the head key, in seconds; doubled on repeats."""

FAIRNESS_WINDOW_S = 0.1
"""How long after a lost race this node yields when it wins: each time as long as its write took, in seconds.

Otherwise the node that has just won, and need not read, wins again and again. Measured with four nodes that write
without pause: p99 of a commit of 2 changes 42 ms, 130 without it; of 32 changes 81 and 410; for 2 and 15 % of the
commits."""

YIELD_S_MAX = 0.02
"""The longest that a winner yields, in seconds, however slow etcd."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteResult(Generic[T]):
    """A write that was committed, or had nothing to commit: `stored` is the head that it has left."""

    result: T
    transaction: EtcdTransaction
    stored: StoredHead


@dataclass(slots=True)
class WriteOutcome:
    """Whether a write was sent whose outcome is not known."""

    unknown: bool = False


class Writer:
    """Commits to one namespace, one write at a time."""

    def __init__(self, gateway: Gateway, layout: Layout, random: Random) -> None:
        self._gateway = gateway
        self._layout = layout
        self._random = random
        self._last_write = LastWrite()
        self._lost_at = self._free_at = -math.inf

    async def publish(
        self, group: Sequence[Write], seen: tuple[Position, str], newest: int, bounds: Bounds
    ) -> WriteResult[list[Verdict]]:
        """Write a group that fits one transaction. Raises as `commit` does, and `TransactionTooLong`.

        `newest` is the highest revision that this node has met or was notified of.
        """
        plan = plan_publish(group)

        async def attempt(
            connection: Connection, outcome: WriteOutcome
        ) -> WriteResult[list[Verdict]] | TransactionTooLong | None:
            try:
                done = await self._from_memory(connection, outcome, group, newest, bounds)
                return done or await self._once(connection, outcome, plan, seen, bounds)
            except TransactionTooLong as error:
                # Raised further below: here it would end the connection, and with it the lineage.
                return error

        written: WriteResult[list[Verdict]] | TransactionTooLong = await self.retry(attempt)
        if isinstance(written, TransactionTooLong):
            raise written
        return written

    async def _from_memory(
        self, connection: Connection, outcome: WriteOutcome, group: Sequence[Write], newest: int, bounds: Bounds
    ) -> WriteResult[list[Verdict]] | None:
        """Write without reading first; None when that is not possible."""
        found = self._last_write.base_for(connection, group, newest)
        if found is None:
            return None
        base, known = found
        transaction = EtcdTransaction(self._layout.data(base.head.generation), base.head, bounds=bounds)
        nothing = FetchedSnapshot(base.head.position, base.head.floor, lineage_of={})
        verdicts = transaction.apply(group, nothing, known)
        if not transaction.records:
            return None
        transaction.compares += self._last_write.compares(transaction.data, group)
        stored = await self._write(connection, outcome, base, transaction)
        return None if stored is None else WriteResult(verdicts, transaction, stored)

    async def commit(self, plan: Plan[T], seen: tuple[Position, str], bounds: Bounds) -> WriteResult[T]:
        """Carry out a plan. Raises `Unavailable` (outcome unknown), or as `begin_snapshot` does (nothing was done)."""

        async def attempt(connection: Connection, outcome: WriteOutcome) -> WriteResult[T] | TransactionTooLong | None:
            try:
                return await self._once(connection, outcome, plan, seen, bounds)
            except TransactionTooLong as error:
                return error

        written: WriteResult[T] | TransactionTooLong = await self.retry(attempt)
        if isinstance(written, TransactionTooLong):
            raise Unavailable(
                f"{self._gateway.name}: keys that others have put below the namespace are too long: delete them"
            )
        return written

    async def _once(
        self, connection: Connection, outcome: WriteOutcome, plan: Plan[T], seen: tuple[Position, str], bounds: Bounds
    ) -> WriteResult[T] | None:
        first = entries_op(self._layout.reserved)
        snapshot = await begin_snapshot(
            self._gateway,
            connection,
            self._layout,
            seen,
            lineages=plan.lineages,
            ops=lambda data: [first, *plan.ops(data)],
        )
        nonce = None if connection.covered else lineage_nonce(self._random)
        transaction = EtcdTransaction(snapshot.data, snapshot.stored.head, nonce=nonce, bounds=bounds)
        ahead, *snapshot.answers = snapshot.answers
        if ahead.kvs:
            moved = await move(self._layout, snapshot, transaction, ahead)
            if await self._write(connection, outcome, snapshot.stored, transaction, compares=()) is not None:
                moved.report()
            return None
        result = await plan.draft(snapshot, transaction)
        if not transaction.changes:
            return WriteResult(result, transaction, snapshot.stored)
        stored = await self._write(connection, outcome, snapshot.stored, transaction)
        return None if stored is None else WriteResult(result, transaction, stored)

    async def _write(
        self,
        connection: Connection,
        outcome: WriteOutcome,
        base: StoredHead,
        transaction: EtcdTransaction,
        compares: Sequence[Op] | None = None,
    ) -> StoredHead | None:
        """Commit a transaction; None if another write came between, or an entry of the inbox that goes before it."""
        if compares is None:
            compares = [none_in(self._layout.reserved, prefix_end(self._layout.reserved))]
        stored = write_head(transaction.head, self._random)
        compares = [value_is(self._layout.head, base.raw), *compares, *transaction.compares]
        at = await self.send(connection, outcome, compares, stored, transaction.ops())
        if not at:
            self._last_write.forget()
            return None
        if transaction.records:
            self._last_write.remember(connection, base, stored, transaction, at)
        return stored

    async def send(
        self,
        connection: Connection,
        outcome: WriteOutcome,
        compares: Sequence[Op],
        stored: StoredHead,
        ops: Sequence[Op],
    ) -> int:
        """Write a head and what belongs to it in one transaction; see `Gateway.write`."""
        source = connection.source
        outcome.unknown = True
        committed = await self._gateway.write(connection, compares, folded(put(self._layout.head, stored.raw), ops))
        outcome.unknown = False
        if committed:
            # The head just written is of a lineage that was begun over this connection, now or earlier.
            connection.covered = connection.source == source
        return committed

    async def retry(self, attempt: Callable[[Connection, WriteOutcome], Awaitable[T | None]]) -> T:
        """Call `attempt` until it returns a result: after a pause if it lost a race, else over the next endpoint.

        A write that may have been committed is not repeated. Raises `Unavailable` then, and after `CALL_S`.
        """
        with self._gateway.time_limit():
            for _ in range(self._gateway.endpoints.count):
                outcome = WriteOutcome()
                try:
                    return await self._race(attempt, outcome)
                except Unavailable:
                    if outcome.unknown:
                        raise
            return await self._race(attempt, WriteOutcome())
        raise AssertionError("unreachable: the time limit raises")

    async def _race(
        self, attempt: Callable[[Connection, WriteOutcome], Awaitable[T | None]], outcome: WriteOutcome
    ) -> T:
        pause_s = CONTENTION_S
        await trio.sleep_until(self._free_at)
        async with self._gateway.writers.connection() as connection:
            while True:
                began = trio.current_time()
                try:
                    done = await attempt(connection, outcome)
                except SnapshotGone:
                    done = None
                now = trio.current_time()
                if done is not None:
                    if began - self._lost_at < FAIRNESS_WINDOW_S:
                        self._free_at = now + min(now - began, YIELD_S_MAX)
                    return done
                self._lost_at = now
                await trio.sleep(self._random.uniform(0, pause_s))
                pause_s = 2 * CONTENTION_S
