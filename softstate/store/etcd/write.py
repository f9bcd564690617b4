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
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

import msgspec
import trio

from softstate.errors import StoreRefused, Unavailable
from softstate.position import Position
from softstate.store.base import Verdict, Write
from softstate.store.etcd.connection import Connection
from softstate.store.etcd.errors import SnapshotGone
from softstate.store.etcd.gateway import Gateway
from softstate.store.etcd.last_write import LastWrite, compare_new_keys
from softstate.store.etcd.messages import Op, folded, get, put, span, unchanged, value_is
from softstate.store.etcd.schema import (
    Data,
    Head,
    Layout,
    StoredHead,
    prefix_end,
    read_head,
    read_keylog,
    read_use,
    version_of,
    write_head,
)
from softstate.store.etcd.snapshot import EtcdSnapshot, begin_snapshot, topics_in
from softstate.store.etcd.transaction import EtcdTransaction
from softstate.store.remote.fetched import FetchedSnapshot
from softstate.store.rules.nonce import epoch_nonce, lineage_nonce

CONTENTION_S = 0.002
"""Maximum pause after losing a compare-and-swap on the head key, in seconds; doubled on repeats."""

FAIRNESS_WINDOW_S = 0.1
"""How long after a lost race this node yields when it wins: each time as long as its write took, in seconds.

Otherwise the node that has just won, and need not read, wins again and again. Measured with four nodes that write
without pause: p99 of a commit of 2 changes 42 ms, 130 without it; of 32 changes 81 and 410; for 2 and 15 % of the
commits."""

YIELD_S_MAX = 0.02
"""The longest that a winner yields, in seconds, however slow etcd."""

COMPACT_ROWS = 512
"""How many tombstones, and how many idempotency keys, one compacting transaction removes at most.

Fewer than `softstate.store.limits.COMPACT_ROWS`: etcd limits the operations of a transaction."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """One write: `ops` and `lineages` are read with the head, then `draft` fills the transaction.

    `draft` is called again, with a new transaction, whenever another node has committed in between.
    """

    draft: Callable[[EtcdSnapshot, EtcdTransaction], Awaitable[T]]
    ops: Callable[[Data], Sequence[Op]] = lambda _data: ()
    lineages: Sequence[int] = ()


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
        self, group: Sequence[Write], seen: tuple[Position, str], newest: int, keys_max: int
    ) -> WriteResult[list[Verdict]]:
        """Write a group that fits one transaction. Raises as `commit` does.

        `newest` is the highest revision that this node has met or was notified of.
        """
        plan = plan_publish(group)

        async def attempt(connection: Connection, outcome: WriteOutcome) -> WriteResult[list[Verdict]] | None:
            done = await self._from_memory(connection, outcome, group, newest, keys_max)
            return done or await self._once(connection, outcome, plan, seen, keys_max)

        return await self.retry(attempt)

    async def _from_memory(
        self, connection: Connection, outcome: WriteOutcome, group: Sequence[Write], newest: int, keys_max: int
    ) -> WriteResult[list[Verdict]] | None:
        """Write without reading first; None when that is not possible."""
        found = self._last_write.base_for(connection, group, newest)
        if found is None:
            return None
        base, topics = found
        transaction = EtcdTransaction(self._layout.data(base.head.generation), base.head, keys_max=keys_max)
        nothing = FetchedSnapshot(base.head.position, base.head.floor, lineage_of={})
        verdicts = transaction.apply(group, nothing, topics, {})
        if not transaction.records:
            return None
        compare_new_keys(transaction, group)
        stored = await self._write(connection, outcome, base, transaction)
        return None if stored is None else WriteResult(verdicts, transaction, stored)

    async def commit(self, plan: Plan[T], seen: tuple[Position, str], keys_max: int) -> WriteResult[T]:
        """Carry out a plan. Raises `Unavailable` (outcome unknown), or as `begin_snapshot` does (nothing was done)."""

        async def attempt(connection: Connection, outcome: WriteOutcome) -> WriteResult[T] | None:
            return await self._once(connection, outcome, plan, seen, keys_max)

        return await self.retry(attempt)

    async def _once(
        self, connection: Connection, outcome: WriteOutcome, plan: Plan[T], seen: tuple[Position, str], keys_max: int
    ) -> WriteResult[T] | None:
        snapshot = await begin_snapshot(
            self._gateway, connection, self._layout, seen, lineages=plan.lineages, ops=plan.ops
        )
        nonce = None if connection.covered else lineage_nonce(self._random)
        transaction = EtcdTransaction(snapshot.data, snapshot.stored.head, nonce=nonce, keys_max=keys_max)
        result = await plan.draft(snapshot, transaction)
        if not transaction.changes:
            return WriteResult(result, transaction, snapshot.stored)
        stored = await self._write(connection, outcome, snapshot.stored, transaction)
        return None if stored is None else WriteResult(result, transaction, stored)

    async def _write(
        self, connection: Connection, outcome: WriteOutcome, base: StoredHead, transaction: EtcdTransaction
    ) -> StoredHead | None:
        stored = write_head(transaction.head, self._random)
        compares = [value_is(self._layout.head, base.raw), *transaction.compares]
        if not await self.send(connection, outcome, compares, stored, transaction.ops()):
            self._last_write.forget()
            return None
        if transaction.records:
            self._last_write.remember(connection, base, stored, transaction)
        return stored

    async def send(
        self,
        connection: Connection,
        outcome: WriteOutcome,
        compares: Sequence[Op],
        stored: StoredHead,
        ops: Sequence[Op],
    ) -> bool:
        """Write a head and what belongs to it in one transaction; tell whether all comparisons held."""
        source = connection.source
        outcome.unknown = True
        committed = await self._gateway.write(connection, compares, folded(put(self._layout.head, stored.raw), ops))
        outcome.unknown = False
        if committed:
            # The head just written is of a lineage that was begun over this connection, now or earlier.
            connection.covered = connection.source == source
        return committed

    async def open(self, lineage: str) -> StoredHead:
        """Commit a lineage row, and create the store if there is none. Raises `StoreRefused` or `Unavailable`."""

        async def attempt(connection: Connection, outcome: WriteOutcome) -> StoredHead | None:
            layout, end = self._layout, prefix_end(self._layout.root)
            inbox_end = prefix_end(layout.inbox)
            counted = [span(layout.root, layout.inbox, count_only=True), span(inbox_end, end, count_only=True)]
            answer = await self._gateway.txn(connection, [get(layout.head), *counted])
            found, below, above = (one.response_range for one in answer.responses)
            if found.kvs:
                base = read_head(found.kvs[0].value, self._gateway.name)
                transaction = EtcdTransaction(layout.data(base.head.generation), base.head, nonce=lineage)
                compare = value_is(layout.head, base.raw)
            elif below.count or above.count:
                raise StoreRefused(
                    f"{self._gateway.name} holds keys below {layout.namespace}/ that are not softstate's, and were left"
                    " untouched: choose another ?namespace="
                )
            else:
                empty = Head(epoch_nonce(self._random), "", 0, 0, lineage_nonce(self._random), "")
                transaction = EtcdTransaction(layout.data(empty.generation), empty, nonce=lineage)
                compare = unchanged(layout.head, 0)
            stored = write_head(transaction.head, self._random)
            return stored if await self.send(connection, outcome, [compare], stored, transaction.ops()) else None

        return await self.retry(attempt)

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


def plan_publish(group: Sequence[Write]) -> Plan[list[Verdict]]:
    """Plan to publish a group that fits one transaction."""
    topics = list(dict.fromkeys(publish.topic for publish in group))
    keys = list(dict.fromkeys((publish.topic, publish.key) for publish in group if publish.key is not None))

    def ops(data: Data) -> list[Op]:
        return [get(data.topic(topic)) for topic in topics] + [get(data.key(topic, key)) for topic, key in keys]

    async def draft(snapshot: EtcdSnapshot, transaction: EtcdTransaction) -> list[Verdict]:
        held = zip(keys, snapshot.answers[len(topics) :], strict=True)
        used = {name: read_use(answer.kvs[0].value) for name, answer in held if answer.kvs}
        return transaction.apply(group, snapshot.fetched(), topics_in(topics, snapshot.answers[: len(topics)]), used)

    witnesses = [publish.witness.revision for publish in group if publish.witness is not None]
    return Plan(draft, ops, witnesses)


def plan_compaction(tombstones: int, keys: int) -> Plan[tuple[int, bool]]:
    """Plan to forget `COMPACT_ROWS` tombstones and as many keys at most; the floor, and whether to go on."""

    def ops(data: Data) -> list[Op]:
        return [
            span(*data.between("tomb", 0, tombstones), limit=COMPACT_ROWS),
            span(*data.between("keylog", 0, keys), limit=COMPACT_ROWS),
        ]

    async def draft(snapshot: EtcdSnapshot, transaction: EtcdTransaction) -> tuple[int, bool]:
        buried, expired = snapshot.answers
        data, head = transaction.data, transaction.head
        floor = head.floor
        for kv in buried.kvs:
            floor = max(floor, version_of(kv.key))
            transaction.changes |= {kv.key: None, data.at("log", version_of(kv.key)): None}
            transaction.changes[data.topic(kv.value.decode())] = None
        for kv in expired.kvs:
            held = read_keylog(kv.key, kv.value)
            transaction.changes |= {kv.key: None, data.key(held.topic, held.key): None}
        transaction.head = msgspec.structs.replace(head, floor=floor, keys=head.keys - len(expired.kvs))
        return floor, buried.more or expired.more

    return Plan(draft, ops)
