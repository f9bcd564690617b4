"""Writing: read, judge, and commit if the head is still the one that was read; else the same again.

No code of ours runs inside etcd, so only nodes write the truth, and the rule that a lineage begins with anything after
which history may have been rewound is kept here. Restoring a backup ends every etcd process that served the old data.
So a write goes over the connection over which its base was read, and a connection over which no lineage row was begun
yet begins one, in the same transaction and before any change. A lineage thus never spans a restored backup: whoever saw
what the backup does not hold finds another lineage at that revision, however far the copy has advanced since, and
whoever advanced it.

That holds as long as a TCP connection to an endpoint ends in an etcd process. An HTTP proxy in between may keep it open
over a restart: then the cluster id, the member id and the leader's term, which every answer carries, are all that
tells, and an etcd restored in the same place repeats them.
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
from softstate.store.etcd.last_write import Recall, compare_new_keys
from softstate.store.etcd.messages import Op, folded, get, put, span, unchanged, value_is
from softstate.store.etcd.schema import (
    Data,
    Head,
    Known,
    Layout,
    after_all,
    read_head,
    read_keylog,
    read_use,
    version_of,
    write_head,
)
from softstate.store.etcd.snapshot import Look, begin, topics_in
from softstate.store.etcd.transaction import EtcdTransaction
from softstate.store.remote.fetched import Fetched
from softstate.store.rules.nonce import epoch_nonce, lineage_nonce

CONTENTION_S = 0.002
"""Who has lost a race for the head waits up to so long before trying again, twice that from the second time on."""

RIVALRY_S = 0.1
"""For so long after a lost race a winner gives way: as long as its write took, `GIVE_WAY_S_MAX` at most, in seconds.

Else whoever has just won, and need not read, wins again and again. Measured with four nodes that write without pause:
p99 of a commit of 2 changes 42 ms, 130 without it; of 32 changes 81 and 410; for 2 and 15 % of the commits."""

GIVE_WAY_S_MAX = 0.02
"""The longest that a winner gives way, in seconds, however slow etcd."""

COMPACT_ROWS = 512
"""How many tombstones, and how many idempotency keys, one compacting transaction removes at most."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """One write: `ops` and `lineages` are read with the head, then `draft` fills the transaction.

    `draft` is called again, with a new transaction, whenever another node has committed in between.
    """

    draft: Callable[[Look, EtcdTransaction], Awaitable[T]]
    ops: Callable[[Data], Sequence[Op]] = lambda _data: ()
    lineages: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A write that was committed, or had nothing to commit: `known` is the head that it has left."""

    result: T
    transaction: EtcdTransaction
    known: Known


@dataclass(slots=True)
class Fate:
    """Whether a write is on its way whose outcome is not known."""

    unknown: bool = False


class Writer:
    """Commits to one namespace, one write at a time."""

    def __init__(self, gateway: Gateway, layout: Layout, random: Random) -> None:
        self._gateway = gateway
        self._layout = layout
        self._random = random
        self._recall = Recall()
        self._lost_at = self._free_at = -math.inf

    async def publish(
        self, group: Sequence[Write], seen: tuple[Position, str], newest: int, keys_max: int
    ) -> Done[list[Verdict]]:
        """Write a group that fits one transaction. Raises as `commit` does.

        `newest` is the highest revision that this node has heard of.
        """
        plan = publishing(group)

        async def attempt(connection: Connection, fate: Fate) -> Done[list[Verdict]] | None:
            done = await self._from_memory(connection, fate, group, newest, keys_max)
            return done or await self._once(connection, fate, plan, seen, keys_max)

        return await self.persist(attempt)

    async def _from_memory(
        self, connection: Connection, fate: Fate, group: Sequence[Write], newest: int, keys_max: int
    ) -> Done[list[Verdict]] | None:
        """Write without reading first; None when that cannot be."""
        found = self._recall.base_for(connection, group, newest)
        if found is None:
            return None
        base, topics = found
        transaction = EtcdTransaction(self._layout.data(base.head.generation), base.head, keys_max=keys_max)
        nothing = Fetched(base.head.position, base.head.floor, lineage_of={})
        verdicts = transaction.apply(group, nothing, topics, {})
        if not transaction.records:
            return None
        compare_new_keys(transaction, group)
        known = await self._write(connection, fate, base, transaction)
        return None if known is None else Done(verdicts, transaction, known)

    async def commit(self, plan: Plan[T], seen: tuple[Position, str], keys_max: int) -> Done[T]:
        """Carry out a plan. Raises `Unavailable` (outcome unknown), and what `begin` raises (nothing was done)."""

        async def attempt(connection: Connection, fate: Fate) -> Done[T] | None:
            return await self._once(connection, fate, plan, seen, keys_max)

        return await self.persist(attempt)

    async def _once(
        self, connection: Connection, fate: Fate, plan: Plan[T], seen: tuple[Position, str], keys_max: int
    ) -> Done[T] | None:
        look = await begin(self._gateway, connection, self._layout, seen, lineages=plan.lineages, ops=plan.ops)
        nonce = None if connection.covered else lineage_nonce(self._random)
        transaction = EtcdTransaction(look.data, look.known.head, nonce=nonce, keys_max=keys_max)
        result = await plan.draft(look, transaction)
        if not transaction.changes:
            return Done(result, transaction, look.known)
        known = await self._write(connection, fate, look.known, transaction)
        return None if known is None else Done(result, transaction, known)

    async def _write(
        self, connection: Connection, fate: Fate, base: Known, transaction: EtcdTransaction
    ) -> Known | None:
        known = write_head(transaction.head, self._random)
        compares = [value_is(self._layout.head, base.raw), *transaction.compares]
        if not await self.send(connection, fate, compares, known, transaction.ops()):
            self._recall.forget()
            return None
        if transaction.records:
            self._recall.remember(connection, base, known, transaction)
        return known

    async def send(
        self, connection: Connection, fate: Fate, compares: Sequence[Op], known: Known, ops: Sequence[Op]
    ) -> bool:
        """Write a head and what belongs to it in one transaction; tell whether all comparisons held."""
        source = connection.source
        fate.unknown = True
        committed = await self._gateway.write(connection, compares, folded(put(self._layout.head, known.raw), ops))
        fate.unknown = False
        if committed:
            # The head just written is of a lineage that was begun over this connection, now or earlier.
            connection.covered = connection.source == source
        return committed

    async def open(self, lineage: str) -> Known:
        """Commit a lineage row, and create the store if there is none. Raises `StoreRefused` or `Unavailable`."""

        async def attempt(connection: Connection, fate: Fate) -> Known | None:
            layout, end = self._layout, after_all(self._layout.root)
            inbox_end = after_all(layout.inbox)
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
            known = write_head(transaction.head, self._random)
            return known if await self.send(connection, fate, [compare], known, transaction.ops()) else None

        return await self.persist(attempt)

    async def persist(self, attempt: Callable[[Connection, Fate], Awaitable[T | None]]) -> T:
        """Call `attempt` until it returns something: after a while if it lost a race, else over the next endpoint.

        What may have been committed is not tried again. Raises `Unavailable` then, and after `CALL_S`.
        """
        with self._gateway.patience():
            for _ in range(self._gateway.endpoints.count):
                fate = Fate()
                try:
                    return await self._race(attempt, fate)
                except Unavailable:
                    if fate.unknown:
                        raise
            return await self._race(attempt, Fate())
        raise AssertionError("unreachable: when the patience ends, it raises")

    async def _race(self, attempt: Callable[[Connection, Fate], Awaitable[T | None]], fate: Fate) -> T:
        pause_s = CONTENTION_S
        await trio.sleep_until(self._free_at)
        async with self._gateway.writers.connection() as connection:
            while True:
                began = trio.current_time()
                try:
                    done = await attempt(connection, fate)
                except SnapshotGone:
                    done = None
                now = trio.current_time()
                if done is not None:
                    if began - self._lost_at < RIVALRY_S:
                        self._free_at = now + min(now - began, GIVE_WAY_S_MAX)
                    return done
                self._lost_at = now
                await trio.sleep(self._random.uniform(0, pause_s))
                pause_s = 2 * CONTENTION_S


def publishing(group: Sequence[Write]) -> Plan[list[Verdict]]:
    """Plan to publish a group that fits one transaction."""
    topics = list(dict.fromkeys(publish.topic for publish in group))
    keys = list(dict.fromkeys((publish.topic, publish.key) for publish in group if publish.key is not None))

    def ops(data: Data) -> list[Op]:
        return [get(data.topic(topic)) for topic in topics] + [get(data.key(topic, key)) for topic, key in keys]

    async def draft(look: Look, transaction: EtcdTransaction) -> list[Verdict]:
        held = zip(keys, look.answers[len(topics) :], strict=True)
        used = {name: read_use(answer.kvs[0].value) for name, answer in held if answer.kvs}
        return transaction.apply(group, look.fetched(), topics_in(topics, look.answers[: len(topics)]), used)

    witnesses = [publish.witness.revision for publish in group if publish.witness is not None]
    return Plan(draft, ops, witnesses)


def compacting(tombstones: int, keys: int) -> Plan[tuple[int, bool]]:
    """Plan to forget `COMPACT_ROWS` tombstones and as many keys at most; the floor, and whether to go on."""

    def ops(data: Data) -> list[Op]:
        return [
            span(*data.between("tomb", 0, tombstones), limit=COMPACT_ROWS),
            span(*data.between("keylog", 0, keys), limit=COMPACT_ROWS),
        ]

    async def draft(look: Look, transaction: EtcdTransaction) -> tuple[int, bool]:
        buried, expired = look.answers
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
