"""Plans of writes, publishing and compaction: the rows that each reads, and how it fills a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from softstate.store.base import Verdict, Write
from softstate.store.etcd.messages import KeyValue, Op, get, span
from softstate.store.etcd.rows import (
    VERSION_DIGITS,
    read_keylog,
    read_log,
    read_publisher,
    read_use,
    record_of,
    topic_in,
    version_in,
)
from softstate.store.etcd.schema import Data
from softstate.store.etcd.snapshot import EtcdSnapshot, topics_in
from softstate.store.etcd.transaction import EtcdTransaction, Known
from softstate.store.rules.judge import TopicState, is_verified

COMPACT_ROWS = 120
"""How many tombstones, keys, publishers and lineage rows one compacting transaction removes at most, of each.

Fewer than `softstate.store.limits.COMPACT_ROWS`: the rows that they lead to are read by one call each, so that other
nodes seldom commit in between."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """One write: `ops` and `lineages` are read with the head, then `draft` fills the transaction.

    `draft` is called again, with a new transaction, whenever another node has committed in between.
    """

    draft: Callable[[EtcdSnapshot, EtcdTransaction], Awaitable[T]]
    ops: Callable[[Data], Sequence[Op]] = lambda _data: ()
    lineages: Sequence[int] = ()


def plan_publish(group: Sequence[Write]) -> Plan[list[Verdict]]:
    """Plan to publish a group that fits one transaction."""
    topics = list(dict.fromkeys(write.topic for write in group))
    keys = list(dict.fromkeys((write.topic, write.key) for write in group if write.key is not None))
    publishers = list(dict.fromkeys(write.number.publisher for write in group if write.number is not None))

    def ops(data: Data) -> list[Op]:
        names = [data.topic(topic) for topic in topics]
        names += [data.key(topic, key) for topic, key in keys]
        return [get(name) for name in names + [data.publisher(publisher) for publisher in publishers]]

    async def draft(snapshot: EtcdSnapshot, transaction: EtcdTransaction) -> list[Verdict]:
        values = [answer.kvs[0].value if answer.kvs else None for answer in snapshot.answers]
        at = len(topics) + len(keys)
        held = zip(keys, values[len(topics) : at], strict=True)
        used = {name: use for name, value in held if value is not None and (use := read_use(*name, value)) is not None}
        found = zip(publishers, values[at:], strict=True)
        known = {
            name: publisher
            for name, value in found
            if value is not None and (publisher := read_publisher(name, value)) is not None
        }
        states = topics_in(topics, snapshot.answers[: len(topics)], snapshot.position.revision)
        states = await verified(snapshot, group, states)
        verdicts = transaction.apply(group, snapshot.fetched(), Known(states, used, known))
        lost = {topic: value for topic, value in zip(topics, values, strict=False) if _is_lost(states.get(topic))}
        await _replace_lost(snapshot, transaction, lost)
        return verdicts

    witnesses = [write.witness.revision for write in group if write.witness is not None]
    return Plan(draft, ops, witnesses)


async def verified(
    snapshot: EtcdSnapshot, group: Sequence[Write], states: Mapping[str, TopicState]
) -> dict[str, TopicState]:
    """Return the states of topics, those of damaged records as such where a verdict depends on it."""
    found = dict(states)
    asked = dict.fromkeys(write.topic for write in group if is_verified(write))
    topics = [topic for topic in asked if topic in states and states[topic].live and states[topic].readable]
    ops = [get(snapshot.data.at("log", states[topic].version)) for topic in topics]
    for topic, answer in zip(topics, await snapshot.ranges(ops), strict=True):
        version = states[topic].version
        value = answer.kvs[0].value if answer.kvs else None
        if record_of(topic, version, value, snapshot.position.revision).unreadable:
            found[topic] = TopicState(version, live=True, readable=False)
    return found


def _is_lost(state: TopicState | None) -> bool:
    return state is not None and not state.version


async def _replace_lost(snapshot: EtcdSnapshot, transaction: EtcdTransaction, lost: Mapping[str, bytes | None]) -> None:
    """Delete the older record of a topic whose damaged row is replaced, if that still leads to it."""
    data, head = transaction.data, snapshot.position.revision
    versions = {
        topic: version_in((lost[topic] or b"")[:VERSION_DIGITS], 0) for topic in lost if topic in transaction.written
    }
    found = {topic: version for topic, version in versions.items() if version}
    answers = await snapshot.ranges([get(data.at("log", version)) for version in found.values()])
    for (topic, version), answer in zip(found.items(), answers, strict=True):
        record = read_log(version, answer.kvs[0].value, head) if answer.kvs else None
        if record is not None and record.topic == topic and data.at("log", version) not in transaction.changes:
            transaction.changes |= {data.at("log", version): None, data.at("tomb", version): None}


def plan_compaction(tombstones: int, keys: int) -> Plan[tuple[int, bool]]:
    """Plan to forget tombstones, keys, publishers and lineage rows, `COMPACT_ROWS` of each at most.

    Returns the floor, and whether to go on.
    """

    def ops(data: Data) -> list[Op]:
        tables = ("tomb", tombstones), ("keylog", keys), ("touched", keys), ("lineage", tombstones)
        return [span(*data.between(table, 0, upto), limit=COMPACT_ROWS) for table, upto in tables]

    async def draft(snapshot: EtcdSnapshot, transaction: EtcdTransaction) -> tuple[int, bool]:
        buried, expired, touched, _ = snapshot.answers
        await _bury(snapshot, transaction, buried.kvs)
        await _expire(snapshot, transaction, expired.kvs)
        await _forget(snapshot, transaction, touched.kvs)
        rows = await _pass_lineages(snapshot, transaction)
        return transaction.head.floor, buried.more or expired.more or touched.more or rows

    return Plan(draft, ops)


async def _bury(snapshot: EtcdSnapshot, transaction: EtcdTransaction, kvs: Sequence[KeyValue]) -> None:
    """Forget tombstones, each only if its topic's row leads to it."""
    data, head = transaction.data, transaction.head
    begins = len(data.table("tomb"))
    topics = [topic_in(kv.value) for kv in kvs]
    names = list(dict.fromkeys(topic for topic in topics if topic is not None))
    answers = await snapshot.ranges([get(data.topic(topic)) for topic in names])
    states = topics_in(names, answers, head.revision)
    floor, gone = head.floor, 0
    for kv, topic in zip(kvs, topics, strict=True):
        transaction.changes[kv.key] = None
        version = version_in(kv.key, begins)
        if topic is None or version is None or states.get(topic) != TopicState(version, live=False):
            continue
        floor = max(floor, version)
        transaction.changes |= {data.at("log", version): None, data.topic(topic): None}
        gone += 1
    transaction.head = msgspec.structs.replace(head, floor=floor, topics=max(0, head.topics - gone))


async def _expire(snapshot: EtcdSnapshot, transaction: EtcdTransaction, kvs: Sequence[KeyValue]) -> None:
    """Forget idempotency keys, each only if it was not made again since."""
    data = transaction.data
    begins = len(data.table("keylog"))
    found = [read_keylog(version_in(kv.key, begins) or 0, kv.value) for kv in kvs]
    keys = {data.key(key.topic, key.key): key for key in found if key is not None}
    answers = await snapshot.ranges([get(name) for name in keys])
    for (name, key), answer in zip(keys.items(), answers, strict=True):
        use = read_use(key.topic, key.key, answer.kvs[0].value) if answer.kvs else None
        if use is None or use[1] <= key.version:
            transaction.changes[name] = None
    transaction.changes |= {kv.key: None for kv in kvs}
    head = transaction.head
    transaction.head = msgspec.structs.replace(head, keys=max(0, head.keys - len(kvs)))


async def _forget(snapshot: EtcdSnapshot, transaction: EtcdTransaction, kvs: Sequence[KeyValue]) -> None:
    """Forget publishers, each only if it was not touched again since."""
    data = transaction.data
    begins = len(data.at("touched", 0)) + 1
    names = [kv.key[begins:] for kv in kvs]
    rows = [data.table("publisher") + name for name in names]
    answers = await snapshot.ranges([get(row) for row in rows])
    for kv, name, row, answer in zip(kvs, names, rows, answers, strict=True):
        transaction.changes[kv.key] = None
        value = answer.kvs[0].value if answer.kvs else b""
        publisher = read_publisher(name.decode(errors="replace"), value)
        if publisher is None or data.touched(publisher.touched, publisher.publisher) == kv.key:
            transaction.changes[row] = None
    head = transaction.head
    transaction.head = msgspec.structs.replace(head, publishers=max(0, head.publishers - len(kvs)))


async def _pass_lineages(snapshot: EtcdSnapshot, transaction: EtcdTransaction) -> bool:
    """Forget the lineage rows below the floor but the one in force there; tell whether there are more."""
    answer, floor = snapshot.answers[3], transaction.head.floor
    rows = [row.revision for row in await snapshot.lineage_rows(answer.kvs) if row.revision <= floor]
    for revision in rows[:-1]:
        transaction.changes[transaction.data.at("lineage", revision)] = None
    head = transaction.head
    transaction.head = msgspec.structs.replace(head, rows=head.rows - len(rows[:-1]))
    return answer.more and len(rows) > 1 and len(rows) == len(answer.kvs)
